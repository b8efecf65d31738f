"""The ways to sum a cohort's updates, as rows: how each is built, and what it needs and costs.

An aggregator's libraries are loaded when it is built. What the settings' rules ask of it stands in
orchestrator/settings/kinds.py; docs/extending.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from models.corpus import ClientId
from orchestrator.aggregator import Aggregator, PlainSum
from orchestrator.settings.kinds import SUM_TRAITS, SumTraits
from orchestrator.settings.sections import AggregationConfig

if TYPE_CHECKING:
    from orchestrator.homomorphic.parameters import BfvParameters
    from orchestrator.secagg.graph import Policy

Observer = Callable[[str, ClientId, bytes], None]  # (stage, client, message that the server received)
_WORD_BYTES = 4
# CPU seconds on one core of an x86-64 server (EPYC, AES-NI), from the costs of 16 clients with 1,422,251 slots.
# `fedkeys costs` prints such costs for another machine.
_MASK_S = 7.5e-10  # a slot and a neighbour: expand a mask and add it
_ENCRYPT_S = 2.0e-7  # a slot
_DIGEST_S = 2.6e-9  # a slot: copy and SHA-256


def _any_cohort(aggregation: AggregationConfig, cohort_size: int) -> None:
    """Does nothing: the sum has room for cohorts of every size."""


def _vector_bytes(aggregation: AggregationConfig, num_slots: int) -> int:
    return _WORD_BYTES * num_slots


def _no_neighbours(aggregation: AggregationConfig, cohort_size: int) -> int:
    return 0


@dataclass(frozen=True)
class SumKind:
    """A way to sum.

    Attributes:
      traits: what it promises.
      manifest_name: what a bundle's manifest calls it.
      build: the aggregator; an observer, if the sum has messages, is shown each one that the server receives.
      require_room: raises an OrchestratorError or a ValueError if it can't protect and sum a cohort of this size.
      upload_bytes: the bytes of one client's upload, from the number of slots of its vector.
      least_cohort: the fewest clients that a sum may begin with.
      num_neighbours: with how many others a client of a cohort of this size exchanges keys; 0 = with none.
      needs_decryptor: another party than the server opens the sum.
      needs_helpers: other parties than the server hold the masks' seeds.
      upload_cpu_s: a client's CPU seconds to protect its upload, from the slots and the neighbours.
    """

    traits: SumTraits
    manifest_name: str
    build: Callable[[AggregationConfig, Optional[Observer]], Aggregator]
    require_room: Callable[[AggregationConfig, int], None] = _any_cohort
    upload_bytes: Callable[[AggregationConfig, int], int] = _vector_bytes
    least_cohort: int = 1
    num_neighbours: Callable[[AggregationConfig, int], int] = _no_neighbours
    needs_decryptor: bool = False
    needs_helpers: bool = False
    upload_cpu_s: Callable[[int, int], float] = lambda num_slots, num_neighbours: 0.0


def _build_plain(aggregation: AggregationConfig, observer: Optional[Observer]) -> Aggregator:
    return PlainSum()


def secagg_policy(aggregation: AggregationConfig) -> Policy:
    """Returns what a party of the secure aggregation assumes and insists on."""
    from orchestrator.secagg.graph import Policy

    return Policy(
        corrupt_share=aggregation.corrupt_share,
        dropout_share=aggregation.dropout_share,
        complete_up_to=aggregation.complete_up_to,
        min_survivors=max(2, aggregation.min_survivors),
    )


def _build_secagg(aggregation: AggregationConfig, observer: Optional[Observer]) -> Aggregator:
    from orchestrator.secagg import SecAgg

    return SecAgg(secagg_policy(aggregation), observer=observer)


def _require_graph(aggregation: AggregationConfig, cohort_size: int) -> None:
    from orchestrator.secagg.graph import graph_parameters

    graph_parameters(cohort_size, secagg_policy(aggregation))


def _degree(aggregation: AggregationConfig, cohort_size: int) -> int:
    from orchestrator.secagg.graph import graph_parameters

    return graph_parameters(cohort_size, secagg_policy(aggregation)).degree


def _bfv(aggregation: AggregationConfig) -> BfvParameters:
    from orchestrator.homomorphic.parameters import BfvParameters

    return BfvParameters(aggregation.poly_degree, aggregation.coeff_modulus_bits)


def _build_encrypted(aggregation: AggregationConfig, observer: Optional[Observer]) -> Aggregator:
    from orchestrator.homomorphic.encrypted_sum import EncryptedSum

    return EncryptedSum(_bfv(aggregation))


def _build_split(aggregation: AggregationConfig, observer: Optional[Observer]) -> Aggregator:
    from orchestrator.split.split_sum import SplitSum

    return SplitSum(aggregation.helpers, observer)


SUMS: dict[str, SumKind] = {
    "plain": SumKind(SUM_TRAITS["plain"], "plain", _build_plain),
    "secagg": SumKind(
        SUM_TRAITS["secagg"],
        "secure",
        _build_secagg,
        require_room=_require_graph,
        least_cohort=3,
        num_neighbours=_degree,
        upload_cpu_s=lambda num_slots, num_neighbours: _MASK_S * num_slots * (num_neighbours + 1),
    ),
    "encrypted": SumKind(
        SUM_TRAITS["encrypted"],
        "encrypted",
        _build_encrypted,
        require_room=lambda aggregation, cohort_size: _bfv(aggregation).require_room(cohort_size),
        upload_bytes=lambda aggregation, num_slots: _bfv(aggregation).body_bytes(num_slots),
        needs_decryptor=True,
        upload_cpu_s=lambda num_slots, num_neighbours: _ENCRYPT_S * num_slots,
    ),
    "split": SumKind(
        SUM_TRAITS["split"],
        "secure",
        _build_split,
        needs_helpers=True,
        upload_cpu_s=lambda num_slots, num_neighbours: (_MASK_S + _DIGEST_S) * num_slots,
    ),
}
