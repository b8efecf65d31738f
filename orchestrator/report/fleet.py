"""The report's section on the fleet of a run: the day, the rounds, who drops out, and whose updates count."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Callable, Optional

import msgspec
import numpy as np

from models.corpus import ClientId
from models.disclosure import MIN_GROUP, join_small_groups
from orchestrator.errors import RunFolderError
from orchestrator.fleet.results import DEVICES_FILE, FleetOfRound, Phone
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import fleet as fleet_plots
from orchestrator.report.plots import run as plots
from orchestrator.report.view import RunView
from orchestrator.run.lines import Round
from orchestrator.units import NOT_SHOWN, TOO_FEW, count_text, duration_text, percent_text, size_text


def fleet(run: RunView) -> Optional[Section]:
    """Shows what the simulated fleet did to the training; None without a fleet."""
    rounds = [(r, r.fleet) for r in run.rounds if r.fleet is not None]
    if not rounds:
        return None
    seen = [of_fleet for _, of_fleet in rounds]
    lengths = [own.length_s for own in seen]
    selected = sum(sum(own.outcomes.values()) for own in seen)
    lost = sum(sum(by_stage.values()) for own in seen for by_stage in own.drop_outs.values())
    paragraphs = (
        f"Simulated: {count_text(len(rounds), 'round')} in {seen[-1].ended_s / 3600:,.1f} virtual hours, policy "
        f"`{run.config.fleet.policy}`. The median round took {duration_text(float(np.median(lengths)))}, selection "
        f"included. All rounds together moved {size_text(sum(own.num_bytes for own in seen))} over the network. Of the "
        f"selected phones {percent_text(lost / max(1, selected))} dropped out; "
        f"{sum(own.selection_timeouts for own in seen):,} selections timed out for want of phones.",
        "No phone was measured here: speeds and networks come from the table of devices, behaviour from the settings "
        "of `[fleet]`.",
    )
    return Section(
        "The fleet: who is awake, how fast, who drops out",
        paragraphs,
        tuple(_figures(rounds)),
        (*_drop_outs(seen), *_participation(_read_devices(run.path / DEVICES_FILE), seen)),
    )


def _figures(rounds: Sequence[tuple[Round, FleetOfRound]]) -> Iterator[Figure]:
    seen = [of_fleet for _, of_fleet in rounds]
    yield Figure(
        fleet_plots.day_of_rounds(seen),
        "The day, on the clock of UTC: check-ins and rounds an hour, and eligible phones when a round begins.",
        wide=True,
    )
    yield Figure(
        fleet_plots.round_lengths([own.length_s for own in seen]),
        "How long rounds took, selection included.",
        wide=True,
    )
    parts = {name: float(np.mean([own.parts_s[name] for own in seen])) for name in seen[0].parts_s}
    yield Figure(plots.stage_bars({"a round, mean": parts}), "Where the virtual time of a round goes.", wide=True)
    points = _points(rounds)
    if points:
        hours, gigabytes, top1, top3 = (list(column) for column in zip(*points))
        yield Figure(plots.recall_curve(hours, top1, top3, "virtual hours", ()), "Dev people, against virtual hours.")
        yield Figure(plots.recall_curve(gigabytes, top1, top3, "gigabytes", ()), "Dev people, against traffic.")


def _points(rounds: Sequence[tuple[Round, FleetOfRound]]) -> list[tuple[float, float, float, float]]:
    """Returns (virtual hours, gigabytes, top-1, top-3) at each evaluation."""
    traffic = itertools.accumulate(own.num_bytes for _, own in rounds)
    return [
        (own.ended_s / 3600, num_bytes / 1e9, r.metric("dev_top1"), r.metric("dev_top3"))
        for (r, own), num_bytes in zip(rounds, traffic)
        if "dev_top1" in r.metrics
    ]


def _drop_outs(seen: Sequence[FleetOfRound]) -> Iterator[Table]:
    counts: Counter[tuple[str, str]] = Counter()
    for own in seen:
        for cause, by_stage in own.drop_outs.items():
            counts.update({(cause, stage): num for stage, num in by_stage.items()})
    if not counts:
        return
    stages = sorted({stage for _, stage in counts})
    causes = sorted({cause for cause, _ in counts})
    yield Table(
        ("cause", *(stage.replace("_", " ") for stage in stages)),
        tuple((c.replace("_", " "), *(f"{counts[c, s]:,}" for s in stages)) for c in causes),
        "Drop-outs by cause, and by the stage of the sum before which the phone was gone.",
    )


_GROUPINGS: tuple[tuple[str, Callable[[Phone], str]], ...] = (
    ("Speed", lambda phone: phone.tier),
    ("Network", lambda phone: phone.access),
    ("Time zone", lambda phone: phone.time_zone),
)


def _participation(phones: Mapping[ClientId, Phone], seen: Sequence[FleetOfRound]) -> Iterator[Table]:
    selected = Counter(member for own in seen for member in own.members)
    counted = Counter(m for own in seen for m, outcome in own.members.items() if outcome == "completed")
    for label, group_of in _GROUPINGS:
        members: dict[str, Sequence[ClientId]] = {}
        for person, phone in phones.items():
            members[group_of(phone)] = [*members.get(group_of(phone), ()), person]
        members = join_small_groups(members)
        yield Table(
            (
                label,
                "phones",
                "of the fleet",
                "of the selected",
                "of the updates",
                "may not take part",
                "never counted",
            ),
            tuple(_group_row(name, members[name], phones, selected, counted) for name in members),
            "Who takes part, beside what the fleet is made of. Never counted: phones none of whose updates counted. "
            f"Groups of fewer than {MIN_GROUP} are put together."
            + (f" {NOT_SHOWN}: {TOO_FEW}." if any(len(own) < MIN_GROUP for own in members.values()) else ""),
        )


def _group_row(
    name: str,
    members: Sequence[ClientId],
    phones: Mapping[ClientId, Phone],
    selected: Counter[ClientId],
    counted: Counter[ClientId],
) -> tuple[str, ...]:
    if len(members) < MIN_GROUP:
        return (name, *[NOT_SHOWN] * 6)
    return (
        name,
        f"{len(members):,}",
        f"{len(members) / len(phones):.1%}",
        f"{sum(selected[p] for p in members) / max(1, sum(selected.values())):.1%}",
        f"{sum(counted[p] for p in members) / max(1, sum(counted.values())):.1%}",
        f"{sum(not phones[p].allowed for p in members) / len(members):.1%}",
        f"{sum(not counted[p] for p in members) / len(members):.1%}",
    )


def _read_devices(path: Path) -> dict[ClientId, Phone]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[ClientId, Phone])
    except (OSError, msgspec.MsgspecError) as error:
        raise RunFolderError(f"{path} is missing or damaged ({error}): go on with the run by --resume") from None
