"""Tests whether an upload looks like noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from orchestrator.aggregator import Vector
from orchestrator.audit.transcript_results import Correlation, Uniformity

FALSE_ALARM_RATE = 1e-6  # of each test, on an upload that hides everything


def uniformity(byte_counts: NDArray[np.int_]) -> Uniformity:
    """Returns the chi-square test of an upload's bytes against uniform ones.

    Args:
      byte_counts: how often each value of a byte occurs, [256].

    >>> uniformity(np.full(256, 10))
    Uniformity(n=2560, chi_square=0.0, p_value=1.0, ok=True)
    """
    from scipy import stats

    chi_square, p_value = stats.chisquare(byte_counts)
    return Uniformity(int(byte_counts.sum()), float(chi_square), float(p_value), bool(p_value >= FALSE_ALARM_RATE))


def correlation(plain: Vector, received: NDArray) -> Correlation:
    """Returns the correlation of what a server received with the vector in the clear, slot by slot.

    If there is none, r * sqrt(n) is a standard normal variable for this many slots, whatever their values.

    Args:
      plain: the vector in the clear, uint32 [n], read as signed.
      received: any numbers, [n].
    """
    r = float(np.corrcoef(plain.view(np.int32), received.astype(np.float64))[0, 1])
    p_value = math.erfc(abs(r) * math.sqrt(plain.size / 2))
    return Correlation(plain.size, r, p_value, p_value >= FALSE_ALARM_RATE)
