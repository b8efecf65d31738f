"""Tests that an upload looks like noise."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.aggregator import Vector

NUM_PICTURED = 4800  # bytes


FALSE_ALARM_RATE = 1e-6  # of each test, on an upload that hides everything


def _bytes_seen(octets: NDArray[np.uint8]) -> dict[str, Any]:
    counts = np.bincount(octets, minlength=256)
    return {
        "uniform_bytes": _uniformity(counts),
        "byte_counts": counts.tolist(),
        "picture": base64.b64encode(octets[:NUM_PICTURED].tobytes()).decode(),
    }


def _uniformity(byte_counts: NDArray) -> dict[str, Any]:
    from scipy import stats

    chi_square, p_value = stats.chisquare(byte_counts)
    return _test(int(byte_counts.sum()), "chi_square", chi_square, p_value)


def _correlation(plain: Vector, received: NDArray) -> dict[str, Any]:
    """Without correlation r * sqrt(n) is a standard normal variable, for so many slots whatever their values."""
    r = np.corrcoef(plain.view(np.int32), received.astype(np.float64))[0, 1]
    return _test(plain.size, "r", r, math.erfc(abs(r) * math.sqrt(plain.size / 2)))


def _test(n: int, statistic: str, value: float, p_value: float) -> dict[str, Any]:
    return {"n": n, statistic: float(value), "p_value": float(p_value), "ok": bool(p_value >= FALSE_ALARM_RATE)}
