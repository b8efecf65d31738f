"""Reads what a run cost, and measures what the same sum costs under every aggregator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Union

import msgspec
import numpy as np

from models.corpus import ClientId
from orchestrator.aggregator import AggregateResult, Cohort, CostLedger, StageCost
from orchestrator.errors import OrchestratorError, RunFolderError
from orchestrator.evaluation.device_costs import OnPhones, estimate_on_phones, measure_flop_per_s
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import SUMS
from orchestrator.run.lines import Round
from orchestrator.run.saved import Run
from orchestrator.settings.model import num_trained
from orchestrator.settings.sections import AggregationConfig
from orchestrator.units import count_text, size_text

ROLES = ("per_client", "server", "decryptor", "helpers")
_WORD_BYTES = 4


class NotSummed(msgspec.Struct, frozen=True):
    """Why an aggregator can't sum the run's vectors."""

    error: str


class Costs(msgspec.Struct, frozen=True):
    """What the sums of a run cost.

    Attributes:
      per_client, server, decryptor, helpers: {stage: its mean over the completed rounds}: what a client that took part
        spent, and what the others spent on a whole round. CPU seconds are this machine's.
      aggregator: the run's.
      rounds: how many were completed.
      cohort: clients of a round.
      vector_bytes: of a vector in the clear.
      model_bytes: of the model that a client receives.
      same_vector: {aggregator: its bill, measured now}: each sums random vectors of the run's length once, for a cohort
        of the run's size of which nobody drops out.
      on_phones: a client's part of these sums, estimated.
    """

    per_client: Mapping[str, StageCost]
    server: Mapping[str, StageCost]
    decryptor: Mapping[str, StageCost]
    helpers: Mapping[str, StageCost]
    aggregator: str
    rounds: int
    cohort: int
    vector_bytes: int
    model_bytes: int
    same_vector: Mapping[str, Union[CostLedger, NotSummed]]
    on_phones: OnPhones

    @property
    def measured(self) -> dict[str, CostLedger]:
        """The costs of `same_vector` under the aggregators that can sum it."""
        return {name: bill for name, bill in self.same_vector.items() if isinstance(bill, CostLedger)}


def read_costs(run: Run, note: Callable[[str], None]) -> Costs:
    """Reads what a run's sums cost, and measures what the same sum costs under each aggregator.

    Args:
      run: with a completed round.
      note: is told what begins.

    Raises:
      RunFolderError: there is none.
    """
    run.require_rounds()
    completed = [r for r in run.rounds if r.outcome == "completed"]
    if not completed:
        raise RunFolderError(f"{run.path} has no completed round to bill: its last says: {run.rounds[-1].reason}")
    size = run.config.model.size_with(run.vocabulary.size)
    num_frozen = size.num_weights - num_trained(run.config.model, size)
    num_slots, num_clients = run.identity.num_weights - num_frozen + 1, run.config.rounds.cohort_size
    same_vector = _measure_all(run.config.aggregation, num_slots, num_clients, note)
    bills = {name: together(bill.per_client) for name, bill in same_vector.items() if isinstance(bill, CostLedger)}
    model_bytes, bill = _WORD_BYTES * run.identity.num_weights, mean_bill(completed)
    return Costs(
        per_client=bill.per_client,
        server=bill.server,
        decryptor=bill.decryptor,
        helpers=bill.helpers,
        aggregator=run.config.aggregation.aggregator,
        rounds=len(completed),
        cohort=num_clients,
        vector_bytes=_WORD_BYTES * num_slots,
        model_bytes=model_bytes,
        same_vector=same_vector,
        on_phones=estimate_on_phones(bills, model_bytes, measure_flop_per_s()),
    )


def mean_bill(rounds: Sequence[Round]) -> CostLedger:
    """Returns the mean of the rounds' costs; a round without a stage counts as 0."""
    bills = [r.cost for r in rounds]
    return CostLedger(*(_mean_stages([getattr(bill, role) for bill in bills]) for role in ROLES))


def _mean_stages(ledgers: Sequence[Mapping[str, StageCost]]) -> dict[str, StageCost]:
    stages = dict.fromkeys(stage for ledger in ledgers for stage in ledger)  # each once, in order

    def mean(stage: str) -> StageCost:
        total = together({str(i): ledger[stage] for i, ledger in enumerate(ledgers) if stage in ledger})
        return StageCost(*(value / len(ledgers) for value in astuple(total)))

    return {stage: mean(stage) for stage in stages}


def _measure_all(
    aggregation: AggregationConfig, num_slots: int, num_clients: int, note: Callable[[str], None]
) -> dict[str, Union[CostLedger, NotSummed]]:
    """Returns {aggregator: its costs, or why it has none}."""
    bills: dict[str, Union[CostLedger, NotSummed]] = {}
    totals: dict[str, bytes] = {}
    for name in SUMS:
        note(f"{name}: summing {count_text(num_clients, 'random vector')} of {size_text(_WORD_BYTES * num_slots)}")
        try:
            result = _measure(msgspec.structs.replace(aggregation, aggregator=name), num_slots, num_clients)
        except OrchestratorError as error:
            bills[name] = NotSummed(str(error))
            continue
        bills[name] = result.cost
        totals[name] = result.total.tobytes()
    assert len(set(totals.values())) == 1, f"{', '.join(totals)} do not give the same total"
    return bills


def _measure(aggregation: AggregationConfig, num_slots: int, num_clients: int) -> AggregateResult:
    members = tuple(ClientId(f"client {i}") for i in range(num_clients))
    rng = np.random.default_rng(0)  # the same vectors for each
    vectors = ((member, rng.integers(0, 2**32, num_slots, dtype=np.uint32)) for member in members)
    return build_aggregator(aggregation).sum(vectors, Cohort(1, members, aggregation.min_survivors), {})


def together(stages: Mapping[str, StageCost]) -> StageCost:
    """Returns the sum over the stages."""
    return StageCost(*(sum(column) for column in zip(*map(astuple, stages.values())))) if stages else StageCost()
