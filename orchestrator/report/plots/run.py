"""Draws training and evaluation, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from orchestrator.report.plots.style import (
    BASELINE,
    CARD,
    INK,
    MODEL,
    MODEL_SOFT,
    MUTED,
    PARTS,
    PERCENT,
    SMALL,
    STYLE,
    legend_above,
    new_axes,
    to_svg,
)
from orchestrator.units import count_text


class Baseline(NamedTuple):
    """A horizontal line to compare a curve with."""

    label: str
    value: float
    colour: str


def recall_curve(
    x: Sequence[float], top1: Sequence[float], top3: Sequence[float], x_label: str, baselines: Sequence[Baseline]
) -> Markup:
    """Draws top-1 and top-3 recall (fractions) against x, with dashed baselines labelled at the right."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(SMALL)
        for y, label, colour in ((top3, "among three", MODEL_SOFT), (top1, "first suggestion", MODEL)):
            axes.plot(x, y, color=colour, label=label, marker="o" if len(x) < 30 else None)
        for baseline in baselines:
            axes.axhline(baseline.value, color=baseline.colour, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(
                baseline.label,
                (1.0, baseline.value),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                color=MUTED,
            )
        axes.set_xlim(0, 1.02 * max(x) or 1)
        axes.set_ylim(0, None)
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(PERCENT)
        legend_above(axes)
        return to_svg(figure, f"recall-{x_label}", f"Top-1 and top-3 recall against {x_label}")


def loss_curve(
    rounds: Sequence[int], train_nats: Sequence[float], dev: Sequence[tuple[int, float]], least_window: int
) -> Markup:
    """Draws the training loss of each round, its moving mean, and the dev people's loss.

    least_window: number of rounds, odd; above 1 the single rounds are not drawn, for they are of too few people.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(SMALL)
        window = max(2 * (len(rounds) // 80) + 1, least_window)
        if least_window == 1:
            axes.plot(rounds, train_nats, color=MUTED, linewidth=0.5, alpha=0.35)
        label = f"training, mean of {count_text(window, 'round')}" if window > 1 else "training"
        axes.plot(rounds, moving_mean(train_nats, window), color=MODEL_SOFT, label=label)
        if dev:
            axes.plot(*zip(*dev), color=MODEL, marker="o", label="dev people")
        axes.set_xlabel("rounds")
        axes.set_ylabel("nats a word")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        legend_above(axes)
        return to_svg(figure, "loss", "Loss against rounds")


def moving_mean(values: Sequence[float], window: int) -> np.ndarray:
    """Returns the mean over the `window` values around each place, over fewer at the ends; `window` is odd.

    >>> moving_mean([2.0, 4.0, 9.0, 5.0], 3).tolist()
    [3.0, 5.0, 6.0, 7.0]
    """
    sums = np.cumsum([0.0, *values])
    places = np.arange(len(values))
    starts, ends = np.maximum(0, places - window // 2), np.minimum(len(values), places + window // 2 + 1)
    return (sums[ends] - sums[starts]) / (ends - starts)


def comparison_bars(rows: Sequence[tuple[str, float, Optional[tuple[float, float]], str]]) -> Markup:
    """Draws a horizontal bar for each (predictor, top-1 recall, its interval, colour)."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 0.5 * len(rows) + 0.6))
        places = np.arange(len(rows))[::-1]
        for place, (_, value, interval, colour) in zip(places, rows):
            axes.barh(place, value, height=0.62, color=colour)
            edge = value
            if interval is not None:
                axes.plot(interval, (place, place), color=INK, linewidth=1.2, solid_capstyle="butt")
                edge = max(edge, interval[1])
            axes.annotate(
                f"{value:.1%}", (edge, place), xytext=(6, 0), textcoords="offset points", va="center", weight="bold"
            )
        axes.set_yticks(places, [label for label, *_ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_xlim(0, 1.12 * max(max(v, i[1] if i else v) for _, v, i, _ in rows))
        return to_svg(figure, "comparison", "Top-1 recall of the model and of the n-gram baselines on the test people")


def served_groups(model: Sequence[float], baseline: Sequence[float], label: str) -> Markup:
    """Draws a bar for each group of people, the worst served first: the model's mean recall, with a baseline's mark.

    Args:
      model: means of groups of people, lowest first.
      baseline: the same of the baseline; empty without one.
      label: of the baseline.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 2.9))
        places = np.arange(len(model))
        axes.bar(places, model, width=0.72, color=MODEL, label="federated model")
        if baseline:
            axes.hlines(baseline, places - 0.45, places + 0.45, color=BASELINE, linewidth=2.4, label=label)
        for place, mean in zip(places, model):
            axes.annotate(f"{mean:.0%}", (place, 0), xytext=(0, 4), textcoords="offset points", ha="center", color=CARD)
        axes.set_xticks(places, ["worst served", *[""] * (len(model) - 2), "best served"])
        axes.set_ylabel("top-1 recall")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.grid(visible=False, axis="x")
        legend_above(axes)
        return to_svg(figure, "people", "Mean top-1 recall of groups of test people, the worst served first")


def stage_bars(rows: Mapping[str, Mapping[str, float]]) -> Markup:
    """Draws a stacked bar for each {row: {stage: seconds}}; every row has the same stages."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 0.55 * len(rows) + 1.25))
        places = np.arange(len(rows))[::-1]
        left = np.zeros(len(rows))
        for i, stage in enumerate(next(iter(rows.values()))):
            seconds = np.array([of_row[stage] for of_row in rows.values()])
            axes.barh(places, seconds, left=left, height=0.62, color=PARTS[i % len(PARTS)], label=stage)
            left += seconds
        axes.set_yticks(places, list(rows))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("seconds")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, columnspacing=1.2, handlelength=1, borderpad=0.2)
        return to_svg(figure, "stages", "Seconds of a round by stage")
