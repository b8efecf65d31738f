"""Puts canaries, random updates of the clip norm, into one noised sum, and measures what the release tells of them.

A canary is a random direction, so its inner product with anything that does not hold it is normal with a known
variance. One release holds all canaries: no training has to be repeated.
"""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from orchestrator.audit.leakage_results import OneRun, OneShot, SummedScores
from orchestrator.audit.one_run import CONFIDENCE, bound_by_guesses
from orchestrator.audit.summed_scores import bound_by_sum
from orchestrator.run.canary_clients import inner_products, unit_directions

_CAP = 200.0  # the largest epsilon that is worked out


def one_shot_estimate(
    release: NDArray[np.floating], noise_stddev: float, clip_norm: float, num_canaries: int, delta: float, seed: int
) -> OneShot:
    """Estimates the epsilon of one release into which all canaries go. The estimate is no bound.

    Args:
      release: [n], the sum without canaries and without noise.
      noise_stddev: of a coordinate.
      clip_norm: of a canary.
      num_canaries: two or more.
      delta: at which epsilon is wanted.
      seed: of canaries and noise.

    Source: Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar 2023, https://arxiv.org/abs/2302.03098, algorithm 2.
    """
    everyone = np.ones(num_canaries, bool)
    cosines = _cosines(release, noise_stddev, clip_norm, everyone, seed)
    null = 1.0 / math.sqrt(release.size)
    mean, deviation = float(cosines.mean()), float(cosines.std(ddof=1))
    return OneShot(
        canaries=num_canaries,
        mean_cosine=mean,
        deviation=deviation,
        null_deviation=null,
        epsilon=two_normals_epsilon(mean, null, 0.0, null, delta),
        epsilon_fitted=two_normals_epsilon(mean, deviation, 0.0, null, delta),
    )


def one_run_bounds(
    release: NDArray[np.floating],
    noise_stddev: float,
    clip_norm: float,
    num_canaries: int,
    num_guesses: int,
    delta: float,
    seed: int,
    confidence: float = CONFIDENCE,
) -> tuple[OneRun, SummedScores]:
    """Bounds the epsilon of one release from below, by guesses and by a sum of their weights.

    A coin decides for each canary whether it goes into the release.

    Args: those of one_shot_estimate; num_guesses is fixed before anything is drawn.
    """
    included = np.random.default_rng([seed, 1]).random(num_canaries) < 0.5
    scores = _cosines(release, noise_stddev, clip_norm, included, seed)
    return (
        bound_by_guesses(scores, included, num_guesses, delta, confidence),
        bound_by_sum(scores, included, num_guesses, delta, confidence),
    )


def _cosines(
    release: NDArray[np.floating], noise_stddev: float, clip_norm: float, included: NDArray[np.bool_], seed: int
) -> NDArray[np.float64]:
    """Returns the cosine of each canary with the released sum, which holds the included canaries and the noise."""
    total = release.astype(np.float64)
    for rows in unit_directions(release.size, seed, np.flatnonzero(included).tolist()):
        total += clip_norm * rows.sum(0, dtype=np.float64)
    total += noise_stddev * np.random.default_rng([seed, 2]).standard_normal(release.size)
    return inner_products(total / np.linalg.norm(total), seed, included.size)


def two_normals_epsilon(
    mean_in: float, deviation_in: float, mean_out: float, deviation_out: float, delta: float
) -> Optional[float]:
    """Returns the epsilon, at delta, of telling one normal variable from another by a threshold; None above 200.

    >>> round(two_normals_epsilon(1.0, 1.0, 0.0, 1.0, 1e-5), 2)  # a Gaussian release of noise multiplier 1
    4.38
    """
    from scipy.stats import norm

    reach = 12.0 * max(deviation_in, deviation_out)
    thresholds = np.linspace(min(mean_in, mean_out) - reach, max(mean_in, mean_out) + reach, 20_001)
    above_in, above_out = (norm.sf(thresholds, m, s) for m, s in ((mean_in, deviation_in), (mean_out, deviation_out)))
    below_in, below_out = (norm.cdf(thresholds, m, s) for m, s in ((mean_in, deviation_in), (mean_out, deviation_out)))

    def delta_at(epsilon: float) -> float:
        factor = math.exp(epsilon)
        return float(
            max(
                (above_in - factor * above_out).max(),
                (below_in - factor * below_out).max(),
                (above_out - factor * above_in).max(),
                (below_out - factor * below_in).max(),
            )
        )

    if delta_at(_CAP) > delta:
        return None
    low, high = 0.0, _CAP
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return high
