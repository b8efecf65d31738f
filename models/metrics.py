"""Measures how well a predictor does: top-k recall and cross-entropy, pooled and per person, with intervals.

A position is scored if its target is a word of the vocabulary (id >= NUM_SPECIAL). Unknown words are
counted apart, the end of a sentence is not scored, and PAD, BOS, EOS and UNK are never proposed.
Recalls are fractions in 0..1; losses are in nats (natural logarithm).

The figures come from `PositionScores` where the text is at hand, and from federated evaluation, which
returns only sums per person. Both give `ClientSums`, from which everything else is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.disclosure import size_of_worst_tenth
from models.ranks import target_ranks
from models.vocabulary import NUM_SPECIAL

CONFIDENCE = 0.95
# The bootstrap holds at most this many resampled numbers at once, in a few arrays of 8 bytes each.
_RESAMPLED_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class ClientSums:
    """Sums over each person's positions; every array is [num_clients], people in one fixed order."""

    hits1: NDArray[np.int64]  # target was the first proposal
    hits3: NDArray[np.int64]  # target was among the first three
    nll_sum_nats: NDArray[np.float64]  # minus log-probability of the targets, summed
    positions: NDArray[np.int64]  # scored positions
    oov: NDArray[np.int64]  # targets outside the vocabulary; not among `positions`

    def __post_init__(self) -> None:
        for name in ("hits1", "hits3", "nll_sum_nats", "oov"):
            shape = np.shape(getattr(self, name))
            if np.ndim(self.positions) != 1 or shape != np.shape(self.positions):
                raise ValueError(
                    f"{name} and positions must have one shape [num_clients], "
                    f"got {shape} and {np.shape(self.positions)}"
                )
        ordered = (self.hits1 >= 0) & (self.hits1 <= self.hits3) & (self.hits3 <= self.positions)
        if not np.all(ordered):
            client = int(np.argmin(ordered))
            raise ValueError(
                "0 <= hits1 <= hits3 <= positions must hold for every client, got "
                f"{self.hits1[client]}, {self.hits3[client]}, {self.positions[client]} at client {client}"
            )


@dataclass(frozen=True)
class PositionScores:
    """How each scored position went; every array is [num_positions]."""

    hit1: NDArray[np.bool_]
    hit3: NDArray[np.bool_]
    nll_nats: NDArray[np.float64]
    person: NDArray[np.int64]  # index of the person who wrote it, 0..num_clients - 1

    @staticmethod
    def join(parts: Sequence[PositionScores]) -> PositionScores:
        """Returns the positions of all parts, one after the other."""
        names = ("hit1", "hit3", "nll_nats", "person")
        return PositionScores(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def client_sums(self, num_clients: int, oov: Optional[NDArray[np.integer]] = None) -> ClientSums:
        """Returns the sums per person; people without a scored position have zeros.

        Args:
            num_clients: number of people, more than any index in `person`.
            oov: [num_clients], out-of-vocabulary targets of each person; none if not given.

        Raises:
            ValueError: a person's index is not below num_clients, or oov is of another length.
        """
        if self.person.size and self.person.max() >= num_clients:
            raise ValueError(
                f"num_clients must exceed every person index, got num_clients={num_clients} "
                f"and index {self.person.max()}"
            )
        return ClientSums(
            hits1=np.bincount(self.person[self.hit1], minlength=num_clients),
            hits3=np.bincount(self.person[self.hit3], minlength=num_clients),
            nll_sum_nats=np.bincount(self.person, self.nll_nats, num_clients).astype(np.float64),
            positions=np.bincount(self.person, minlength=num_clients),
            oov=np.zeros(num_clients, np.int64) if oov is None else np.asarray(oov, np.int64),
        )


@dataclass(frozen=True)
class RecallSummary:
    """The figures of one predictor on one set of people. Recalls are fractions in 0..1."""

    top1: float  # pooled: hits / positions over everybody
    top3: float
    loss_nats_per_token: float
    top1_interval: Optional[tuple[float, float]]  # 95 % over people; None below two people
    top1_per_client_mean: Optional[float]  # mean of people's recalls; None if nobody has min_positions
    top1_worst_tenth_mean: Optional[
        float
    ]  # the same over the worst tenth of those people; None if it is under MIN_GROUP
    min_positions: int  # what a person needs to enter the two means above
    clients_averaged: int  # people who entered them
    clients: int  # people with at least one scored position
    positions: int
    oov: int
    oov_rate: float  # oov / (oov + positions)


def score_positions(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer], person: NDArray[np.integer]
) -> PositionScores:
    """Returns how each position went.

    Args:
        probabilities: [n, vocabulary_size], in 0..1; a target of probability 0 gives an infinite loss.
        targets: [n], ids of words, NUM_SPECIAL..vocabulary_size - 1.
        person: [n], index of the person who wrote the position, from 0.

    Raises:
        ValueError: what `target_ranks` refuses, a target that is no word, a probability outside 0..1, or a
            person array of another length or with a negative index.
    """
    targets = np.asarray(targets)
    ranks = target_ranks(probabilities, targets)
    if targets.min() < NUM_SPECIAL:
        raise ValueError(f"targets must be words (id >= {NUM_SPECIAL}), got {targets.min()}")
    return score_ranks(ranks, np.asarray(probabilities)[np.arange(len(targets)), targets], person)


