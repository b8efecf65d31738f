"""Tests of uploads, with statistics by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.audit.statistics import correlation, uniformity


def test_one_byte_too_many_and_one_too_few():
    """Of 2,560 bytes one value comes 20 times and one never: (10 ** 2 + 10 ** 2) / 10."""
    counts = np.full(256, 10)
    counts[[0, 1]] = 20, 0
    found = uniformity(counts)
    assert (found.n, found.chi_square, found.ok) == (2560, 20.0, True)
    assert found.p_value > 0.999


def test_small_numbers_are_not_uniform():
    found = uniformity(np.array([1000] + [0] * 255))
    assert found.chi_square == 1000 * 255
    assert not found.ok


def test_a_copy_is_correlated():
    plain = np.arange(4, dtype=np.uint32)
    found = correlation(plain, 2 * plain)
    assert (found.n, found.r) == (4, pytest.approx(1.0))
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(2)))  # two standard deviations: 4.55 %
    assert found.ok
    assert not correlation(np.arange(100, dtype=np.uint32), np.arange(100)).ok


def test_words_of_the_vector_are_signed():
    """Unsigned, 2**32 - 1 would be the largest number, and the correlation would have the other sign."""
    assert correlation(np.array([2**32 - 1, 1, 2], np.uint32), np.array([-1, 1, 2])).r == pytest.approx(1.0)


def test_what_has_nothing_to_do_with_it_is_not_correlated():
    found = correlation(np.array([1, 2, 1, 2], np.uint32), np.array([1, 1, 2, 2]))
    assert (found.r, found.p_value, found.ok) == (0.0, 1.0, True)
