"""The pictures of a run's privacy: noise that adds up, and accuracy against epsilon."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from models.files import write_atomically
from orchestrator.evaluation.privacy import MeasuredRun, RunPrivacy

COLOURS = {
    "central": "#0072b2",
    "tree": "#009e73",
    "matrix": "#d55e00",
    "distributed": "#56b4e9",
    "local": "#999999",
    "none": "#000000",
}
_SHORT = {
    "central": "central, independent noise",
    "tree": "central, tree (DP-FTRL)",
    "matrix": "central, banded matrix (DP-FTRL)",
    "distributed": "by the clients, in the secure sum",
    "local": "by each client on its own",
}


def draw_privacy(result: RunPrivacy, runs: Sequence[MeasuredRun], path: Path) -> None:
    """Writes the two pictures, side by side, as a PNG."""
    figure = Figure(figsize=(11.5, 4.4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_running_noise(left, {cost.name: cost.by_round for cost in result.costs}, result.target)
    draw_accuracy(right, runs)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def draw_running_noise(axes: Axes, by_round: Mapping[str, NDArray[np.float64]], target: float) -> None:
    """The noise in the running sum of mean updates against the round, a line a mechanism, at equal epsilon."""
    for name, noise in by_round.items():
        axes.plot(np.arange(1, len(noise) + 1), noise, color=COLOURS[name], label=_SHORT[name])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("round")
    axes.set_ylabel("noise, in clip norms a coordinate")
    axes.set_title(f"Noise in the sum of all rounds so far, at epsilon {target:.3g}", loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def draw_accuracy(axes: Axes, runs: Sequence[MeasuredRun]) -> None:
    """Dev top-1 against the epsilon spent so far, a line a run; a run without privacy is a dashed line at its last."""
    for run in runs:
        if not run.points:
            continue
        colour = COLOURS[run.mechanism]
        last = run.points[-1][2]
        if run.mechanism == "none":
            axes.axhline(last, color=colour, linestyle=(0, (4, 3)), label=f"{run.name}: no noise, {last:.2%}")
            continue
        spent = [(epsilon, top1) for _, epsilon, top1 in run.points if epsilon is not None]
        label = f"{run.name}: {run.mechanism}, noise {run.noise_multiplier:.3g}, {last:.2%}"
        axes.plot(*zip(*spent), color=colour, marker="o", markersize=4, label=label)
    axes.set_xlabel("epsilon spent")
    axes.set_ylabel("top-1 recall, dev people")
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.1f}%"))
    axes.set_title("Accuracy against what it cost", loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
