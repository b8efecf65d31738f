"""Draws how groups and single people are served, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from orchestrator.report.plots.style import (
    GROUPS,
    GROUPS_SOFT,
    INK,
    MODEL,
    MUTED,
    PERCENT,
    STYLE,
    legend_above,
    new_axes,
    to_svg,
)


class GroupRecall(NamedTuple):
    """The top-1 recall of a group of people; all but the names are fractions."""

    attribute: str
    group: str
    pooled: float  # over the words of the group
    mean: float  # over its people
    margin: float  # half of the mean's 95 % interval


def group_dots(rows: Sequence[GroupRecall], over_all: float) -> Markup:
    """Draws a row for each group, with the interval of the mean over its people, and a line for everybody."""
    with matplotlib.rc_context(STYLE):
        figure, axes, places = _grouped_axes([(row.attribute, row.group) for row in rows])
        means = [row.mean for row in rows]
        axes.axvline(over_all, color=MODEL, linewidth=1.2, linestyle=(0, (4, 3)), label="everybody, pooled")
        axes.errorbar(
            means, places, xerr=[row.margin for row in rows], fmt="o", color=GROUPS, markersize=7, capsize=3,
            elinewidth=1.6, label="mean of its people",
        )  # fmt: skip
        pooled = [row.pooled for row in rows]
        axes.plot(
            pooled, places, "D", color=GROUPS, markersize=6, fillstyle="none", mew=1.6, label="words of the group"
        )
        axes.set_xlabel("top-1 recall")
        axes.xaxis.set_major_formatter(PERCENT)
        axes.set_xlim(0, 1.06 * max(max(row.pooled, row.mean + row.margin) for row in rows))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, handlelength=1.4)
        return to_svg(figure, "groups", "Top-1 recall by group of people")


def participation_bars(rows: Sequence[tuple[str, str, float, float]]) -> Markup:
    """Draws two bars for each (attribute, group, share of the people, share of the summed updates)."""
    with matplotlib.rc_context(STYLE):
        figure, axes, places = _grouped_axes([(attribute, group) for attribute, group, *_ in rows])
        axes.barh(places + 0.19, [row[2] for row in rows], height=0.34, color=GROUPS_SOFT, label="share of the people")
        axes.barh(
            places - 0.19, [row[3] for row in rows], height=0.34, color=GROUPS, label="share of the updates summed"
        )
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
    """Draws a bar for each group's mean gain in top-1 recall (a fraction), the largest first."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 2.6))
        places = np.arange(len(gains))
        bars = axes.bar(places, gains, width=0.72, color=GROUPS)
        axes.bar_label(bars, [f"{100 * gain:+.1f}" for gain in gains], padding=2)
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.margins(y=0.15)
        axes.set_xlabel("groups of people, from those who gain most")
        axes.set_ylabel("points")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
        axes.set_xticks([])
        axes.grid(visible=False, axis="x")
        return to_svg(figure, "gains", "What fine-tuning gives groups of people")
