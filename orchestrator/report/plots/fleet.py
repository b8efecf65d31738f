"""Draws a fleet: its plan as PNG, and its rounds as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from models.files import write_atomically
from orchestrator.report.palette import PALETTE
from orchestrator.report.plots.style import GROUPS, INK, PARTS, STYLE, new_axes, to_svg
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.fleet.plan import Plan
    from orchestrator.fleet.results import FleetOfRound, GroupShares, Hours, PlanFigures

# Of the PNG, on light ground.
_GROUPS, _GROUPS_SOFT = PALETTE["groups"].light, PALETTE["groups-soft"].light
_PART, _DARK_PART = PALETTE["part1"].light, PALETTE["part0"].light


def draw_plan(plan: Plan, figures: PlanFigures, path: Path) -> None:
    """Writes a PNG: the day, the rounds' lengths, where their time goes, and who takes part."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    day, lengths, time, people = figure.subplots(2, 2).ravel()
    _day_curve(day, figures.by_hour)
    lengths.hist([r.length_s for r in plan.rounds], bins=40, color=_PART)
    lengths.set(title="How long a round takes", xlabel="seconds, selection included", ylabel="rounds")
    parts = {k: v for k, v in figures.where_time_goes_s.items() if v >= 0.05}
    time.barh(list(parts)[::-1], list(parts.values())[::-1], color=_PART)
    time.set(title="Where a round's time goes, mean", xlabel="seconds")
    _participation(people, figures.participation)
    figure.suptitle(
        f"{count_text(figures.devices, 'phone')}, {count_text(figures.rounds, 'round')} in "
        f"{count_text(figures.hours, 'virtual hour')}, "
        f"{figures.drop_out_rate:.1%} of the selected drop out"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())


def _day_curve(axes: Axes, by_hour: Hours) -> None:
    hours = np.arange(len(by_hour.eligible)) + 0.5
    axes.plot(hours, by_hour.eligible, color=_GROUPS, label="eligible phones")
    axes.plot(hours, by_hour.check_ins, color=_PART, linestyle="--", label="check-ins an hour")
    axes.set(title="The day, UTC", xlabel="virtual hour", ylabel="phones", ylim=(0, 1.4 * axes.dataLim.y1))
    rounds = axes.twinx()
    rounds.step(hours, by_hour.rounds, where="mid", color=_DARK_PART, label="rounds an hour")
    rounds.set(ylabel="rounds", ylim=(0, 1.4 * rounds.dataLim.y1 or None))
    lines = [*axes.get_lines(), *rounds.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], frameon=False)


def _participation(axes: Axes, participation: Mapping[str, Mapping[str, GroupShares]]) -> None:
    rows = [(name, row) for groups in participation.values() for name, row in groups.items()]
    places = np.arange(len(rows))[::-1]
    axes.barh(places + 0.2, [row.fleet for _, row in rows], height=0.38, color=_GROUPS_SOFT, label="of the fleet")
    axes.barh(places - 0.2, [row.completed for _, row in rows], height=0.38, color=_GROUPS, label="of the updates")
    axes.set_yticks(places, [name for name, _ in rows])
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.set_title("Who gets a say")
    axes.legend(frameon=False)


def day_of_rounds(told: Sequence[FleetOfRound]) -> Markup:
    """Draws check-ins, rounds and eligible phones by the hour of the UTC day."""
    hours = np.array([int(own.ended_s // 3600) % 24 for own in told])
    days = max(1.0, told[-1].ended_s / 86_400)
    check_ins = np.bincount(hours, [own.check_ins for own in told], 24) / days
    rounds = np.bincount(hours, minlength=24) / days
    seen = np.maximum(1, np.bincount(hours, minlength=24))
    eligible = np.bincount(hours, [own.eligible for own in told], 24) / seen
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 3.1))
        places = np.arange(24)
        axes.bar(places, check_ins, color=PARTS[3], width=0.8, label="check-ins an hour")
        axes.plot(places, eligible, color=GROUPS, label="eligible phones")
        axes.plot(places, rounds, color=INK, label="rounds an hour")
        axes.set_xlabel("hour, UTC")
        axes.set_ylim(0, None)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
        return to_svg(figure, "fleet-day", "Check-ins, eligible phones and rounds by hour")


def round_lengths(lengths: Sequence[float]) -> Markup:
    """Draws how many rounds took how long."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 2.6))
        minutes = np.maximum(np.asarray(lengths), 1.0) / 60
        axes.hist(minutes, bins=np.geomspace(minutes.min() / 1.05, 1.05 * minutes.max(), 31).tolist(), color=PARTS[1])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("minutes, on a logarithmic axis")
        axes.set_ylabel("rounds")
        return to_svg(figure, "fleet-lengths", "Distribution of the rounds' lengths")
