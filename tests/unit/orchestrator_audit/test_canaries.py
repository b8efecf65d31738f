"""Canaries in one release: bounds stay below what is true, and estimates come near it."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.audit.canaries import one_run_bounds, one_shot_estimate, two_normals_epsilon
from orchestrator.privacy.accounting import Cost

DELTA = 1e-5


def test_the_bound_stays_below_the_epsilon_of_a_known_mechanism():
    """Each of 20 bounds exceeds the true epsilon with probability 5 % at most, so 8 of them do with 3e-6 at most."""
    true = Cost(0.5).epsilon(DELTA)  # noise multiplier 1
    release = np.random.default_rng(0).normal(size=2000) * 0.1
    bounds = [one_run_bounds(release, 2.0, 2.0, 200, 40, DELTA, seed)[0].epsilon for seed in range(20)]
    assert sum(bound > true for bound in bounds) < 8


def test_the_bound_finds_a_mechanism_without_noise():
    result = one_run_bounds(np.zeros(20_000), 0.0, 1.0, 200, 40, DELTA, seed=1)[0]
    assert result.right == 40
    assert result.epsilon > 2.0


def test_canaries_that_never_enter_tell_nothing():
    """Noise 1e6 times the canaries: at most chance; 40 guesses at 5 standard deviations, below 1e-6."""
    result = one_run_bounds(np.zeros(2000), 1e6, 1.0, 200, 40, DELTA, seed=2)[0]
    assert abs(result.right - 20) < 5 * np.sqrt(10)


def test_the_estimate_comes_near_a_known_mechanism():
    """Seeded. The mean cosine's standard error is 1 / (12 sigma) here: the estimate is off by half an epsilon or so."""
    true = Cost(0.5).epsilon(DELTA)
    result = one_shot_estimate(np.zeros(20_000), 1.0, 1.0, 140, DELTA, seed=3)
    assert result.epsilon == pytest.approx(true, abs=1.0)
    assert result.null_deviation == pytest.approx(20_000**-0.5)


def test_without_noise_the_estimate_knows_no_limit():
    assert one_shot_estimate(np.zeros(200_000), 0.0, 1.0, 4, DELTA, seed=3).epsilon is None


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 3.0])
def test_two_normals_of_one_width_are_the_gaussian_mechanism(multiplier):
    true = Cost(0.5 / multiplier**2).epsilon(DELTA)
    assert two_normals_epsilon(1.0, multiplier, 0.0, multiplier, DELTA) == pytest.approx(true, abs=1e-3)