def score_ranks(
    ranks: NDArray[np.integer], of_target: NDArray[np.floating], person: NDArray[np.integer]
) -> PositionScores:
    """Returns how each position went, from the ranks of the targets.

    Args:
        ranks: [n], how many words were proposed before each target.
        of_target: [n], the probability of each target, in 0..1.
        person: as of score_positions.

    Raises:
        ValueError: a probability outside 0..1, or a person array of another length or with a negative index.
    """
    person, of_target = np.asarray(person), of_target.astype(np.float64)
    if person.shape != ranks.shape:
        raise ValueError(f"person must have the shape {ranks.shape}, got shape {person.shape}")
    if person.min() < 0:
        raise ValueError(f"person must hold indices from 0, got {person.min()}")
    # Float32 rows may add up to a hair over one, and so may a single entry.
    outside = of_target[(of_target < 0) | (of_target > 1 + 1e-6)]
    if outside.size:
        raise ValueError(f"probabilities must be in 0..1, got {outside[0]}")
    with np.errstate(divide="ignore"):
        nll_nats = -np.log(np.minimum(of_target, 1.0))
    return PositionScores(ranks < 1, ranks < 3, nll_nats, person.astype(np.int64))


def top1_per_client(sums: ClientSums, min_positions: int = 20) -> NDArray[np.float64]:
    """Returns the top-1 recall of each person with at least `min_positions` positions, float64, in order.

    A person with three positions has a recall of 0, 1/3, 2/3 or 1, which says little: hence `min_positions`.

    Raises:
        ValueError: min_positions below 1.
    """
    if min_positions < 1:
        raise ValueError(f"min_positions must be at least 1, got min_positions={min_positions}")
    enough = sums.positions >= min_positions
    return sums.hits1[enough] / sums.positions[enough]


def worst_tenth_mean(recalls: NDArray[np.floating]) -> Optional[float]:
    """Returns the mean recall of the worst tenth of the people, None if that tenth holds fewer than MIN_GROUP.

    >>> worst_tenth_mean(np.linspace(0.0, 1.0, 101))  # eleven of 101: (0.00 + ... + 0.10) / 11
    0.05
    """
    size = size_of_worst_tenth(len(recalls))
    return float(np.sort(recalls)[:size].mean()) if size else None


def summarise(sums: ClientSums, min_positions: int = 20, num_resamples: int = 9999, seed: int = 0) -> RecallSummary:
    """Returns the figures of one predictor.

    Args:
        sums: of the people it was tried on.
        min_positions: what a person needs to enter the means over people.
        num_resamples, seed: of the bootstrap over people; equal seeds give equal intervals.

    Raises:
        ValueError: no scored position, or min_positions or num_resamples below 1.

    Two people, 1 hit of 2 and 3 of 6: pooled 4/8.

    >>> columns = [1, 3], [2, 4], [4.0, 12.0], [2, 6], [0, 2]
    >>> sums = ClientSums(*map(np.array, columns))
    >>> summary = summarise(sums, min_positions=1)
    >>> summary.top1, summary.top3, summary.loss_nats_per_token, summary.top1_interval, summary.oov_rate
    (0.5, 0.75, 2.0, (0.5, 0.5), 0.2)
    """
    positions = int(sums.positions.sum())
    if positions == 0:
        raise ValueError(f"sums must hold at least one scored position, got 0 from {len(sums.positions)} clients")
    clients = int(np.count_nonzero(sums.positions))
    recalls = top1_per_client(sums, min_positions)
    oov = int(sums.oov.sum())
    return RecallSummary(
        top1=int(sums.hits1.sum()) / positions,
        top3=int(sums.hits3.sum()) / positions,
        loss_nats_per_token=float(sums.nll_sum_nats.sum()) / positions,
        top1_interval=None if clients < 2 else _interval(sums.hits1, sums.positions, num_resamples, seed),
        top1_per_client_mean=float(recalls.mean()) if len(recalls) else None,
        top1_worst_tenth_mean=worst_tenth_mean(recalls),
        min_positions=min_positions,
        clients_averaged=len(recalls),
        clients=clients,
        positions=positions,
        oov=oov,
        oov_rate=oov / (oov + positions),
    )


def difference_interval(
    first: ClientSums, second: ClientSums, num_resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % interval over people of first's pooled top-1 recall minus second's, low and high end.

    Both are scored on the same positions, and a resampled person brings the hits of both, so that what makes
    a person easy for both cancels out.

    Raises:
        ValueError: the two differ in positions, fewer than two people have any, or num_resamples is below 1.
    """
    if not np.array_equal(first.positions, second.positions):
        raise ValueError(
            "first and second must be scored on the same positions, "
            f"got {first.positions.sum()} of {len(first.positions)} clients and "
            f"{second.positions.sum()} of {len(second.positions)} clients"
        )
    return _interval(first.hits1 - second.hits1, first.positions, num_resamples, seed)


def _pooled(hits: NDArray[np.int64], positions: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
    return hits.sum(axis=axis) / positions.sum(axis=axis)


def _interval(
    hits: NDArray[np.int64], positions: NDArray[np.int64], num_resamples: int, seed: int
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of sum(hits) / sum(positions) over people with any position.

    People are drawn, not positions: one person's positions are alike, so an interval over positions would be
    too narrow.
    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (the percentile interval).
    """
    has_any = positions > 0
    hits, positions = hits[has_any], positions[has_any]
    if len(positions) < 2:
        raise ValueError(f"an interval needs at least 2 clients with scored positions, got {len(positions)}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got num_resamples={num_resamples}")
    interval = stats.bootstrap(
        (hits, positions),
        _pooled,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=num_resamples,
        batch=max(1, _RESAMPLED_AT_ONCE // len(positions)),
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
