"""The pictures of a run's privacy: noise that adds up, and accuracy against epsilon, as SVG and as one PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from models.files import write_atomically
from orchestrator.evaluation.privacy import RunPrivacy
from orchestrator.evaluation.privacy_results import MeasuredRun
from orchestrator.report.plots.style import MODEL, PARTS, SMALL, STYLE, new_axes, to_svg
from orchestrator.settings.kinds import MECHANISM_TRAITS


def draw_privacy(result: RunPrivacy, runs: Sequence[MeasuredRun], path: Path) -> None:
    """Writes the two pictures, side by side, as a PNG; accuracy has a line for each run."""
    figure = Figure(figsize=(11.5, 4.4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_noise(left, result, {name: traits.colour for name, traits in MECHANISM_TRAITS.items()})
    left.set_title(f"Noise in the sum of all rounds so far, at epsilon {result.target:.3g}", loc="left", fontsize=10)
    left.legend([MECHANISM_TRAITS[cost.name].label for cost in result.costs], frameon=False, fontsize=8)
    for run in runs:
        _draw_run(right, run)
    _label_accuracy(right)
    right.set_title("Accuracy against what it cost", loc="left", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def running_noise(result: RunPrivacy) -> Markup:
    """Returns the noise in the running sum of mean updates, a line a mechanism; the run's own is strong."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(SMALL)
        colours = dict(zip((cost.name for cost in result.costs), PARTS))
        _draw_noise(axes, result, {**colours, result.mechanism: MODEL}, {result.mechanism: 2.6})
        axes.grid(visible=False, axis="y", which="minor")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, handlelength=1.2)
        return to_svg(figure, "running-noise", "Noise in the running sum of mean updates, by privacy mechanism")


def recall_by_epsilon(points: Sequence[tuple[float, float]]) -> Markup:
    """Returns top-1 recall (fractions) against the epsilon that had been spent by then."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(SMALL)
        axes.plot(*zip(*points), color=MODEL, marker="o")
        _label_accuracy(axes)
        return to_svg(figure, "recall-epsilon", "Top-1 recall against the epsilon spent")


def _draw_noise(
    axes: Axes, result: RunPrivacy, colours: Mapping[str, str], widths: Optional[Mapping[str, float]] = None
) -> None:
    """A line a mechanism, at equal epsilon, against the round; widths: of the lines that stand out."""
    for cost in result.costs:
        rounds = np.arange(1, len(cost.by_round) + 1)
        width = None if widths is None else widths.get(cost.name, 1.2)
        axes.semilogy(rounds, cost.by_round, color=colours[cost.name], label=cost.name, linewidth=width)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("rounds")
    axes.set_ylabel("noise, in clip norms a coordinate")


def _draw_run(axes: Axes, run: MeasuredRun) -> None:
    """A line against epsilon; a run without differential privacy is a dashed line at its last accuracy."""
    if not run.points:
        return
    traits, last = MECHANISM_TRAITS[run.mechanism], run.points[-1][2]
    if traits.adds_noise:
        spent = [(epsilon, top1) for _, epsilon, top1 in run.points if epsilon is not None]
        label = f"{run.name}: {run.mechanism}, noise {run.noise_multiplier:.3g}, {last:.2%}"
        axes.plot(*zip(*spent), color=traits.colour, marker="o", markersize=4, label=label)
    else:
        axes.axhline(last, color=traits.colour, linestyle=(0, (4, 3)), label=f"{run.name}: no noise, {last:.2%}")


def _label_accuracy(axes: Axes) -> None:
    axes.set_xlim(0, None)
    axes.set_ylim(0, None)
    axes.set_xlabel("epsilon spent")
    axes.set_ylabel("top-1 recall, dev people")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.1f}%"))
