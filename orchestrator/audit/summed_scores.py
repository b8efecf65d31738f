"""Bounds epsilon from below by one run, by weighted guesses: the surer the attacker is of a guess, the more it counts.

The game is that of orchestrator.audit.one_run: a coin puts each of m canaries in or not, and the attacker, who sees the
release, guesses n of the coins. Here the guesses are ranked, and a right one adds the weight of its rank to a sum T.
The weights are fixed before the release. docs/adr/0010-summed-scores.md proves what follows.

**Theorem.** Let D(e) be the most by which P(A | coin is 1) can exceed exp(e) P(A | coin is 0), or the other way round,
over all events A of the release, whatever the other coins are. For any hinge k in [1/2, 1) and price c >= 0

    P(T >= t) <= V(t) + c m (1 - k) D(log(k / (1 - k))),

where V(t) is what a player wins on average who comes to one guess after the other and needs a sum of t. Each guess is
right with probability k for nothing, or for sure if the player pays c (1 - k); getting to t wins 1.

Nothing is assumed of how the scores depend on each other, nor of how the attacker guesses. Source: the game is that of
Steinke, Nasr, Jagielski 2023, https://arxiv.org/abs/2305.08846; that the whole curve D limits the attacker is from
Mahloujifar, Melis, Chaudhuri 2024, https://arxiv.org/abs/2410.22235. The proof here is our own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.audit.leakage_results import SummedScores
from orchestrator.privacy.accounting import Cost

_LEVELS = 4  # the surest quarter of the guesses has weight 4, the last quarter 1
_HINGES = np.linspace(0.1, 7.0, 70)  # log(k / (1 - k)); any would do, these make it tight
_PRICES = np.geomspace(0.01, 1.0, 8)
_MOST_EPSILON, _MOST_SHIFT = 50.0, 12.0

Curve = Callable[[NDArray[np.float64], float], NDArray[np.float64]]  # D at each e, of a parameter in which it grows


def epsilon_delta_curve(delta: float) -> Curve:
    """Returns D of any (epsilon, delta)-private mechanism, whose parameter is epsilon.

    >>> epsilon_delta_curve(0.01)(np.array([0.0, 1.0, 2.0]), 1.0).round(4).tolist()
    [0.4675, 0.01, 0.01]
    """

    def curve(e: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
        below = 1.0 - (1.0 - delta) * (1.0 + np.exp(np.minimum(e, epsilon))) / (1.0 + np.exp(epsilon))
        return np.where(e >= epsilon, delta, below)

    return curve


def gaussian_curve(e: NDArray[np.float64], shift: float) -> NDArray[np.float64]:
    """Returns D of a mechanism whose two cases are as hard to tell apart as two normals, `shift` deviations apart.

    Source: Balle and Wang 2018, https://arxiv.org/abs/1805.06530, theorem 5.
    """
    from scipy.stats import norm

    curve = norm.cdf(shift / 2 - e / shift) - np.exp(e) * norm.cdf(-shift / 2 - e / shift)
    return np.maximum(curve, 0.0)  # rounding


def rank_weights(num_guesses: int) -> tuple[int, ...]:
    """Returns the weights of the guesses, the surest first.

    >>> rank_weights(8)
    (4, 4, 3, 3, 2, 2, 1, 1)
    """
    return tuple(-(-_LEVELS * (num_guesses - rank) // num_guesses) for rank in range(num_guesses))


def bound_by_sum(
    scores: NDArray[np.floating],
    included: NDArray[np.bool_],
    num_guesses: int,
    delta: float,
    confidence: float,
) -> SummedScores:
    """Returns the bound from calling the highest scores in and the lowest out, the outermost with the greatest weight.

    Args: as orchestrator.audit.one_run.bound_by_guesses, whose guesses these are.
    """
    weights = rank_weights(num_guesses)
    total, num_canaries = weigh_right(scores, included, weights), len(scores)

    def largest(curve: Curve, most: float) -> float:
        return largest_refuted(weights, total, num_canaries, curve, most, confidence)

    shift = largest(gaussian_curve, _MOST_SHIFT)
    return SummedScores(
        canaries=num_canaries,
        guesses=num_guesses,
        sum=total,
        most=sum(weights),
        confidence=confidence,
        epsilon=largest(epsilon_delta_curve(delta), _MOST_EPSILON),
        epsilon_if_gaussian=Cost(shift**2 / 2).epsilon(delta) if shift > 0 else 0.0,
    )


def weigh_right(scores: NDArray[np.floating], included: NDArray[np.bool_], weights: tuple[int, ...]) -> int:
    """Returns the sum of the weights of the right guesses.

    >>> weigh_right(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]), (4, 3, 2, 1))
    7
    """
    order = np.argsort(-scores, kind="stable")
    num_in, num_out = (len(weights) + 1) // 2, len(weights) // 2
    called_in, called_out = order[:num_in], order[::-1][:num_out]
    of_in, of_out = np.array(weights[::2]), np.array(weights[1::2])
    return int(of_in @ included[called_in] + (of_out @ ~included[called_out] if num_out else 0))


def largest_refuted(
    weights: tuple[int, ...], total: int, num_canaries: int, curve: Curve, most: float, confidence: float
) -> float:
    """Returns the largest parameter of a curve that a sum rules out at a confidence; 0 if it rules out none.

    Args:
      weights: of the guesses, fixed before the release.
      total: the sum of those that were right.
      num_canaries: among which the attacker chose whom to guess.
      curve: D; it grows in its parameter.
      most: where the search for the parameter ends.
    """
    game = _play(weights)
    left = (1.0 - confidence) - game.values[..., total]  # for what the curve allows, [hinges, prices]

    def is_refuted(parameter: float) -> bool:
        excess = num_canaries * (1.0 - game.chances) * curve(game.hinges, parameter)
        return bool((excess[:, np.newaxis] * game.prices <= left).any())

    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if is_refuted(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class _Game:
    """The game's values [hinges, prices, sum of the weights + 1], by how much is needed."""

    hinges: NDArray[np.float64]
    chances: NDArray[np.float64]  # of the hinges: k
    prices: NDArray[np.float64]
    values: NDArray[np.float64]


@functools.lru_cache(maxsize=4)
def _play(weights: tuple[int, ...]) -> _Game:
    """Returns what the player gains on average, less what it pays, for each sum that it may need."""
    chances = 1.0 / (1.0 + np.exp(-_HINGES))
    wrong = (1.0 - chances)[:, np.newaxis, np.newaxis]
    values = np.zeros((len(_HINGES), len(_PRICES), sum(weights) + 1))
    values[..., 0] = 1.0
    for weight in weights:
        if_right = np.ones_like(values)  # nothing is needed any more
        if_right[..., weight:] = values[..., : values.shape[-1] - weight]
        # Right for nothing with chance k, so wrong with 1 - k; for sure, if that gains more than the price.
        values = if_right - wrong * np.minimum(if_right - values, _PRICES[np.newaxis, :, np.newaxis])
    return _Game(_HINGES, chances, _PRICES, values)
