"""Shamir's secret sharing of 32-byte secrets over the prime field of 2**256 + 297.

The prime is the least above 2**256, so any 32 bytes are a field element. A share is the value of a random polynomial at
the holder's point; the secret is its value at 0. Fewer than `threshold` shares reveal nothing about the secret.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
_STEPS = 8  # of Horner's rule between two reductions


def split(secret: bytes, threshold: int, points: Sequence[int]) -> list[bytes]:
    """Returns a share of 33 bytes for each point, in order; any `threshold` of them give the secret back.

    Raises:
      ValueError: the secret is not 32 bytes, a point repeats or is below 1, or the threshold is out of range.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"secret must be {SECRET_BYTES} bytes, got {len(secret)} bytes")
    if not 2 <= threshold <= len(points):
        raise ValueError(f"threshold must lie in 2..{len(points)}, the number of points, got {threshold=}")
    _check_points(points)
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return evaluate([int.from_bytes(secret, "big"), *coefficients], points)


def evaluate(coefficients: Sequence[int], points: Iterable[int]) -> list[bytes]:
    """Returns a polynomial's values at the points, each as 33 bytes; its constant term is the first coefficient."""
    highest_first = coefficients[::-1]
    # Reducing modulo PRIME costs more than multiplying by a small point, so several steps share one reduction.
    steps = [highest_first[start : start + _STEPS] for start in range(0, len(highest_first), _STEPS)]
    shares = []
    for point in points:
        value = 0
        for some in steps:
            for coefficient in some:  # Horner's rule
                value = value * point + coefficient
            value %= PRIME
        shares.append(value.to_bytes(SHARE_BYTES, "big"))
    return shares


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Returns the secret of 32 bytes from exactly `threshold` shares, {point: share}.

    Shares that do not belong together may also give a wrong secret: whoever combines them must check it against a
    commitment.

    Raises:
      ValueError: the shares are not of one polynomial with a 32-byte secret.
    """
    points = tuple(shares)
    _check_points(points)
    value = 0
    for share, weight in zip(shares.values(), _weights_at_zero(points)):
        value += int.from_bytes(share, "big") * weight
    value %= PRIME
    if value >= 2 ** (8 * SECRET_BYTES):
        raise ValueError(f"the {len(points)} shares do not fit together")
    return value.to_bytes(SECRET_BYTES, "big")


def _check_points(points: Sequence[int]) -> None:
    if not points or len(set(points)) != len(points) or min(points) < 1:
        raise ValueError("points must be distinct and positive: the polynomial's value at 0 is the secret")


@lru_cache(maxsize=512)
def _weights_at_zero(points: tuple[int, ...]) -> list[int]:
    """Returns Lagrange's weights: with them, the values at the points sum to the polynomial's value at 0.

    weight_i = product over j != i of x_j / (x_j - x_i). The points are small, so the products are plain integers, and
    one inversion serves all the denominators (Montgomery's trick).
    """
    whole = math.prod(points)
    denominators = [x * math.prod(other - x for other in points if other != x) for x in points]
    running = [1]
    for denominator in denominators:
        running.append(running[-1] * denominator % PRIME)
    inverse, weights = pow(running[-1], -1, PRIME), []
    for denominator, before in zip(reversed(denominators), reversed(running[:-1])):
        weights.append(whole * before * inverse % PRIME)
        inverse = inverse * denominator % PRIME
    return weights[::-1]
