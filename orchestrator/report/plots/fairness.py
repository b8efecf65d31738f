"""Draws how groups and single people are served, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from orchestrator.report.plots.style import (
    INK,
    MUTED,
    PERCENT,
    STAGES,
    STYLE,
    TOP1,
    TOP3,
    legend_above,
    new_axes,
    to_svg,
)


def group_dots(rows: Sequence[tuple[str, str, float, float]], over_all: float) -> Markup:
    """Draws a row for each (attribute, group, pooled top-1 recall, mean over its people), and a line for everybody."""
    with matplotlib.rc_context(STYLE):
        figure, axes, places = _grouped_axes([(attribute, group) for attribute, group, *_ in rows])
        pooled, means = [row[2] for row in rows], [row[3] for row in rows]
        axes.axvline(over_all, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="everybody, pooled")
        axes.scatter(pooled, places, s=64, color=TOP1, label="words of the group", zorder=3)
        axes.plot(means, places, "o", color=TOP3, markersize=6.5, fillstyle="none", mew=1.8, label="mean of its people")
        axes.set_xlabel("top-1 recall")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.margins(x=0.08)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, handlelength=1.4)
        return to_svg(figure, "groups", "Top-1 recall by group of people")


def participation_bars(rows: Sequence[tuple[str, str, float, float]]) -> Markup:
    """Draws two bars for each (attribute, group, share of the people, share of the summed updates)."""
    with matplotlib.rc_context(STYLE):
        figure, axes, places = _grouped_axes([(attribute, group) for attribute, group, *_ in rows])
        axes.barh(places + 0.19, [row[2] for row in rows], height=0.34, color=STAGES[-1], label="share of the people")
        axes.barh(places - 0.19, [row[3] for row in rows], height=0.34, color=TOP1, label="share of the updates summed")
        axes.xaxis.set_major_formatter(PERCENT)
        legend_above(axes)
        return to_svg(figure, "participation", "Who is there and whose updates counted, by group")


def _grouped_axes(rows: Sequence[tuple[str, str]]) -> tuple[Figure, Axes, np.ndarray]:
    """Axes with a row for each (attribute, group), the attribute's name above its first; the rows' places."""
    heads = [i for i, (attribute, _) in enumerate(rows) if i == 0 or rows[i - 1][0] != attribute]
    gaps = np.cumsum([1.9 if i in heads else 1.0 for i in range(len(rows))])
    places = gaps[-1] - gaps
    figure, axes = new_axes((7.2, 0.3 * (gaps[-1] + 1) + 0.9))
    axes.set_yticks(places, [group for _, group in rows])
    for i in heads:
        axes.annotate(
            rows[i][0],
            (0, places[i] + 0.85),
            xycoords=("axes fraction", "data"),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            weight="bold",
        )
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(-0.7, places[0] + 1.3)
    return figure, axes, places


def gain_bars(gains: Sequence[float]) -> Markup:
    """Draws a bar for each person's gain in top-1 recall (a fraction), the largest first; losses in another colour."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 2.6))
        ordered = np.sort(np.asarray(gains))[::-1]
        places = np.arange(len(ordered))
        axes.bar(places, ordered, width=0.85, color=[TOP3 if gain < 0 else TOP1 for gain in ordered])
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.set_xlabel("people, from the one who gains most")
        axes.set_ylabel("points")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
        axes.set_xticks([])
        axes.grid(visible=False, axis="x")
        return to_svg(figure, "gains", "What fine-tuning gives each person")
