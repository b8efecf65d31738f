"""What shapes noise that rounds share: the bands of a matrix, or the buffers of a BLT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import ConfigError


@dataclass(frozen=True)
class Buffer:
    """One memory of a buffered linear Toeplitz mechanism (BLT).

    Attributes:
      decay: what is left of its content after a round, 0 <= decay < 1.
      scale: how much of it is taken back in a round; > 0, and all scales together are below 1.
    """

    decay: float
    scale: float


@dataclass(frozen=True)
class NoiseShape:
    """The parameters of a mechanism's matrix; each kind of mechanism reads its own.

    Attributes:
      bands: rounds over which a banded matrix correlates the noise; at least 1.
      buffers: of a BLT.
    """

    bands: int = 1
    buffers: tuple[Buffer, ...] = ()


INDEPENDENT = NoiseShape()  # each round has its noise for itself, or the mechanism has no parameters


def read_buffers(text: str) -> tuple[Buffer, ...]:
    """Returns the buffers of the setting privacy.buffers; () for an empty one.

    Raises:
      ConfigError: the text is not of that form, or a number is out of range.

    >>> read_buffers("0.993:0.144 0.781:0.325")
    (Buffer(decay=0.993, scale=0.144), Buffer(decay=0.781, scale=0.325))
    """
    advice = "write decay:scale for each buffer, as '0.993:0.144 0.781:0.325', or leave it empty"
    try:
        pairs = [tuple(map(float, part.split(":"))) for part in text.split()]
        buffers = tuple(Buffer(decay, scale) for decay, scale in pairs)
    except ValueError:
        raise ConfigError(f"privacy.buffers = {text!r}: {advice}") from None
    if not all(0 <= one.decay < 1 and one.scale > 0 for one in buffers) or not sum(one.scale for one in buffers) < 1:
        raise ConfigError(
            f"privacy.buffers = {text!r}: a decay lies from 0 to below 1, a scale is above 0, and the scales add up to "
            "less than 1"
        )
    return buffers


def buffers_setting(buffers: Sequence[Buffer]) -> str:
    """Returns buffers as the setting privacy.buffers, to six decimals.

    >>> buffers_setting([Buffer(0.9934847, 0.1443182)])
    '0.993485:0.144318'
    """
    return " ".join(f"{_rounded(one.decay)}:{_rounded(one.scale)}" for one in buffers)


def _rounded(value: float) -> str:
    """Rounds inside the open interval from 0 to 1."""
    return f"{min(max(value, 1e-6), 1 - 1e-6):.6f}"
