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
from orchestrator.settings.kinds import MECHANISM_TRAITS


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
        traits = MECHANISM_TRAITS[name]
        axes.plot(np.arange(1, len(noise) + 1), noise, color=traits.colour, label=traits.label)
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
        traits = MECHANISM_TRAITS[run.mechanism]
        last = run.points[-1][2]
        if not traits.adds_noise:
            axes.axhline(last, color=traits.colour, linestyle=(0, (4, 3)), label=f"{run.name}: no noise, {last:.2%}")
            continue
        spent = [(epsilon, top1) for _, epsilon, top1 in run.points if epsilon is not None]
        label = f"{run.name}: {run.mechanism}, noise {run.noise_multiplier:.3g}, {last:.2%}"
        axes.plot(*zip(*spent), color=traits.colour, marker="o", markersize=4, label=label)
    axes.set_xlabel("epsilon spent")
    axes.set_ylabel("top-1 recall, dev people")
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.1f}%"))
    axes.set_title("Accuracy against what it cost", loc="left", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
