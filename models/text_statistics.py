"""Returns what a corpus holds in figures, and draws them: what `fedkeys data` shows."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId, Corpus, PeopleSplit
from models.files import write_atomically
from models.vocabulary import NUM_SPECIAL, Vocabulary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COVERAGE_SIZES = (1_000, 2_000, 5_000, 10_000)  # words
_LONGEST_SHOWN = 30  # words of a sentence: longer ones share the last bar
_BLUE, _ORANGE, _INK, _GREY = "#3b6ea8", "#d1661f", "#222222", "#6e6e6e"


@dataclass(frozen=True)
class TextStatistics:
    """What a corpus holds. A token is a word typed once; shares and rates are in [0, 1].

    vocabulary: number of ids, the special ones and those of words that somebody typed: a public list has others, too
    oov_rate: share of the tokens of the held-out people (dev and test) that the vocabulary doesn't hold
    tokens_per_client, sentence_words: percentiles "p10", "p50", "p90" in words, the latter with the "mean"
    coverage: share of all tokens that are among the most frequent "1000", "2000", ... words of the corpus
    people: how many "train", "dev" and "test" have
    """

    clients: int
    sentences: int
    tokens: int
    vocabulary: int
    oov_rate: float
    tokens_per_client: dict[str, float]
    coverage: dict[str, float]
    sentence_words: dict[str, float]
    people: dict[str, int]


def describe(corpus: Corpus, split: PeopleSplit, vocabulary: Vocabulary) -> TextStatistics:
    """Returns the figures of `corpus`; out of vocabulary is counted on the people whom `split` holds out."""
    sentence_words, tokens_per_client = _sentence_words(corpus), _tokens_per_client(corpus)
    typed = _word_counts(corpus, tuple(corpus.clients))
    curve = _coverage_curve(typed)
    held_out = _word_counts(corpus, split.dev + split.test)
    known = set(vocabulary.words)
    unknown = sum(count for word, count in held_out.items() if word not in known)
    return TextStatistics(
        clients=len(corpus.clients),
        sentences=len(sentence_words),
        tokens=int(sentence_words.sum()),
        vocabulary=NUM_SPECIAL + sum(word in typed for word in vocabulary.words[NUM_SPECIAL:]),
        oov_rate=unknown / sum(held_out.values()),
        tokens_per_client=_percentiles(tokens_per_client),
        coverage={str(size): float(curve[min(size, len(curve)) - 1]) for size in _COVERAGE_SIZES},
        sentence_words={**_percentiles(sentence_words), "mean": float(sentence_words.mean())},
        people={"train": len(split.train), "dev": len(split.dev), "test": len(split.test)},
    )


def _sentence_words(corpus: Corpus) -> NDArray[np.int64]:
    """Returns int64 [num_sentences], words of each sentence."""
    texts = corpus.clients.values()
    return np.array([sentence.count(" ") + 1 for text in texts for sentence in text.sentences])


def _tokens_per_client(corpus: Corpus) -> NDArray[np.int64]:
    """Returns int64 [num_clients], words that each person typed."""
    texts = corpus.clients.values()
    return np.array([sum(sentence.count(" ") + 1 for sentence in text.sentences) for text in texts])


def _word_counts(corpus: Corpus, client_ids: tuple[ClientId, ...]) -> Counter[str]:
    sentences = (sentence for client_id in client_ids for sentence in corpus.clients[client_id].sentences)
    return Counter(word for sentence in sentences for word in sentence.split())


def _coverage_curve(counts: Counter[str]) -> NDArray[np.float64]:
    """Returns float64 [num_words]: at n-1 the share of all tokens that the n most frequent words make up."""
    cumulative = np.cumsum(sorted(counts.values(), reverse=True), dtype=np.float64)
    return np.asarray(cumulative / cumulative[-1])


def _percentiles(values: NDArray[np.int64]) -> dict[str, float]:
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in (10, 50, 90)}


def plot(corpus: Corpus, statistics: TextStatistics, path: Path) -> None:
    """Writes a PNG to `path`: words per person, words per sentence, how much of the text top words cover.

    Raises: OSError if it can't be written.
    """
    from matplotlib.figure import Figure  # a second to import: only those who ask for the picture pay for it

    figure = Figure(figsize=(13, 4.4), dpi=150, layout="constrained")
    people, lengths, coverage = figure.subplots(1, 3)
    _draw_people(people, _tokens_per_client(corpus), statistics.tokens_per_client)
    _draw_lengths(lengths, _sentence_words(corpus), statistics.sentence_words)
    _draw_coverage(coverage, _coverage_curve(_word_counts(corpus, tuple(corpus.clients))), statistics)
    for axes in (people, lengths, coverage):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.suptitle(
        f"{corpus.name}: {statistics.clients:,} people, {statistics.sentences:,} sentences, "
        f"{statistics.tokens:,} words",
        fontsize=14,
        fontweight="bold",
        color=_INK,
        parse_math=False,
    )  # a file's name may hold $ signs
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(Path(path), picture.getvalue())


def _draw_people(axes: Axes, tokens: NDArray[np.int64], marks: dict[str, float]) -> None:
    # Rounded edges, or bars between two whole numbers would stay empty.
    edges = np.unique(np.round(np.geomspace(1, tokens.max() + 1, 25)))
    axes.hist(tokens, bins=edges.tolist(), color=_BLUE, edgecolor="white", linewidth=0.6)
    _mark_percentiles(axes, marks)
    _set_log_scale(axes, max(100, int(tokens.max())))
    axes.set(title="How much each person typed", xlabel="words of one person (log scale)", ylabel="people")


def _draw_lengths(axes: Axes, words: NDArray[np.int64], marks: dict[str, float]) -> None:
    counts = np.bincount(np.minimum(words, _LONGEST_SHOWN), minlength=_LONGEST_SHOWN + 1)[1:]
    axes.bar(np.arange(1, _LONGEST_SHOWN + 1), 100 * counts / len(words), width=0.85, color=_BLUE)
    _mark_percentiles(axes, {name: marks[name] for name in ("p50", "p90")})
    ticks = (1, 10, 20, _LONGEST_SHOWN)
    axes.set_xticks(ticks, [str(tick) for tick in ticks[:-1]] + [f"{_LONGEST_SHOWN}+"])
    axes.set(title="How long sentences are", xlabel="words in a sentence", ylabel="% of sentences")


def _draw_coverage(axes: Axes, curve: NDArray[np.float64], statistics: TextStatistics) -> None:
    axes.plot(np.arange(1, len(curve) + 1), 100 * curve, color=_BLUE, linewidth=2.2)
    _set_log_scale(axes, max(100, len(curve)))
    reached = {int(size): share for size, share in statistics.coverage.items() if int(size) <= len(curve)}
    axes.plot(list(reached), [100 * share for share in reached.values()], "o", color=_ORANGE, markersize=6)
    lines = [f"top {size:,}: {100 * share:.1f} %" for size, share in reached.items()]
    lines += [
        "",
        f"{100 * statistics.oov_rate:.1f} % of held-out people's",
        "words are outside the vocabulary",
        f"of {statistics.vocabulary:,} ids",
    ]
    axes.text(
        0.98,
        0.04,
        "\n".join(lines),
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=9,
        color=_INK,
        linespacing=1.35,
    )
    axes.set_ylim(0, 104)
    axes.set(
        title="What the most frequent words cover",
        xlabel="most frequent words (log scale)",
        ylabel="% of all words typed",
    )


def _set_log_scale(axes: Axes, largest: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(0.7, 1.5 * largest)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _mark_percentiles(axes: Axes, marks: dict[str, float]) -> None:
    """Draws a dashed line at each percentile, the median in orange, and names them above the bars."""
    axes.margins(y=0.12)  # room for that row
    for name, value in marks.items():
        colour = _ORANGE if name == "p50" else _GREY
        axes.axvline(value, ymax=0.92, color=colour, linestyle="--", linewidth=1.3)
    row = "     ".join(f"{name}: {value:,.0f}" for name, value in marks.items()).replace("p50", "median")
    axes.text(0.5, 0.985, row, transform=axes.transAxes, ha="center", va="top", fontsize=9, color=_INK)
