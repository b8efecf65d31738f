"""Skellam noise: its law, its shares, its divergence and its epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from orchestrator.aggregator import PlainSum
from orchestrator.vocabulary.discover import SecureTotal
from orchestrator.vocabulary.skellam import draw_skellam, epsilon_of, secret_bytes, skellam_rdp, variance_for


@pytest.mark.parametrize(("variance", "shares"), [(0.3, 1), (5.0, 1), (20.0, 40), (3000.0, 1)])
def test_shares_of_noise_add_up_to_skellam(variance, shares):
    """n = 40,000 draws against the distribution: chi-squared at a false-alarm rate of 1e-6."""
    rng = np.random.default_rng(3)
    size = 40_000
    draws = sum(draw_skellam(variance / shares, size, rng.bytes) for _ in range(shares))
    edges = np.unique(stats.skellam.ppf(np.linspace(0.03, 0.97, 20), variance / 2, variance / 2))
    cells = np.searchsorted(edges, draws)
    below = np.concatenate([[0], stats.skellam.cdf(edges, variance / 2, variance / 2), [1]])
    expected = size * np.diff(below)
    kept = expected > 5
    statistic = ((np.bincount(cells, minlength=len(expected)) - expected)[kept] ** 2 / expected[kept]).sum()
    assert statistic < stats.chi2.isf(1e-6, kept.sum() - 1)


def test_noise_comes_fresh_from_the_operating_system():
    assert secret_bytes(32) != secret_bytes(32)
    assert SecureTotal({}, PlainSum(), 1.0).random_bytes is secret_bytes


def test_the_divergence_bound_holds():
    """Against the divergence worked out term by term for one coordinate moved by one."""
    for variance in (5.0, 40.0, 400.0):
        values = np.arange(-int(40 * math.sqrt(variance)), int(40 * math.sqrt(variance)))
        log_p = stats.skellam.logpmf(values, variance / 2, variance / 2)
        log_q = stats.skellam.logpmf(values - 1, variance / 2, variance / 2)
        fine = np.isfinite(log_p) & np.isfinite(log_q)
        for order in (2, 5, 16):
            exact = np.logaddexp.reduce((order * log_p + (1 - order) * log_q)[fine]) / (order - 1)
            bound = skellam_rdp(order, variance, 1, 1)
            assert exact <= bound * (1 + 1e-9)
            assert variance < 40 or bound == pytest.approx(exact, rel=0.2)


def test_epsilon_falls_with_noise_and_meets_the_gaussian():
    for epsilon in (0.5, 2.0, 8.0):
        variance = variance_for(epsilon, 800, 1e-6)
        assert epsilon * 0.999 < epsilon_of(variance, 800, 1e-6) <= epsilon
        # A Gaussian of the same variance, exactly: Balle & Wang 2018, equation 6. The bound may not be below it.
        mu = math.sqrt(800 / variance)
        delta = stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
        assert 1e-9 < delta < 1e-6
    assert variance_for(math.inf, 800, 1e-6) == 0.0
    assert epsilon_of(0.0, 800, 1e-6) == math.inf
    with pytest.raises(ValueError, match="epsilon must be above 0"):
        variance_for(0.0, 800, 1e-6)


@pytest.mark.parametrize("delta", [1e-9, 1e-6, 1e-4, 7.3e-4, 1e-2, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 1.0, 2.0, 8.0, 50.0, 1000.0])
def test_every_epsilon_and_delta_is_calibrated_and_never_exceeded(epsilon, delta):
    """For one coordinate moved by one, delta is the exact hockey-stick divergence, summed term by term."""
    variance = variance_for(epsilon, 1, delta)
    reach = int(12 * math.sqrt(variance)) + 60
    values = np.arange(-reach, reach + 1)
    mass = stats.skellam.pmf(values, variance / 2, variance / 2)
    moved = stats.skellam.pmf(values - 1, variance / 2, variance / 2)
    with np.errstate(over="ignore", invalid="ignore"):
        exceeding = np.where(moved > 0, mass - math.exp(min(epsilon, 700.0)) * moved, mass)
    assert np.maximum(0.0, exceeding).sum() <= delta * (1 + 1e-6)
    for sensitivity in (1, 30, 800):
        variance = variance_for(epsilon, sensitivity, delta)
        assert epsilon_of(variance, sensitivity, delta) <= epsilon
        assert epsilon == 1000.0 or epsilon_of(variance * 0.999, sensitivity, delta) > epsilon  # the least there is


def test_an_epsilon_that_no_noise_reaches_is_refused_by_name():
    with pytest.raises(ValueError, match="epsilon is too small for delta=1e-09"):
        variance_for(1e-6, 800, 1e-9)
