"""Draws Skellam noise: integers that clients add in shares, which sum to exactly what one party would have drawn.

Sk(variance) is the difference of two Poisson draws of half the variance each. A sum of n independent Sk(v / n) is
Sk(v). So each of n clients adds a share before it masks its vector, and whoever sees the sum sees all of the noise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import lru_cache

import dp_accounting
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from scipy import stats

_ORDERS = tuple(range(2, 64)) + tuple(range(64, 512, 8)) + tuple(range(512, 4097, 64))
_LEAST_VARIANCE, _MOST_VARIANCE = 1e-4, 1e8  # that are looked at, in units of the sensitivity
RandomBytes = Callable[[int], bytes]


def skellam_rdp(order: int, variance: float, l1: float, l2_squared: float) -> float:
    """Returns the bound on the Renyi divergence of one Skellam release of integers.

    Args:
      order: a whole number above 1.
      variance: of the noise in each coordinate.
      l1: the L1 sensitivity.
      l2_squared: the square of the L2 sensitivity.

    Source: Agarwal, Kairouz, Liu 2021, "The Skellam Mechanism for Differentially Private Federated Learning",
    corollary 3.6.
    """
    gaussian = order * l2_squared / (2 * variance)
    excess = min(((2 * order - 1) * l2_squared + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))
    return gaussian + excess


def epsilon_of(variance: float, sensitivity: int, delta: float) -> float:
    """Returns the epsilon of one release in which a person changes at most `sensitivity` coordinates, each by one.

    >>> round(epsilon_of(variance=2000.0, sensitivity=800, delta=1e-6), 2)
    3.14
    """
    if variance == 0:
        return math.inf
    divergences = [skellam_rdp(order, variance, sensitivity, sensitivity) for order in _ORDERS]
    return float(dp_accounting.rdp.compute_epsilon(_ORDERS, divergences, delta)[0])


def variance_for(epsilon: float, sensitivity: int, delta: float) -> float:
    """Returns the least variance with which a release has at most this epsilon; 0 for an infinite one.

    Bisection, since much noise has an epsilon of exactly 0 at a large delta. What is returned was tried itself.

    Raises:
      ValueError: epsilon or delta is out of range, or epsilon is so small that no variance reaches it.
    """
    if math.isinf(epsilon) and epsilon > 0:
        return 0.0
    if not (epsilon > 0 and 0 < delta < 1):
        raise ValueError(f"epsilon must be above 0 and delta in 0..1, got epsilon={epsilon}, delta={delta}")
    low, high = _LEAST_VARIANCE * sensitivity, _MOST_VARIANCE * sensitivity
    if epsilon_of(low, sensitivity, delta) <= epsilon:
        return low
    if epsilon_of(high, sensitivity, delta) > epsilon:
        raise ValueError(f"epsilon is too small for delta={delta:g}: raise one of them, got epsilon={epsilon:g}")
    while high > low * (1 + 1e-9):
        middle = math.sqrt(low * high)
        if epsilon_of(middle, sensitivity, delta) <= epsilon:
            high = middle
        else:
            low = middle
    return high


def draw_skellam(variance: float, size: int, random_bytes: RandomBytes) -> NDArray[np.int64]:
    """Draws independent Skellam noise, int64 [size], by inversion of the distribution at 53 random bits.

    Values beyond its table are never drawn; their probability is below 2**-52 a draw.

    Args:
      variance: of each draw.
      size: number of draws.
      random_bytes: returns as many bytes as it is asked for; `secret_bytes` outside tests.
    """
    if variance == 0:
        return np.zeros(size, np.int64)
    lowest, thresholds = _table(variance)
    bits = np.frombuffer(random_bytes(8 * size), "<u8") >> np.uint64(11)
    return lowest + np.searchsorted(thresholds, bits, side="right")


@lru_cache(maxsize=8)
def _table(variance: float) -> tuple[int, NDArray[np.uint64]]:
    """(the smallest value, for each value but the last the bound, in 2**-53, below which a draw is that value)."""
    half = variance / 2
    reach = int(9 * math.sqrt(variance)) + 40
    values = np.arange(-reach, reach + 1)
    probabilities = stats.skellam.pmf(values, half, half)
    below = np.minimum(np.cumsum(probabilities) / probabilities.sum(), 1.0)
    return -reach, np.rint(below[:-1] * 2.0**53).astype(np.uint64)


def secret_bytes(size: int) -> bytes:
    """Returns `size` bytes of an AES-256-CTR key stream under a fresh key from the operating system."""
    encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(bytes(size))
