"""How far one person can move what DP-FTRL hides under noise: the tree's nodes, or the rows of a matrix.

Squared L2 sensitivities are in units of the clip norm: a person adds at most 1 to each round it takes part in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from orchestrator.settings.noise_shape import Buffer


def tree_squared(rounds: Iterable[int], num_rounds: int) -> int:
    """Returns the sum of squared counts of `rounds` over the complete nodes of a binary tree on rounds 1..num_rounds.

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


def tree_squared_of_rotation(num_rounds: int, separation: int) -> int:
    """Returns the largest tree_squared of a person who takes part in every separation-th round, from any first one on.

    >>> tree_squared_of_rotation(4, 2)
    8
    """
    return max(
        tree_squared(range(first, num_rounds + 1, separation), num_rounds)
        for first in range(1, min(separation, num_rounds) + 1)
    )


def square_root_coefficients(bands: int) -> NDArray[np.float64]:
    """Returns the first column [bands] of the prefix sums' lower-triangular Toeplitz square root, cut to a band.

    Source: c_j = binom(2j, j) / 4^j: Fichtenberger, Henzinger, Upadhyay 2023, https://arxiv.org/abs/2202.11205;
    banded: Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153.

    >>> square_root_coefficients(3).tolist()
    [1.0, 0.5, 0.375]
    """
    steps = np.arange(1, bands)
    return np.concatenate([[1.0], np.cumprod((2 * steps - 1) / (2 * steps))])


def banded_squared(coefficients: NDArray[np.float64], participations: int) -> float:
    """Returns the squared sensitivity of `participations` that lie at least len(coefficients) rounds apart.

    Their columns of the banded matrix share no row, so their squares add up.

    >>> banded_squared(square_root_coefficients(2), 3)
    3.75
    """
    return participations * float(np.square(coefficients).sum())


def buffered_coefficients(buffers: Sequence[Buffer], num_rounds: int) -> NDArray[np.float64]:
    """Returns the first column [num_rounds] of the lower-triangular Toeplitz matrix of a BLT.

    Source: Dvijotham, McMahan, Pillutla, Steinke, Thakurta 2024, https://arxiv.org/abs/2404.16706, definition 1.

    >>> buffered_coefficients([Buffer(0.5, 0.4)], 4).tolist()
    [1.0, 0.4, 0.2, 0.1]
    """
    column = np.zeros(num_rounds)
    column[:1] = 1.0
    for one in buffers:
        impulse = np.zeros(max(0, num_rounds - 1))
        impulse[:1] = one.scale
        column[1:] += lfilter([1.0], [1.0, -one.decay], impulse)
    return column


def buffered_squared(buffers: Sequence[Buffer], num_rounds: int, separation: int) -> float:
    """Returns the squared sensitivity of a BLT for whoever takes part in every separation-th round.

    The columns are not negative and fall, so nobody whose participations lie as far apart or farther moves the rows
    more than the person who takes part in the first round and every separation-th one after it.

    Source: McMahan, Xu, Zhang 2024, https://arxiv.org/abs/2408.08868, equation 8; Kalinin and Lampert 2024,
    https://arxiv.org/abs/2405.13763, theorem 2.

    >>> round(buffered_squared([Buffer(0.5, 0.4)], 3, 2), 4)  # rows 1, 0.4 and 0.2 + 1
    2.6
    """
    column, rows = buffered_coefficients(buffers, num_rounds), np.zeros(num_rounds)
    for first in range(0, num_rounds, separation):
        rows[first:] += column[: num_rounds - first]
    return float(np.square(rows).sum())
