"""The exposure of phrases that nobody typed."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.audit.exposure import exposure


def test_exposure_of_a_phrase_that_nobody_typed_is_small_on_average():
    """Mean 1.44 bits with a standard deviation of 1.44: 2000 draws at 6 standard errors, below 1e-8."""
    rng = np.random.default_rng(4)
    bits = [exposure(rng.random(), rng.random(255)) for _ in range(2000)]
    assert np.mean(bits) == pytest.approx(1.4427, abs=6 * 1.4427 / np.sqrt(2000) + 0.05)  # 0.05: 255 are not infinite
    assert exposure(-1.0, rng.random(255)) == 8.0
    assert exposure(2.0, rng.random(255)) == 0.0
