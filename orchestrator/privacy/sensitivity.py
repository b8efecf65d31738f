"""How far one person can move what DP-FTRL hides under noise: the tree's nodes, or the rows of a banded matrix.

Squared L2 sensitivities are in units of the clip norm: a person adds at most 1 to each round it takes part in.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

_IMPOSSIBLE = -np.inf


def tree_squared(rounds: Iterable[int], num_rounds: int) -> int:
    """The sum of the squared counts of `rounds` over the complete nodes of a binary tree on rounds 1..num_rounds.

    Nodes are the blocks of 2^h rounds that end at a multiple of 2^h.

    >>> tree_squared([1, 2], 2)  # two leaves with one, their parent with two
    6
    """
    at, total = np.sort(np.fromiter(rounds, np.int64)) - 1, 0
    level = 0
    while num_rounds >> level:
        complete = at[at >> level < num_rounds >> level] >> level
        total += int(np.square(np.unique(complete, return_counts=True)[1]).sum())
        level += 1
    return total


def tree_squared_at_separation(num_rounds: int, max_participations: int, separation: int) -> int:
    """The largest tree_squared of max_participations rounds that lie at least `separation` apart.

    Source: Kairouz, McMahan, Song, Thakkar, Thakurta, Xu 2021, https://arxiv.org/abs/2103.00039, appendix D.2, as a
    product of matrices over (max, +): entry [s, e] of a block is the best for a first participation at or after place
    s, if a participation, which takes `separation` places, may stand e places out at the end.

    >>> tree_squared_at_separation(2000, 6, 314)  # 313 rounds between two: Google's Spanish Gboard model
    79
    """
    start = np.arange(separation)[:, None]
    overhang = np.arange(separation)[None, :]

    @cache
    def best(count: int, length: int) -> NDArray[np.float64]:
        fits = start + separation * count <= length + overhang
        if count == 0 or not fits.any():
            return np.where(fits, 0.0, _IMPOSSIBLE)
        if length == 1:
            return np.where(fits, 1.0, _IMPOSSIBLE)
        left_length = 1 << ((length - 1).bit_length() - 1)
        own = count**2 if length == 2 * left_length else 0
        result = np.full((separation, separation), _IMPOSSIBLE)
        for right_count in range(count + 1):
            left, right = best(count - right_count, left_length), best(right_count, length - left_length)
            for gap in np.flatnonzero(np.isfinite(left).any(0) & np.isfinite(right).any(1)):
                np.maximum(result, left[:, gap, None] + right[None, gap, :], out=result)
        return np.where(fits, result + own, _IMPOSSIBLE)

    participations = min(max_participations, -(-num_rounds // separation))
    return int(best(participations, num_rounds)[0, -1])


def tree_squared_of_rotation(num_rounds: int, separation: int) -> int:
    """The largest tree_squared of a person who takes part in every separation-th round, from any first one on.

    >>> tree_squared_of_rotation(4, 2)
    8
    """
    return max(
        tree_squared(range(first, num_rounds + 1, separation), num_rounds)
        for first in range(1, min(separation, num_rounds) + 1)
    )


def square_root_coefficients(bands: int) -> NDArray[np.float64]:
    """The first column [bands] of the lower-triangular Toeplitz square root of the prefix sums, cut to a band.

    Source: c_j = binom(2j, j) / 4^j: Fichtenberger, Henzinger, Upadhyay 2023, https://arxiv.org/abs/2202.11205;
    banded: Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153.

    >>> square_root_coefficients(3).tolist()
    [1.0, 0.5, 0.375]
    """
    steps = np.arange(1, bands)
    return np.concatenate([[1.0], np.cumprod((2 * steps - 1) / (2 * steps))])


def banded_squared(coefficients: NDArray[np.float64], participations: int) -> float:
    """The squared sensitivity of `participations` that lie at least len(coefficients) rounds apart.

    Their columns of the banded matrix share no row, so their squares add up.

    >>> banded_squared(square_root_coefficients(2), 3)
    3.75
    """
    return participations * float(np.square(coefficients).sum())
