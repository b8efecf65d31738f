"""The bill of a run, beside what the same sum costs under every aggregator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from models.corpus import ClientId
from orchestrator.aggregator import AggregateResult, Cohort, StageCost
from orchestrator.errors import OrchestratorError, RunFolderError
from orchestrator.evaluation.device_costs import estimate_on_phones, measure_flop_per_s
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import SUMS
from orchestrator.run.lines import Round
from orchestrator.run.saved import Run
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import size_text

ROLES = ("per_client", "server", "decryptor")
_WORD_BYTES = 4


def read_costs(run: Run, note: Callable[[str], None]) -> dict[str, Any]:
    """The figures of `fedkeys costs`.

    `per_client`, `server` and `decryptor` are means over the completed rounds: what a client that took part spent, what
    the others spent on a whole round. `bytes_up` is what a role sent, `bytes_down` what it received, `cpu_s` its CPU
    seconds on this machine. `same_vector` is measured now: each aggregator sums random vectors of the run's length
    once, for a cohort of the run's size of which nobody drops out; one that can't has `error` instead. `on_phones`: see
    estimate_on_phones.

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
    num_slots, num_clients = run.identity.num_weights + 1, run.config.rounds.cohort_size
    same_vector = _measure_all(run.config, num_slots, num_clients, note)
    bills = {name: _together(bill["per_client"]) for name, bill in same_vector.items() if "error" not in bill}
    model_bytes = _WORD_BYTES * run.identity.num_weights
    return {
        **mean_bill(completed),
        "aggregator": run.config.aggregation.aggregator,
        "rounds": len(completed),
        "cohort": num_clients,
        "vector_bytes": _WORD_BYTES * num_slots,
        "model_bytes": model_bytes,
        "same_vector": same_vector,
        "on_phones": estimate_on_phones(bills, model_bytes, measure_flop_per_s()),
    }


def mean_bill(rounds: Sequence[Round]) -> dict[str, dict[str, dict[str, float]]]:
    """{role: {stage: its mean over the rounds}}; a round without a stage counts as 0."""
    bills = [r.cost for r in rounds]
    return {role: _mean_stages([getattr(bill, role) for bill in bills]) for role in ROLES}


def _mean_stages(ledgers: Sequence[Mapping[str, StageCost]]) -> dict[str, dict[str, float]]:
    stages = dict.fromkeys(stage for ledger in ledgers for stage in ledger)  # each once, in order

    def mean(stage: str, field: str) -> float:
        return sum(getattr(ledger[stage], field) for ledger in ledgers if stage in ledger) / len(ledgers)

    return {stage: {field: mean(stage, field) for field in StageCost.__dataclass_fields__} for stage in stages}


def _measure_all(
    config: RunConfig, num_slots: int, num_clients: int, note: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """{aggregator: its bill, or why it has none}."""
    bills: dict[str, dict[str, Any]] = {}
    totals: dict[str, bytes] = {}
    for name in SUMS:
        note(f"{name}: summing {num_clients} random vectors of {size_text(_WORD_BYTES * num_slots)}")
        try:
            result = _measure(config, name, num_slots, num_clients)
        except OrchestratorError as error:
            bills[name] = {"error": str(error)}
            continue
        bills[name] = asdict(result.cost)
        totals[name] = result.total.tobytes()
    assert len(set(totals.values())) == 1, f"{', '.join(totals)} do not give the same total"
    return bills


def _measure(config: RunConfig, name: str, num_slots: int, num_clients: int) -> AggregateResult:
    aggregation = msgspec.structs.replace(config.aggregation, aggregator=name)
    members = tuple(ClientId(f"client {i}") for i in range(num_clients))
    rng = np.random.default_rng(0)  # the same vectors for each
    vectors = ((member, rng.integers(0, 2**32, num_slots, dtype=np.uint32)) for member in members)
    return build_aggregator(aggregation).sum(vectors, Cohort(1, members, aggregation.min_survivors), {})


def _together(stages: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {field: sum(stage[field] for stage in stages.values()) for field in StageCost.__dataclass_fields__}
