"""Draws what a server, or an auditor, can tell from updates and sums, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.report.plots.style import (
    BASELINE,
    GRID,
    INK,
    MUTED,
    PARTS,
    SERVER,
    SERVER_SOFT,
    STYLE,
    legend_above,
    new_axes,
    to_svg,
)


def word_strips(rows: Mapping[str, Sequence[str]]) -> Markup:
    """Draws a strip of squares for each view: {view: who typed each named word}, the surest word first."""
    kinds = {
        "client": (SERVER, "typed by this client"),
        "other": (SERVER_SOFT, "by another in the sum"),
        "nobody": (GRID, "by nobody"),
    }
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 0.42 * len(rows) + 0.6))
        places = np.arange(len(rows))[::-1]
        for kind, (colour, label) in kinds.items():
            for place, named in zip(places, rows.values()):
                at = [i for i, typed in enumerate(named) if typed == kind]
                axes.bar(at, 0.62, width=0.78, bottom=place - 0.31, color=colour)
            axes.bar(0, 0, color=colour, label=label)
        axes.set_yticks(places, list(rows))
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_xlim(-1, max(map(len, rows.values())))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, handlelength=1, borderpad=0.2)
        return to_svg(figure, "words", "The words that the server is surest of in each view, and who typed them")


def recovery_bars(rows: Sequence[tuple[str, float, float]]) -> Markup:
    """Draws a horizontal bar for each (view, F1 of the attack, F1 of guessing frequent words, which is a mark)."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 0.34 * len(rows) + 0.9))
        places = np.arange(len(rows))[::-1]
        axes.barh(places, [f1 for _, f1, _ in rows], height=0.62, color=SERVER, label="attack")
        guesses = [guess for *_, guess in rows]
        axes.vlines(
            guesses, places - 0.42, places + 0.42, color=BASELINE, linewidth=2.4, label="guessing frequent words"
        )
        axes.set_yticks(places, [label for label, *_ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1)
        axes.set_xlabel("F1: 1 = every word and no other")
        legend_above(axes)
        return to_svg(figure, "recovery", "F1 of the attack in each view beside guessing frequent words")


def noise_curve(multipliers: Sequence[float], aucs: Sequence[float], hidden_auc: float, shown: float) -> Markup:
    """Draws the AUC against the noise multiplier, with lines at the hidden AUC and at the level shown elsewhere."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 3.0))
        axes.semilogx(multipliers, aucs, color=SERVER, marker="o", label="best of three rules")
        axes.axhline(hidden_auc, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=f"hidden: {hidden_auc:g}")
        if shown > 0:
            axes.axvline(shown, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)), label=f"shown above: {shown:g}")
        axes.set_ylim(0.48, 1.01)
        axes.set_xlabel("noise multiplier (clip norms)")
        axes.set_ylabel("AUC")
        axes.grid(visible=False, axis="x", which="minor")
        legend_above(axes)
        return to_svg(figure, "noise", "AUC of the attack on a noised sum against the noise multiplier")


def canary_histogram(scores_in: Sequence[float], scores_out: Sequence[float]) -> Markup:
    """Draws the scores of canary clients that sent something over those of canary clients that sent zeros."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes((7.2, 2.9))
        edges = np.histogram_bin_edges([*scores_in, *scores_out], 25).tolist()
        axes.hist(scores_out, edges, color=PARTS[1], alpha=0.75, rwidth=0.92, label="sent zeros")
        axes.hist(scores_in, edges, color=SERVER, alpha=0.75, rwidth=0.92, label="sent their direction")
        axes.set_xlabel("score, in standard deviations of those that sent zeros")
        axes.set_ylabel("canary clients")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        legend_above(axes)
        return to_svg(figure, "canaries", "Scores of canary clients that sent something and of those that sent zeros")


def byte_views(views: Mapping[str, tuple[bytes, Sequence[int]]]) -> Markup:
    """Draws a column for each view: its first bytes as dots from black to white, and how often each byte value occurs.

    Args:
      views: {name: (its first bytes, none where they are left out; 256 counts)}.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "image.interpolation": "nearest"}):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        figure.patch.set_alpha(0)
        grid = figure.subplots(2, len(views), height_ratios=(3, 2), squeeze=False)
        for column, (name, (first, counts)) in enumerate(views.items()):
            picture, histogram = grid[:, column]
            octets = np.frombuffer(first, np.uint8)
            if octets.size:
                width = int(np.sqrt(octets.size * 1.2))
                picture.imshow(octets[: octets.size // width * width].reshape(-1, width), cmap="gray", vmin=0, vmax=255)
            else:
                picture.text(0.5, 0.5, "left out: words can\nbe read from it", ha="center", va="center", color=MUTED)
            picture.set_title(name, color=INK, fontsize=10.5)
            picture.set_xticks([])
            picture.set_yticks([])
            shares = 256 * np.array(counts) / max(1, sum(counts))
            histogram.stairs(shares, np.arange(257) - 0.5, fill=True, color=PARTS[1])
            histogram.axhline(1.0, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
            histogram.set_yscale("symlog", linthresh=2)
            histogram.set_ylim(0, 200)
            histogram.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
            histogram.set_xticks([0, 128, 255])
            histogram.set_xlabel("value of a byte")
        grid[1, 0].set_ylabel("times expected")
        return to_svg(figure, "server-view", "One client's upload as bytes: plain, masked, encrypted")
