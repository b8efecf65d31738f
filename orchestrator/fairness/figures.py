"""From sums over people to figures: recall pooled and by person, spread, gaps between groups, a permutation test.

Everything here is worked out from sums. A client's own recall enters them in three forms: as counts (hits, positions),
as a fixed-point number with its square, and as a one in a histogram of BINS bins, which gives the worst tenth and lets
the server permute: whom a bin belongs to it does not know, and does not need to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.metrics import ClientSums

MIN_POSITIONS = 20  # what a person needs for a recall of their own to say something
BINS = 100  # of a client's recall: one point each
NUM_PERMUTATIONS = 9999
_SCALE = 2**16  # of a recall in fixed point: sums of 65,535 people do not wrap
_COUNTS = ("clients", "positions", "hits1", "hits3", "oov", "counted", "recall", "recall_squared")
WIDTH = len(_COUNTS) + BINS


def client_values(sums: ClientSums) -> NDArray[np.int64]:
    """What each client adds to the sums, int64 [num_clients, WIDTH]; whoever has too few positions counts pooled only.

    Recall and its square are rounded to whole numbers of 2**-16.
    """
    num_clients = len(sums.positions)
    values = np.zeros((num_clients, WIDTH), np.int64)
    counted = sums.positions >= MIN_POSITIONS
    recall = np.where(counted, sums.hits1 / np.maximum(1, sums.positions), 0.0)
    columns = (
        sums.positions > 0,
        sums.positions,
        sums.hits1,
        sums.hits3,
        sums.oov,
        counted,
        np.rint(_SCALE * recall),
        np.rint(_SCALE * recall**2),
    )
    for place, column in enumerate(columns):
        values[:, place] = column
    bins = np.minimum((BINS * recall).astype(int), BINS - 1)
    values[np.flatnonzero(counted), len(_COUNTS) + bins[counted]] = 1
    return values


def pooled_figures(total: NDArray[np.int64]) -> dict[str, Any]:
    """The figures of a group, or of everybody, from its sums [WIDTH]; None where nobody counts."""
    sums = dict(zip(_COUNTS, map(int, total)))
    positions = sums["positions"]
    return {
        "clients": sums["clients"],
        "positions": positions,
        "top1": sums["hits1"] / positions if positions else None,
        "top3": sums["hits3"] / positions if positions else None,
        "oov_rate": sums["oov"] / (sums["oov"] + positions) if positions else None,
        "per_client": per_client_figures(total),
    }


def per_client_figures(total: NDArray[np.int64]) -> dict[str, Any]:
    """Mean, spread, worst tenth and Jain's index over the counted people, from the sums [WIDTH].

    Source: Jain, Chiu, Hawe 1984, equation 1: (sum x)^2 / (n sum x^2), 1 = everybody has the same.
    """
    sums = dict(zip(_COUNTS, map(int, total)))
    count, histogram = sums["counted"], total[len(_COUNTS) :]
    if not count:
        return {"clients": 0, "mean": None, "std": None, "worst_tenth_mean": None, "jain": None}
    mean, square = sums["recall"] / _SCALE / count, sums["recall_squared"] / _SCALE / count
    return {
        "clients": count,
        "mean": mean,
        "std": float(np.sqrt(max(0.0, square - mean**2))),
        "worst_tenth_mean": worst_tenth_mean(histogram),
        "jain": mean**2 / square if square else None,
    }


def recall_histogram(total: NDArray[np.int64]) -> list[int]:
    """How many of the counted people have a recall in each of the BINS bins."""
    return list(map(int, total[len(_COUNTS) :]))


def worst_tenth_mean(histogram: NDArray[np.int64]) -> float:
    """The mean recall of the worst tenth of the people, rounded up to whole people: to half a bin.

    >>> histogram = np.zeros(BINS, int)
    >>> histogram[[10, 20]] = 1, 10  # of eleven people two: (10.5 + 20.5) / 2 percent
    >>> worst_tenth_mean(histogram)
    0.155
    """
    worst = -(-int(histogram.sum()) // 10)
    taken = np.diff(np.minimum(np.cumsum(np.concatenate([[0], histogram])), worst))
    return float(taken @ _middles() / worst)


def _middles() -> NDArray[np.float64]:
    return (np.arange(BINS) + 0.5) / BINS


def compare_groups(names: Sequence[str], totals: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """Gap and ratio of pooled top-1 recall between groups, and whether people's recalls differ by group.

    Args:
      names: of the shown groups.
      totals: [num_groups, WIDTH], their sums.
      seed: of the permutations.
    """
    sums = {name: dict(zip(_COUNTS, map(int, total))) for name, total in zip(names, totals)}
    between = gap_and_ratio({name: (own["hits1"], own["positions"]) for name, own in sums.items()})
    return {**between, **permutation_test(totals[:, len(_COUNTS) :], seed)}


def gap_and_ratio(shares: Mapping[str, tuple[int, int]]) -> dict[str, Optional[float]]:
    """Largest minus smallest share and smallest over largest, by fairlearn; None below two groups.

    Args:
      shares: {group: (how many, of how many)}.

    >>> gap_and_ratio({"a": (1, 4), "b": (2, 4)})
    {'gap': 0.25, 'ratio': 0.5}
    """
    if len(shares) < 2:
        return {"gap": None, "ratio": None}
    from fairlearn.metrics import MetricFrame, mean_prediction

    # Two rows a group, hits and misses, weighted by how many: the frame needs no row of any one person.
    groups = [name for name in shares for _ in range(2)]
    weights = [count for hits, of_all in shares.values() for count in (hits, of_all - hits)]
    outcome = [1, 0] * len(shares)
    frame = MetricFrame(
        metrics={"share": mean_prediction},
        y_true=outcome,
        y_pred=outcome,
        sensitive_features=groups,
        sample_params={"share": {"sample_weight": weights}},
    )
    return {"gap": float(frame.difference()["share"]), "ratio": float(frame.ratio()["share"])}


def permutation_test(histograms: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """How often shuffling people between the groups gives a gap in mean recall as large as theirs.

    People keep their recall, to the bin, and swap groups: a test at its level whatever the bins, since each bin
    depends on one person alone. Sums over shuffled groups, from the clients, would do as well and give everything away:
    with as many of them as people, each one's figures follow by linear algebra.

    Source: Phipson & Smyth 2010, the p-value's plus one; Edgington & Onghena 2007, chapter 4.

    Args:
      histograms: [num_groups, BINS], counted people by recall.
      seed: of the permutations.
    """
    samples = [np.repeat(_middles(), histogram) for histogram in histograms]
    if len(samples) < 2:
        return {"client_mean_gap": None, "p_value": None, "permutations": 0}

    def gap(*groups: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        means = np.stack([group.mean(axis=axis) for group in groups])
        return means.max(axis=0) - means.min(axis=0)

    result = stats.permutation_test(
        samples,
        gap,
        vectorized=True,
        n_resamples=NUM_PERMUTATIONS,
        batch=500,
        alternative="greater",
        random_state=np.random.default_rng(seed),
    )
    return {
        "client_mean_gap": float(result.statistic),
        "p_value": float(result.pvalue),
        "permutations": len(result.null_distribution),
    }
