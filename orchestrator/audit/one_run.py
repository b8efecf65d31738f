"""Bounds epsilon from below by one run: a coin puts each of many canaries in or not, and an attacker guesses which.

Source: Steinke, Nasr, Jagielski 2023, https://arxiv.org/abs/2305.08846.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.audit.leakage_results import OneRun

CONFIDENCE = 0.95


def one_run_p_value(num_canaries: int, num_guesses: int, num_right: int, epsilon: float, delta: float) -> float:
    """Returns the highest probability of num_right or more right guesses under an (epsilon, delta)-private mechanism.

    Args:
      num_canaries: each of which was in with probability 1/2.
      num_guesses: fixed before the outcome is seen; the other canaries are not guessed at.
      num_right: of the guesses.
      epsilon: 0 or more.
      delta: in 0..1.

    Raises:
      ValueError: right <= guesses <= canaries does not hold.

    Source: Steinke et al. 2023, theorem 5.2.

    >>> one_run_p_value(2, 2, 2, 0.0, 0.0)  # two coins guessed
    0.25
    """
    from scipy.stats import binom

    if not 0 <= num_right <= num_guesses <= num_canaries:
        raise ValueError(
            f"num_right <= num_guesses <= num_canaries must hold, got {num_right}, {num_guesses}, {num_canaries}"
        )
    probability = 1.0 / (1.0 + np.exp(-epsilon))
    tail = float(binom.sf(num_right - 1, num_guesses, probability))
    if delta == 0.0 or num_right == 0:
        return min(1.0, tail)
    steps = np.arange(1, num_right + 1)
    masses = np.cumsum(binom.pmf(num_right - steps, num_guesses, probability))
    return min(1.0, tail + 2.0 * num_canaries * delta * float((masses / steps).max()))


def epsilon_lower_bound(
    num_canaries: int, num_guesses: int, num_right: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """Returns the largest epsilon that this many right guesses rule out, at a confidence; 0 if they rule out none.

    >>> round(epsilon_lower_bound(100, 100, 100, 0.0), 3), epsilon_lower_bound(1000, 1000, 500, 0.0)
    (3.493, 0.0)
    """
    allowed = 1.0 - confidence
    if one_run_p_value(num_canaries, num_guesses, num_right, 0.0, delta) > allowed:
        return 0.0
    low, high = 0.0, 1.0
    while one_run_p_value(num_canaries, num_guesses, num_right, high, delta) <= allowed:
        low, high = high, 2.0 * high
        if high > 100.0:
            return low
    for _ in range(50):
        middle = (low + high) / 2
        if one_run_p_value(num_canaries, num_guesses, num_right, middle, delta) <= allowed:
            low = middle
        else:
            high = middle
    return low


def bound_by_guesses(
    scores: NDArray[np.floating],
    included: NDArray[np.bool_],
    num_guesses: int,
    delta: float,
    confidence: float = CONFIDENCE,
) -> OneRun:
    """Returns the bound from guessing that canaries with the highest scores are in and those with the lowest are out.

    Args:
      scores: of the canaries.
      included: which were in, by the toss of a coin each.
      num_guesses: fixed before the outcome is seen.
      delta: at which epsilon is bounded.
      confidence: of the bound.
    """
    right = count_right(scores, included, num_guesses)
    epsilon = epsilon_lower_bound(scores.size, num_guesses, right, delta, confidence)
    return OneRun(scores.size, num_guesses, right, confidence, epsilon)


def count_right(scores: NDArray[np.floating], included: NDArray[np.bool_], num_guesses: int) -> int:
    """Returns how many guesses are right, if half of them call the highest scores in and half call the lowest out.

    >>> count_right(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]), 2)
    2
    """
    order = np.argsort(-scores, kind="stable")
    called_in, called_out = order[: (num_guesses + 1) // 2], order[len(order) - num_guesses // 2 :]
    return int(included[called_in].sum() + (~included[called_out]).sum())
