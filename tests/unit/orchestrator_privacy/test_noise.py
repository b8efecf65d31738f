"""The sealed seed, and the normal and discrete normal numbers that are made from it."""

from __future__ import annotations

import math
import os
import stat

import numpy as np
import pytest

from orchestrator.errors import RunFolderError
from orchestrator.privacy import noise


def test_the_seed_is_sealed(tmp_path):
    seed = noise.create_seed(tmp_path)
    path = tmp_path / noise.SEED_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert noise.read_seed(tmp_path) == seed
    with pytest.raises(RunFolderError, match="already"):
        noise.create_seed(tmp_path)
    os.chmod(path, 0o644)
    with pytest.raises(RunFolderError, match="chmod 600"):
        noise.read_seed(tmp_path)
    os.chmod(path, 0o600)
    path.write_text("ff\n")
    with pytest.raises(RunFolderError, match="1 bytes"):
        noise.read_seed(tmp_path)


def test_normal_numbers_are_normal():
    """n = 400,000: Kolmogorov-Smirnov, and two correlations within 5 standard errors; false alarms: 2 in a million."""
    from scipy import stats

    numbers = noise.normal(bytes(range(32)), "test", 400_000)
    assert stats.kstest(numbers, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / math.sqrt(400_000)
    other = noise.normal(bytes(range(32)), "other", 400_000)
    assert abs(np.corrcoef(numbers, other)[0, 1]) < 5 / math.sqrt(400_000)


@pytest.mark.parametrize("stddev", [16.0, 40.0])
def test_discrete_normal_numbers_have_their_probabilities(stddev):
    """n = 400,000, chi-square over the values with 20 expected or more; a false alarm in a million."""
    from scipy import stats

    numbers = noise.discrete_normal(bytes(range(32)), "test", 400_000, stddev)
    support = np.arange(-int(12 * stddev), int(12 * stddev) + 1)
    probabilities = np.exp(-np.square(support) / (2 * stddev**2))
    probabilities /= probabilities.sum()
    counts = np.array([(numbers == k).sum() for k in support])
    often = probabilities * len(numbers) >= 20
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(probabilities[often], probabilities[~often].sum()) * len(numbers)
    assert stats.chisquare(observed, expected).pvalue > 1e-6


def test_too_little_discrete_noise_is_refused():
    with pytest.raises(ValueError, match="stddev must be at least"):
        noise.discrete_normal(bytes(32), "test", 10, 3.0)


def test_tests_may_hand_in_their_own_generator():
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(
        noise.normal(bytes(32), "x", 5, insecure_rng=rng), np.random.default_rng(3).standard_normal(5)
    )
