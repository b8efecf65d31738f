"""A lower bound from one run: its known values, and what guesses count."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.audit.one_run import count_right, epsilon_lower_bound, one_run_p_value


@pytest.mark.parametrize(("canaries", "right", "epsilon"), [(100, 100, 3.493), (1000, 1000, 5.809), (1000, 500, 0.0)])
def test_the_bound_of_one_run_has_its_known_values(canaries, right, epsilon):
    """At delta 0 the guesses are coins of probability e^eps / (1 + e^eps): all right is a closed form."""
    bound = epsilon_lower_bound(canaries, canaries, right, 0.0)
    assert bound == pytest.approx(epsilon, abs=5e-4)
    if right == canaries:
        share = 0.05 ** (1 / canaries)
        assert bound == pytest.approx(np.log(share / (1 - share)), abs=1e-6)


def test_a_larger_delta_proves_less():
    bounds = [epsilon_lower_bound(1000, 200, 190, delta) for delta in (0.0, 1e-6, 1e-4, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]
    assert one_run_p_value(1000, 200, 190, 1.0, 1.0) == 1.0


def test_guesses_call_both_ends():
    assert count_right(np.arange(10.0), np.arange(10) >= 5, 10) == 10
    assert count_right(-np.arange(10.0), np.arange(10) >= 5, 4) == 0
