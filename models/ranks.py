"""How many words a model proposes before the one that was typed."""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import NUM_SPECIAL


def target_ranks(scores: NDArray[np.floating], targets: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns how many words are proposed before each target, int64 [n]; 0 = the target comes first.

    Of words with equal scores the smaller id comes first. PAD, BOS, EOS and UNK are never proposed; as
    targets they rank behind all words.

    Args:
        scores: [n, vocabulary_size], probabilities, logits or other scores; the highest is proposed first.
        targets: [n], ids in 0..vocabulary_size - 1.

    Raises:
        ValueError: no positions, shapes that do not fit, a target outside the vocabulary, a NaN as score.

    >>> scores = np.array([[9, 9, 9, 9, 0.5, 0.7, 0.5]])  # the four special ids, then words 4, 5, 6
    >>> [int(target_ranks(scores, np.array([word]))[0]) for word in (5, 4, 6)]
    [0, 1, 2]
    """
    scores, targets = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2 or len(scores) == 0 or scores.shape[1] <= NUM_SPECIAL:
        raise ValueError(
            f"scores must have the shape [n >= 1, vocabulary_size > {NUM_SPECIAL}], got shape {scores.shape}"
        )
    if targets.shape != (len(scores),):
        raise ValueError(f"targets must have the shape ({len(scores)},), got shape {targets.shape}")
    outside = targets[(targets < 0) | (targets >= scores.shape[1])]
    if outside.size:
        raise ValueError(f"targets must be ids in 0..{scores.shape[1] - 1}, got {outside[0]}")
    words = scores[:, NUM_SPECIAL:]
    if np.isnan(words.max(axis=1)).any():  # NaN is above nothing: a broken model would seem always right
        position, word = np.argwhere(np.isnan(words))[0]
        raise ValueError(f"scores must not be NaN, got scores[{position}, {word + NUM_SPECIAL}]=nan")
    ranks = np.full(len(scores), words.shape[1])
    for position in np.flatnonzero(targets >= NUM_SPECIAL):  # a row fits into the cache, but not all rows at once
        ranks[position] = rank_in(scores[position], targets[position])
    return ranks


def rank_in(row: NDArray[np.floating], target: int) -> int:
    """Returns how many words are proposed before a target that is a word; see target_ranks.

    >>> rank_in(np.array([9, 9, 9, 9, 0.5, 0.7, 0.5]), 6)
    2
    """
    tied = row[NUM_SPECIAL:target] == row[target]
    return np.count_nonzero(row[NUM_SPECIAL:] > row[target]) + np.count_nonzero(tied)


class Candidates(NamedTuple):
    """Words that can be among the first three at some positions, n in number. The first three axes are one.

    Attributes:
      positions: whose the candidate is, 0..n - 1.
      ids: the words; what is no word is passed over. A word may stand there several times.
      floor: its score, or less; one entry of each word has the score itself.
      rest: [n]; no other word has a higher score.
    """

    positions: NDArray[np.int64]
    ids: NDArray[np.int32]
    floor: NDArray[np.floating]
    rest: NDArray[np.floating]


def first_places(
    candidates: Candidates,
    targets: NDArray[np.integer],
    of_target: NDArray[np.floating],
    row: Callable[[int], NDArray[np.floating]],
) -> NDArray[np.int64]:
    """Returns the rank of each target, int64 [n], as target_ranks does; 3 stands for all ranks from 3 on.

    Args:
      candidates: of the n positions.
      targets: [n], ids of words.
      of_target: [n], their scores.
      row: returns all scores of a position; asked where the candidates do not settle the rank, as with ties.

    >>> scores = np.array([9, 9, 9, 9, 0.5, 0.7, 0.5, 0.1])
    >>> known = Candidates(np.array([0, 0]), np.array([4, 5]), scores[4:6], rest=scores[6:7])
    >>> [int(first_places(known, np.array([word]), scores[[word]], lambda _: scores)[0]) for word in (5, 6, 7)]
    [0, 2, 3]
    """
    positions, ids, floor, rest = candidates
    score = of_target[positions]
    is_ahead = (floor > score) | ((floor == score) & (ids < targets[positions]))
    is_ahead &= ids >= NUM_SPECIAL
    past_all = int(ids.max(initial=0)) + 1
    words = np.unique(positions[is_ahead] * past_all + ids[is_ahead])
    ranks = np.minimum(np.bincount(words // past_all, minlength=len(targets)), 3)
    for position in np.flatnonzero((ranks < 3) & ~(of_target > rest)):
        ranks[position] = min(rank_in(row(position), targets[position]), 3)
    return ranks
