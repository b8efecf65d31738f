"""Noise that rounds share (DP-FTRL): what a round's sum gets is partly taken back in later rounds.

Each function yields the noise of round 1, 2, ..., in units of the noise's standard deviation. It is made anew from the
sealed seed after a resume, so no checkpoint holds it; it keeps log2(rounds) vectors (tree), bands + 7 (matrix) or one
a buffer (BLT).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.settings.noise_shape import Buffer

ROUNDS_AHEAD = 8

# Independent standard normal numbers [dim] for each label, in an array that is given away.
Draw = Callable[[str], NDArray[np.float64]]


def tree_noise(draw: Draw) -> Iterator[NDArray[np.float64]]:
    """Yields each round's noise under tree aggregation: the running sum is that of the best estimate from below.

    A node's estimate joins its own noise and the sum of its children's estimates, weighted by their precision: the
    variance of a node of level h falls from 1 to v_h = 2 v_{h-1} / (1 + 2 v_{h-1}).

    Source: Honaker 2015, "Efficient use of differentially private binary trees", estimate from below; Kairouz et al.
    2021, https://arxiv.org/abs/2103.00039, appendix B.1.
    """
    complete: list[tuple[int, float, NDArray[np.float64]]] = []  # (level, variance, estimate), as the bits of the round
    for round_num in count(1):
        level, variance, node = 0, 1.0, draw(f"node 0 {round_num}")
        taken_back = None
        while complete and complete[-1][0] == level:
            left = complete.pop()[2]
            level += 1
            own_weight = 2 * variance / (1 + 2 * variance)
            own = draw(f"node {level} {round_num >> level}")
            own *= own_weight
            node += left
            node *= 1 - own_weight
            node += own
            variance = own_weight
            taken_back = left if taken_back is None else np.add(taken_back, left, out=left)
        complete.append((level, variance, node))
        if taken_back is None:
            yield node
        else:
            # A leaf was yielded, so it stays as it is; no inner node was, and this one is used up.
            yield np.subtract(node, taken_back, out=None if level == 1 else taken_back)


def matrix_noise(draw: Draw, coefficients: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yields each round's noise under a banded Toeplitz factorisation: C^-1 z, row by row.

    What a round takes back of the rounds before it is summed up some rounds ahead, so that the ring of their noise,
    too large for any cache, is read once for all of these.

    Source: Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153, algorithm 8 (banded inverse multiplication).
    """
    kept = len(coefficients) - 1
    recent = ahead = np.zeros((0, 0), np.float32)  # ring of the noise of the last `kept` rounds; sums for the next ones
    for place in count(0):
        noise = draw(f"row {place + 1}")
        if kept:
            if not recent.size:
                recent = np.empty((kept, len(noise)), np.float32)
            step = place % ROUNDS_AHEAD
            if step == 0:
                ahead = _taken_back(coefficients, place) @ recent[: min(place, kept)]
            taken_back = ahead[step]
            for back in range(1, min(step, kept) + 1):
                taken_back = taken_back + np.float32(coefficients[back]) * recent[(place - back) % kept]
            noise = (noise - taken_back) / coefficients[0]
            recent[place % kept] = noise
        yield noise


def _taken_back(coefficients: NDArray[np.float64], place: int) -> NDArray[np.float32]:
    """Returns the factors by which the next rounds take back each round in the ring, [rounds ahead, filled rows]."""
    kept = len(coefficients) - 1
    weights = np.zeros((ROUNDS_AHEAD, min(place, kept)), np.float32)
    for back in range(1, weights.shape[1] + 1):
        own = coefficients[back : back + ROUNDS_AHEAD]
        weights[: len(own), (place - back) % kept] = own
    return weights


def buffered_noise(draw: Draw, buffers: Sequence[Buffer]) -> Iterator[NDArray[np.float64]]:
    """Yields each round's noise under a BLT: C^-1 z, row by row, from a vector for each buffer.

    A buffer keeps a decaying sum of the noise that was yielded, and each round takes a share of it back.

    Source: McMahan, Xu, Zhang 2024, https://arxiv.org/abs/2408.08868, algorithm 2, solved for the noise of a round.
    """
    kept: list[NDArray[np.float64]] = []
    for round_num in count(1):
        noise = draw(f"row {round_num}")
        if not kept:
            kept = [np.zeros(len(noise)) for _ in buffers]
        for own, buffer in zip(kept, buffers):
            noise -= buffer.scale * own
        for own, buffer in zip(kept, buffers):
            own *= buffer.decay
            own += noise
        yield noise


def prefix_variances(noise: Callable[[Draw], Iterator[NDArray[np.float64]]], num_rounds: int) -> NDArray[np.float64]:
    """Returns the variance [num_rounds] of the running sum of the noise, which is exact, not sampled.

    >>> prefix_variances(tree_noise, 4).round(4).tolist()
    [1.0, 0.6667, 1.6667, 0.5714]
    """
    return np.square(np.cumsum(unit_responses(noise, num_rounds), axis=0)).sum(1)


def unit_responses(noise: Callable[[Draw], Iterator[NDArray[np.float64]]], num_rounds: int) -> NDArray[np.float64]:
    """Returns how much each independent draw enters each round's noise, [num_rounds, 2 * num_rounds].

    The draws of a stand-in are unit vectors, one dimension for each label.

    >>> unit_responses(lambda draw: matrix_noise(draw, np.array([1.0, 0.5])), 2).tolist()
    [[1.0, 0.0, 0.0, 0.0], [-0.5, 1.0, 0.0, 0.0]]
    """
    dims: dict[str, int] = {}

    def unit(label: str) -> NDArray[np.float64]:
        vector = np.zeros(2 * num_rounds)
        vector[dims.setdefault(label, len(dims))] = 1.0
        return vector

    return np.stack([own for _, own in zip(range(num_rounds), noise(unit))])
