"""The report's figures, as SVG that sits in a page: no link to anywhere, colours and fonts of the page around it.

Colours are CSS variables, so that a figure follows the page from light to dark. Matplotlib wants real colours: each
variable has a stand-in, which is replaced in the finished SVG.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

INK, MUTED, GRID, CARD = "#0a0001", "#0a0002", "#0a0003", "#0a0004"
TOP1, TOP3 = "#0a0005", "#0a0006"
STAGES = tuple(f"#0a001{i}" for i in range(10))
_VARIABLES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    CARD: "var(--card)",
    TOP1: "var(--top1)",
    TOP3: "var(--top3)",
    **{colour: f"var(--stage{i})" for i, colour in enumerate(STAGES)},
}
_STYLE: Any = {  # Any: matplotlib's type of it is a list of all its settings
    "svg.fonttype": "none",  # text stays text: small, sharp, can be searched
    "svg.hashsalt": "fedkeys",  # the same run gives the same file
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
    "patch.linewidth": 0.0,
}
_SMALL = (4.9, 3.1)
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.0f}%")


class Bar(NamedTuple):
    """A horizontal line to compare a curve with."""

    label: str
    value: float
    colour: str


def recall_curve(
    x: Sequence[float], top1: Sequence[float], top3: Sequence[float], x_label: str, bars: Sequence[Bar]
) -> Markup:
    """Top-1 and top-3 recall (fractions) against x, with dashed bars labelled at the right."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(_SMALL)
        for y, label, colour in ((top3, "among three", TOP3), (top1, "first suggestion", TOP1)):
            axes.plot(x, y, color=colour, label=label, marker="o" if len(x) < 30 else None)
        for bar in bars:
            axes.axhline(bar.value, color=bar.colour, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(
                bar.label,
                (1.0, bar.value),
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
        axes.yaxis.set_major_formatter(_PERCENT)
        _legend_above(axes)
        return _svg(figure, f"recall-{x_label}", f"Top-1 and top-3 recall against {x_label}")


def loss_curve(rounds: Sequence[int], train_nats: Sequence[float], dev: Sequence[tuple[int, float]]) -> Markup:
    """Training loss of each round, its moving mean, and the dev people's loss."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(_SMALL)
        window = 2 * (len(rounds) // 80) + 1
        axes.plot(rounds, train_nats, color=MUTED, linewidth=0.5, alpha=0.35)
        label = f"training, mean of {window} rounds" if window > 1 else "training"
        axes.plot(rounds, moving_mean(train_nats, window), color=TOP1, label=label)
        if dev:
            axes.plot(*zip(*dev), color=TOP3, marker="o", label="dev people")
        axes.set_xlabel("rounds")
        axes.set_ylabel("nats a word")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        _legend_above(axes)
        return _svg(figure, "loss", "Loss against rounds")


def moving_mean(values: Sequence[float], window: int) -> np.ndarray:
    """The mean over the `window` values around each place, over fewer at the ends; `window` is odd.

    >>> moving_mean([2.0, 4.0, 9.0, 5.0], 3).tolist()
    [3.0, 5.0, 6.0, 7.0]
    """
    sums = np.cumsum([0.0, *values])
    places = np.arange(len(values))
    starts, ends = np.maximum(0, places - window // 2), np.minimum(len(values), places + window // 2 + 1)
    return (sums[ends] - sums[starts]) / (ends - starts)


def comparison_bars(rows: Sequence[tuple[str, float, Optional[tuple[float, float]], bool]]) -> Markup:
    """A horizontal bar a predictor: (label, top-1 recall, its interval, whether it is the run's own)."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes((7.2, 0.5 * len(rows) + 0.6))
        places = np.arange(len(rows))[::-1]
        for place, (_, value, interval, own) in zip(places, rows):
            axes.barh(place, value, height=0.62, color=TOP1 if own else STAGES[-1])
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
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.set_xlim(0, 1.12 * max(max(v, i[1] if i else v) for _, v, i, _ in rows))
        return _svg(figure, "comparison", "Top-1 recall of the model and of the n-gram bars on the test people")


def recall_histogram(model: Sequence[float], trigram: Sequence[float]) -> Markup:
    """How many people have which top-1 recall, for the model and as an outline for the trigram."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes((7.2, 2.9))
        top = max([*model, *trigram, 0.02])
        edges = np.arange(0.0, top + 0.04, 0.02).tolist()
        axes.hist(model, edges, color=STAGES[0], rwidth=0.92, label="federated model")
        if trigram:
            axes.hist(trigram, edges, histtype="step", color=TOP3, linewidth=1.4, label="trigram, pooled text")
        axes.set_xlabel("top-1 recall of a person")
        axes.set_ylabel("people")
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        _legend_above(axes)
        return _svg(figure, "people", "Distribution of top-1 recall over the test people")


def canary_histogram(scores_in: Sequence[float], scores_out: Sequence[float]) -> Markup:
    """How far all sums together tell canary clients that sent something from those that sent zeros."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes((7.2, 2.9))
        edges = np.histogram_bin_edges([*scores_in, *scores_out], 25).tolist()
        axes.hist(scores_out, edges, color=STAGES[2], alpha=0.75, rwidth=0.92, label="sent zeros")
        axes.hist(scores_in, edges, color=STAGES[0], alpha=0.75, rwidth=0.92, label="sent their direction")
        axes.set_xlabel("score, in standard deviations of those that sent zeros")
        axes.set_ylabel("canary clients")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        _legend_above(axes)
        return _svg(figure, "canaries", "Scores of canary clients that sent something and of those that sent zeros")


def stage_bars(rows: Mapping[str, Mapping[str, float]]) -> Markup:
    """A stacked bar a row: {row: {stage: seconds}}, every row with the same stages."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes((7.2, 0.55 * len(rows) + 1.25))
        places = np.arange(len(rows))[::-1]
        left = np.zeros(len(rows))
        for i, stage in enumerate(next(iter(rows.values()))):
            seconds = np.array([of_row[stage] for of_row in rows.values()])
            axes.barh(places, seconds, left=left, height=0.62, color=STAGES[i % len(STAGES)], label=stage)
            left += seconds
        axes.set_yticks(places, list(rows))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("seconds")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, columnspacing=1.2, handlelength=1, borderpad=0.2)
        return _svg(figure, "stages", "Seconds of a round by stage")


def word_strips(rows: Mapping[str, Sequence[str]]) -> Markup:
    """A strip of squares a view: {view: "client", "other" or "nobody" for each word named}, surest word first."""
    kinds = {
        "client": (TOP1, "typed by this client"),
        "other": (STAGES[0], "by another in the sum"),
        "nobody": (GRID, "by nobody"),
    }
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes((7.2, 0.42 * len(rows) + 0.6))
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
        return _svg(figure, "words", "The words that the server is surest of in each view, and who typed them")


def recovery_bars(rows: Sequence[tuple[str, float, float]]) -> Markup:
    """A horizontal bar a view: (label, F1 of the attack, F1 of guessing frequent words, drawn as a mark)."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes((4.9, 0.36 * len(rows) + 0.8))
        places = np.arange(len(rows))[::-1]
        axes.barh(places, [f1 for _, f1, _ in rows], height=0.62, color=TOP1, label="attack")
        guesses = [guess for *_, guess in rows]
        axes.vlines(guesses, places - 0.42, places + 0.42, color=TOP3, linewidth=2.4, label="guessing frequent words")
        axes.set_yticks(places, [label for label, *_ in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1)
        axes.set_xlabel("F1: 1 = every word and no other")
        _legend_above(axes)
        return _svg(figure, "recovery", "F1 of the attack in each view beside guessing frequent words")


def noise_curve(multipliers: Sequence[float], aucs: Sequence[float], hidden_auc: float, shown: float) -> Markup:
    """The attack's AUC against the noise multiplier, the AUC that counts as hidden, and the level shown elsewhere."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(_SMALL)
        axes.semilogx(multipliers, aucs, color=TOP1, marker="o", label="best of three rules")
        axes.axhline(hidden_auc, color=TOP3, linewidth=1.2, linestyle=(0, (4, 3)), label=f"hidden: {hidden_auc:g}")
        if shown > 0:
            axes.axvline(shown, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)), label=f"shown above: {shown:g}")
        axes.set_ylim(0.48, 1.01)
        axes.set_xlabel("noise multiplier (clip norms)")
        axes.set_ylabel("AUC")
        axes.grid(visible=False, axis="x", which="minor")
        _legend_above(axes)
        return _svg(figure, "noise", "AUC of the attack on a noised sum against the noise multiplier")


def running_noise(by_round: Mapping[str, Sequence[float]], own: str) -> Markup:
    """Noise in the running sum of mean updates after each round, a line a mechanism; the run's own is strong."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(_SMALL)
        for (name, noise), colour in zip(by_round.items(), STAGES):
            style = {"color": TOP1, "linewidth": 2.6} if name == own else {"color": colour, "linewidth": 1.2}
            axes.semilogy(np.arange(1, len(noise) + 1), noise, label=name, **style)
        axes.set_xlabel("rounds")
        axes.set_ylabel("clip norms a coordinate")
        axes.grid(visible=False, axis="y", which="minor")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, handlelength=1.2)
        return _svg(figure, "running-noise", "Noise in the running sum of mean updates, by privacy mechanism")


def recall_by_epsilon(points: Sequence[tuple[float, float]]) -> Markup:
    """Top-1 recall (fractions) against the epsilon that had been spent by then."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(_SMALL)
        axes.plot(*zip(*points), color=TOP1, marker="o")
        axes.set_xlim(0, None)
        axes.set_ylim(0, None)
        axes.set_xlabel("epsilon spent")
        axes.set_ylabel("first suggestion, dev people")
        axes.yaxis.set_major_formatter(_PERCENT)
        return _svg(figure, "recall-epsilon", "Top-1 recall against the epsilon spent")


def group_dots(rows: Sequence[tuple[str, str, float, float]], over_all: float) -> Markup:
    """A row a group: (attribute, group, pooled top-1 recall, mean over its people); a line for everybody's pooled."""
    with matplotlib.rc_context(_STYLE):
        figure, axes, places = _grouped_axes([(attribute, group) for attribute, group, *_ in rows])
        pooled, means = [row[2] for row in rows], [row[3] for row in rows]
        axes.axvline(over_all, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="everybody, pooled")
        axes.scatter(pooled, places, s=64, color=TOP1, label="words of the group", zorder=3)
        axes.plot(means, places, "o", color=TOP3, markersize=6.5, fillstyle="none", mew=1.8, label="mean of its people")
        axes.set_xlabel("top-1 recall")
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.margins(x=0.08)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, handlelength=1.4)
        return _svg(figure, "groups", "Top-1 recall by group of people")


def participation_bars(rows: Sequence[tuple[str, str, float, float]]) -> Markup:
    """A pair of bars a group: (attribute, group, its share of the people, its share of the summed updates)."""
    with matplotlib.rc_context(_STYLE):
        figure, axes, places = _grouped_axes([(attribute, group) for attribute, group, *_ in rows])
        axes.barh(places + 0.19, [row[2] for row in rows], height=0.34, color=STAGES[-1], label="share of the people")
        axes.barh(places - 0.19, [row[3] for row in rows], height=0.34, color=TOP1, label="share of the updates summed")
        axes.xaxis.set_major_formatter(_PERCENT)
        _legend_above(axes)
        return _svg(figure, "participation", "Who is there and whose updates counted, by group")


def _grouped_axes(rows: Sequence[tuple[str, str]]) -> tuple[Figure, Axes, np.ndarray]:
    """Axes with a row for each (attribute, group), the attribute's name above its first; the rows' places."""
    heads = [i for i, (attribute, _) in enumerate(rows) if i == 0 or rows[i - 1][0] != attribute]
    gaps = np.cumsum([1.9 if i in heads else 1.0 for i in range(len(rows))])
    places = gaps[-1] - gaps
    figure, axes = _axes((7.2, 0.3 * (gaps[-1] + 1) + 0.9))
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
    """A bar a person, the largest gain first, in points of top-1 recall (fractions); losses in another colour."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes((7.2, 2.6))
        ordered = np.sort(np.asarray(gains))[::-1]
        places = np.arange(len(ordered))
        axes.bar(places, ordered, width=0.85, color=[TOP3 if gain < 0 else TOP1 for gain in ordered])
        axes.axhline(0, color=MUTED, linewidth=1)
        axes.set_xlabel("people, from the one who gains most")
        axes.set_ylabel("points")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.0f}"))
        axes.set_xticks([])
        axes.grid(visible=False, axis="x")
        return _svg(figure, "gains", "What fine-tuning gives each person")


def byte_views(views: Mapping[str, tuple[bytes, Sequence[int]]]) -> Markup:
    """A column a view: its first bytes as dots from black to white, and how often each byte value occurs.

    Args:
      views: {name: (its first bytes, 256 counts)}.
    """
    with matplotlib.rc_context({**_STYLE, "axes.grid": False, "image.interpolation": "nearest"}):
        figure = Figure(figsize=(7.2, 3.9), layout="constrained")
        figure.patch.set_alpha(0)
        grid = figure.subplots(2, len(views), height_ratios=(3, 2), squeeze=False)
        for column, (name, (first, counts)) in enumerate(views.items()):
            picture, histogram = grid[:, column]
            octets = np.frombuffer(first, np.uint8)
            width = int(np.sqrt(octets.size * 1.2))
            picture.imshow(octets[: octets.size // width * width].reshape(-1, width), cmap="gray", vmin=0, vmax=255)
            picture.set_title(name, color=INK, fontsize=10.5)
            picture.set_xticks([])
            picture.set_yticks([])
            shares = 256 * np.array(counts) / max(1, sum(counts))
            histogram.stairs(shares, np.arange(257) - 0.5, fill=True, color=TOP1)
            histogram.axhline(1.0, color=TOP3, linewidth=1.0, linestyle=(0, (4, 3)))
            histogram.set_yscale("symlog", linthresh=2)
            histogram.set_ylim(0, 200)
            histogram.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
            histogram.set_xticks([0, 128, 255])
            histogram.set_xlabel("value of a byte")
        grid[1, 0].set_ylabel("times expected")
        return _svg(figure, "server-view", "One client's upload as bytes: plain, masked, encrypted")


def _axes(inches: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=inches, layout="constrained")
    figure.patch.set_alpha(0)
    return figure, figure.add_subplot()


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1.2, handlelength=1.4, borderpad=0.2)


def _svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an <svg> element. `name` keeps its ids apart from those of the page's other figures."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"fedkeys {name}"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]  # without XML prolog and DOCTYPE
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    # In HTML, <svg> and xlink:href are known without naming their namespaces.
    svg = f'<svg {view_box[0]} role="img" aria-label="{Markup.escape(description)}">' + svg[svg.index(">") + 1 :]
    prefix = re.sub(r"\W+", "-", name)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # it would style the page, too
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return Markup(svg)
