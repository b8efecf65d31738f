"""The bill of a run, beside what the same sum costs under every aggregator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from models.corpus import ClientId
from orchestrator.aggregator import AggregateResult, Cohort
from orchestrator.config import RunConfig
from orchestrator.device_costs import estimate_on_phones, measure_flop_per_s
from orchestrator.errors import OrchestratorError, RunFolderError
from orchestrator.report_data import Round, StageBill, read_run
from orchestrator.report_parts import duration_text, size_text
from orchestrator.run_folder import RunFolder
from orchestrator.run_functions import build_aggregator

if TYPE_CHECKING:
    from rich.console import Console

AGGREGATORS = ("plain", "secagg", "encrypted")
ROLES = ("per_client", "server", "decryptor")
_WORD_BYTES = 4


def read_costs(folder: RunFolder, note: Callable[[str], None]) -> dict[str, Any]:
    """The figures of `fedkeys costs`.

    `per_client`, `server` and `decryptor` are means over the completed rounds: what a client that took part spent, what
    the others spent on a whole round. `bytes_up` is what a role sent, `bytes_down` what it received, `cpu_s` its CPU
    seconds on this machine. `same_vector` is measured now: each aggregator sums random vectors of the run's length
    once, for a cohort of the run's size of which nobody drops out; one that can't has `error` instead. `on_phones`: see
    estimate_on_phones.

    Args:
      folder: a run with a completed round.
      note: is told what begins.

    Raises:
      RunFolderError: there is none.
    """
    run = read_run(folder)
    completed = [r for r in run.rounds if r.outcome == "completed"]
    if not completed:
        raise RunFolderError(f"{folder.path} has no completed round to bill: its last says: {run.rounds[-1].reason}")
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


def _mean_stages(ledgers: Sequence[Mapping[str, StageBill]]) -> dict[str, dict[str, float]]:
    stages = dict.fromkeys(stage for ledger in ledgers for stage in ledger)  # each once, in order

    def mean(stage: str, field: str) -> float:
        return sum(getattr(ledger[stage], field) for ledger in ledgers if stage in ledger) / len(ledgers)

    return {stage: {field: mean(stage, field) for field in StageBill.__struct_fields__} for stage in stages}


def _measure_all(
    config: RunConfig, num_slots: int, num_clients: int, note: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """{aggregator: its bill, or why it has none}."""
    bills: dict[str, dict[str, Any]] = {}
    totals: dict[str, bytes] = {}
    for name in AGGREGATORS:
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


def print_costs(figures: Mapping[str, Any]) -> None:
    """Prints what read_costs found, for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    who = {"per_client": "a client", "server": "the server", "decryptor": "the decryptor"}
    rounds = f"mean of {figures['rounds']:,} completed rounds of {figures['cohort']} clients"
    table = Table(title=f"{figures['aggregator']}: {rounds}")
    for column in ("", "stage", "sent", "received", "CPU"):
        table.add_column(column, justify="left" if column in ("", "stage") else "right")
    for role in ROLES:
        stages = figures[role]
        if stages:
            stages = {**stages, "together": _together(stages)}
        for place, (stage, cost) in enumerate(stages.items()):
            last = stage == "together"
            row = (size_text(cost["bytes_up"]), size_text(cost["bytes_down"]), _cpu_text(cost["cpu_s"]))
            label = "" if place else who[role]
            table.add_row(label, stage.replace("_", " "), *row, style="bold" if last else None, end_section=last)
    console.print(table)
    console.print(
        f"A vector is {size_text(figures['vector_bytes'])}. Not in the bill, and the same for each aggregator: the "
        f"model that a client receives before it trains, {size_text(figures['model_bytes'])}.",
        highlight=False,
    )

    table = Table(title=f"Measured now: {figures['cohort']} random vectors of that length, nobody drops out")
    table.add_column()
    bills = {name: bill for name, bill in figures["same_vector"].items() if "error" not in bill}
    for name in bills:
        table.add_column(name, justify="right")
    together = [{role: _together(bill[role]) for role in ROLES} for bill in bills.values()]
    sent = [t["per_client"]["bytes_up"] for t in together]
    table.add_row("a client sends", *map(size_text, sent))
    table.add_row("  times the vector", *(f"{num / figures['vector_bytes']:.4f}" for num in sent))
    table.add_row("a client receives", *(size_text(t["per_client"]["bytes_down"]) for t in together))
    for role in ROLES:
        table.add_row(f"CPU of {who[role]}", *(_cpu_text(t[role]["cpu_s"]) for t in together))
    console.print(table)
    for name, bill in figures["same_vector"].items():
        if "error" in bill:
            console.print(f"{name}: not possible here: {bill['error']}", highlight=False)
    _print_on_phones(console, figures["on_phones"], list(bills))


def _print_on_phones(console: Console, on_phones: Mapping[str, Any], names: Sequence[str]) -> None:
    from rich.table import Table

    table = Table(title="Estimated on phones: what a client's part of such a sum takes")
    for column in ("", "receive the model", *names):
        table.add_column(column, justify="right" if column else "left")
    for access, seconds in on_phones["model_s"].items():
        own = (duration_text(on_phones["transfer_s"][name][access]) for name in names)
        table.add_row(f"transfer over {access}", duration_text(seconds), *own)
    table.add_section()
    for tier in on_phones["slowdown"]:
        own = (duration_text(on_phones["cpu_s_at_most"][name][tier]) for name in names)
        table.add_row(f"CPU at most, {tier}", "", *own)
    console.print(table)
    console.print(
        "Transfer at the median speed of each network (China and worldwide, 2020 and 2021). CPU: the time here, times "
        "how much longer that phone took to train Gboard's model than its arithmetic takes here: a bound from far "
        "above, since that training used a slow framework and most phones encrypt by instructions made for it.",
        highlight=False,
    )


def _together(stages: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {field: sum(stage[field] for stage in stages.values()) for field in StageBill.__struct_fields__}


def _cpu_text(seconds: float) -> str:
    """CPU seconds, three digits; nothing for 0: none was needed, or nobody here could count it."""
    if not seconds:
        return ""
    return f"{1000 * seconds:,.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"
