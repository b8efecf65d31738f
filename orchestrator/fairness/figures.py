"""Turns sums over people into figures: recall pooled and by person, spread, gaps between groups, a permutation test.

Everything here is worked out from sums. A client's own recall enters them in three forms: as counts (hits, positions),
as a fixed-point number with its square, and as a one in a histogram of BINS bins. The histogram gives the worst tenth
and lets the server permute people without knowing whose recall is in which bin.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.disclosure import MIN_GROUP, size_of_worst_tenth
from models.metrics import ClientSums
from orchestrator.fairness.results import PerClient, Recall

MIN_POSITIONS = 20  # words that a person must have typed for a recall of their own to say something
BINS = 100  # of a client's recall: one point each
NUM_PERMUTATIONS = 9999
_SCALE = 2**16  # of a recall in fixed point: sums of 65,535 people do not wrap
_COUNTS = ("clients", "positions", "hits1", "hits3", "oov", "counted", "recall", "recall_squared")
WIDTH = len(_COUNTS) + BINS


def client_values(sums: ClientSums) -> NDArray[np.int64]:
    """Returns what each client adds to the sums, int64 [num_clients, WIDTH].

    A client with fewer than MIN_POSITIONS positions counts in the pooled figures only. Recall and its square are
    rounded to multiples of 2**-16.
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


def pooled_recall(total: NDArray[np.int64]) -> Recall:
    """Returns the recall of a group, or of everybody, from its sums [WIDTH]."""
    sums = dict(zip(_COUNTS, map(int, total)))
    positions = sums["positions"]
    return Recall(
        clients=sums["clients"],
        positions=positions,
        top1=sums["hits1"] / positions if positions else None,
        top3=sums["hits3"] / positions if positions else None,
        oov_rate=sums["oov"] / (sums["oov"] + positions) if positions else None,
        per_client=recall_per_client(total),
    )


def recall_per_client(total: NDArray[np.int64]) -> PerClient:
    """Returns mean, spread, worst tenth and Jain's index over the counted people, from the sums [WIDTH].

    All are None if fewer than MIN_GROUP people count, the worst tenth also if that tenth holds fewer.

    Source: Jain, Chiu, Hawe 1984, equation 1: (sum x)^2 / (n sum x^2), 1 = everybody has the same.
    """
    sums = dict(zip(_COUNTS, map(int, total)))
    count, histogram = sums["counted"], total[len(_COUNTS) :]
    if count < MIN_GROUP:
        return PerClient(clients=count, mean=None, std=None, worst_tenth_mean=None, jain=None)
    mean, square = sums["recall"] / _SCALE / count, sums["recall_squared"] / _SCALE / count
    return PerClient(
        clients=count,
        mean=mean,
        std=float(np.sqrt(max(0.0, square - mean**2))),
        worst_tenth_mean=worst_tenth_in(histogram),
        jain=mean**2 / square if square else None,
    )


def histograms_of(totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the histograms of recall in sums [num_groups, WIDTH]: [num_groups, BINS]."""
    return totals[:, len(_COUNTS) :]


def recall_histogram(total: NDArray[np.int64]) -> tuple[int, ...]:
    """Returns how many of the counted people have a recall in each of the BINS bins."""
    return tuple(map(int, total[len(_COUNTS) :]))


def worst_tenth_in(histogram: NDArray[np.int64]) -> Optional[float]:
    """Returns the mean recall of the worst tenth of the people, to half a bin; None if it holds fewer than MIN_GROUP.

    >>> histogram = np.zeros(BINS, int)
    >>> histogram[[12, 25]] = 5, 95  # of 100 people ten: (5 * 12.5 + 5 * 25.5) / 10 percent
    >>> worst_tenth_in(histogram)
    0.19
    """
    worst = size_of_worst_tenth(int(histogram.sum()))
    if not worst:
        return None
    taken = np.diff(np.minimum(np.cumsum(np.concatenate([[0], histogram])), worst))
    return float(taken @ _middles() / worst)


def _middles() -> NDArray[np.float64]:
    return (np.arange(BINS) + 0.5) / BINS


class Spread(NamedTuple):
    """How far the shares of groups lie apart; None below two groups."""

    gap: Optional[float]  # the largest minus the smallest
    ratio: Optional[float]  # the smallest over the largest


def recall_spread(names: Sequence[str], totals: NDArray[np.int64]) -> Spread:
    """Returns how far the groups' pooled top-1 recalls lie apart.

    Args:
      names: of the shown groups.
      totals: [num_groups, WIDTH], their sums.
    """
    sums = {name: dict(zip(_COUNTS, map(int, total))) for name, total in zip(names, totals)}
    return spread({name: (own["hits1"], own["positions"]) for name, own in sums.items()})


def spread(shares: Mapping[str, tuple[int, int]]) -> Spread:
    """Returns how far shares lie apart, by fairlearn.

    Args:
      shares: {group: (how many, of how many)}.

    >>> spread({"a": (1, 4), "b": (2, 4)})
    Spread(gap=0.25, ratio=0.5)
    """
    if len(shares) < 2:
        return Spread(None, None)
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
    return Spread(gap=float(frame.difference()["share"]), ratio=float(frame.ratio()["share"]))


class Permuted(NamedTuple):
    """The outcome of a permutation test; None below two groups."""

    gap: Optional[float]  # between the groups' mean recalls
    p_value: Optional[float]
    permutations: int


def permutation_test(histograms: NDArray[np.int64], seed: int) -> Permuted:
    """Tests how often shuffling people between the groups gives means as many standard errors apart as theirs.

    People keep their recall, to the bin, and swap groups. The statistic is the largest of Welch's t between two groups:
    a bare gap raises false alarms when a small group types little, for then its recalls scatter more than the others'.
    The rate of false alarms is in docs/fairness.md.

    Sums over shuffled groups, made by the clients, would do as well, but they would give everything away: from as many
    sums as there are people, each person's figures follow by linear algebra.

    Source: Phipson & Smyth 2010, the p-value's plus one; Janssen 1997, https://doi.org/10.1016/S0167-7152(97)00043-6,
    the studentised statistic.

    Args:
      histograms: [num_groups, BINS], counted people by recall.
      seed: of the permutations.
    """
    samples = [np.repeat(_middles(), histogram) for histogram in histograms]
    if len(samples) < 2:
        return Permuted(None, None, 0)

    means = [float(sample.mean()) for sample in samples]
    result = stats.permutation_test(
        samples,
        _largest_welch_t,
        vectorized=True,
        n_resamples=NUM_PERMUTATIONS,
        batch=500,
        alternative="greater",
        random_state=np.random.default_rng(seed),
    )
    return Permuted(max(means) - min(means), float(result.pvalue), len(result.null_distribution))


def _largest_welch_t(*groups: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The largest difference of two groups' means in standard errors; a bin's width keeps these above zero."""
    means = np.stack([group.mean(axis=axis) for group in groups])
    within_a_bin = 1 / (12 * BINS**2)
    squares = np.stack(
        [
            (group.var(axis=axis) * group.shape[axis] / max(1, group.shape[axis] - 1) + within_a_bin)
            / group.shape[axis]
            for group in groups
        ]
    )
    pairs = itertools.combinations(range(len(groups)), 2)
    return np.max([np.abs(means[i] - means[j]) / np.sqrt(squares[i] + squares[j]) for i, j in pairs], axis=0)
