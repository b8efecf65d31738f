"""The report's section on the fleet that a run was trained under: the day, the rounds, who is lost, who gets a say."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import msgspec
import numpy as np

from orchestrator.errors import RunFolderError
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import fleet as fleet_plots
from orchestrator.report.plots import run as plots
from orchestrator.report.view import RunView
from orchestrator.units import duration_text, percent_text, size_text


def fleet(run: RunView) -> Optional[Section]:
    """What the simulated fleet did to the training; None without one."""
    rounds = [r for r in run.rounds if r.fleet]
    if not rounds:
        return None
    told = [r.fleet for r in rounds if r.fleet]
    hours = told[-1]["ended_s"] / 3600
    lengths = [own["ended_s"] - own["opened_s"] for own in told]
    num_bytes = sum(own["bytes_down"] + own["bytes_up"] for own in told)
    selected = sum(sum(own["outcomes"].values()) for own in told)
    lost = sum(sum(n.values()) for own in told for n in own["drop_outs"].values())
    paragraphs = (
        f"Simulated: {len(rounds):,} rounds in {hours:,.1f} virtual hours, policy `{run.config.fleet.policy}`. A round "
        f"took {duration_text(float(np.median(lengths)))} (median, selection included) and {size_text(num_bytes)} "
        "crossed the network in all. "
        f"{percent_text(lost / max(1, selected))} of those selected dropped out, and "
        f"{sum(own['selection_timeouts'] for own in told):,} selections timed out for want of phones.",
        "Nobody's phone was measured here: speeds and networks come from the table of devices, behaviour from the "
        "settings of `[fleet]`.",
    )
    return Section(
        "The fleet: who is awake, how fast, who drops out",
        paragraphs,
        tuple(_figures(run, told, lengths)),
        tuple(_tables(run, told)),
    )


def _figures(run: RunView, told: list[Mapping[str, Any]], lengths: list[float]) -> Iterator[Figure]:
    yield Figure(
        fleet_plots.day_of_rounds(told),
        "The day, on the clock of UTC: check-ins and rounds an hour, and eligible phones when a round begins.",
        wide=True,
    )
    yield Figure(fleet_plots.round_lengths(lengths), "How long rounds took, selection included.", wide=True)
    parts = {name: float(np.mean([own["parts_s"][name] for own in told])) for name in told[0]["parts_s"]}
    yield Figure(plots.stage_bars({"a round, mean": parts}), "Where the virtual time of a round goes.", wide=True)
    points = _points(run)
    if points:
        hours, gigabytes, top1, top3 = (list(column) for column in zip(*points))
        yield Figure(plots.recall_curve(hours, top1, top3, "virtual hours", ()), "Dev people, against virtual hours.")
        yield Figure(plots.recall_curve(gigabytes, top1, top3, "gigabytes", ()), "Dev people, against traffic.")


def _points(run: RunView) -> list[tuple[float, float, float, float]]:
    """(virtual hours, gigabytes, top-1, top-3) at each evaluation."""
    with_fleet = [(r, r.fleet) for r in run.rounds if r.fleet]
    traffic = itertools.accumulate(own["bytes_down"] + own["bytes_up"] for _, own in with_fleet)
    return [
        (own["ended_s"] / 3600, num_bytes / 1e9, r.metric("dev_top1"), r.metric("dev_top3"))
        for (r, own), num_bytes in zip(with_fleet, traffic)
        if "dev_top1" in r.metrics
    ]


def _tables(run: RunView, told: list[Mapping[str, Any]]) -> Iterator[Table]:
    counts: Counter = Counter()
    for own in told:
        for cause, by_stage in own["drop_outs"].items():
            for stage, num in by_stage.items():
                counts[cause, stage] += num
    stages = sorted({stage for _, stage in counts})
    causes = sorted({cause for cause, _ in counts})
    if counts:
        yield Table(
            ("cause", *(stage.replace("_", " ") for stage in stages)),
            tuple((c.replace("_", " "), *(f"{counts[c, s]:,}" for s in stages)) for c in causes),
            "Drop-outs by cause, and by the stage of the sum before which the phone was gone.",
        )
    devices = _read_devices(run.path / "fleet_devices.json")
    selected = Counter(m for own in told for m in own["members"])
    completed = Counter(m for own in told for m, outcome in own["members"].items() if outcome == "completed")
    for grouping, label in (("tier", "Speed"), ("access", "Network"), ("time_zone", "Time zone")):
        yield Table(
            (
                label,
                "phones",
                "of the fleet",
                "of the selected",
                "of the updates",
                "may not take part",
                "no say at all",
            ),
            tuple(_group_rows(devices, grouping, selected, completed)),
            "Who takes part beside what the fleet is made of. No say: none of the phone's updates counted so far.",
        )


def _group_rows(
    devices: Mapping[str, Mapping[str, Any]], grouping: str, selected: Counter, completed: Counter
) -> Iterator[tuple[str, ...]]:
    for name in sorted({str(phone[grouping]) for phone in devices.values()}):
        own = [person for person, phone in devices.items() if phone[grouping] == name]
        yield (
            name,
            f"{len(own):,}",
            f"{len(own) / len(devices):.1%}",
            f"{sum(selected[p] for p in own) / max(1, sum(selected.values())):.1%}",
            f"{sum(completed[p] for p in own) / max(1, sum(completed.values())):.1%}",
            f"{sum(not devices[p]['allowed'] for p in own) / len(own):.1%}",
            f"{sum(not completed[p] for p in own) / len(own):.1%}",
        )


def _read_devices(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except (OSError, msgspec.MsgspecError) as error:
        raise RunFolderError(f"{path} is missing or damaged ({error}): go on with the run by --resume") from None
