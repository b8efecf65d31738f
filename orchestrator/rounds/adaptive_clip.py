"""A clip norm that follows the norms of the clients' updates from round to round."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Optional

from orchestrator.encoding import Encoder


@dataclass(frozen=True)
class AdaptiveClip:
    """A clip norm that follows a quantile of the clients' update norms; `after` returns the next round's.

    All that it needs from a round is the share of clients at or under the clip norm. That is a secure sum of bits, to
    which a privacy mechanism may add noise.

    Attributes:
      clip_norm: the clip norm of the next round.
      target_quantile: the share of clients that should be at or under the clip norm, in 0..1.
      learning_rate: the rate at which the logarithm of the clip norm moves.

    Raises:
      ValueError: an attribute is out of range.

    Source: Andrew, Thakkar, McMahan, Ramaswamy 2021, https://arxiv.org/abs/1905.03871, section 2.1 (geometric update).

    >>> AdaptiveClip(clip_norm=1.0).after(share_under_clip=1.0).clip_norm  # all were under it: exp(-0.2 * 0.5)
    0.9048374180359595
    """

    clip_norm: float
    target_quantile: float = 0.5
    learning_rate: float = 0.2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ValueError(f"clip_norm must be positive and finite, got clip_norm={self.clip_norm}")
        if not 0.0 <= self.target_quantile <= 1.0:
            raise ValueError(f"target_quantile must lie in 0..1, got target_quantile={self.target_quantile}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise ValueError(f"learning_rate must be 0 or more, got learning_rate={self.learning_rate}")

    def after(self, share_under_clip: float) -> AdaptiveClip:
        """Returns the state after a round; with noise the share may lie a little outside 0..1."""
        if not math.isfinite(share_under_clip):
            raise ValueError(f"share_under_clip must be finite, got share_under_clip={share_under_clip}")
        exponent = -self.learning_rate * (share_under_clip - self.target_quantile)
        return replace(self, clip_norm=self.clip_norm * math.exp(exponent))


def next_clip(
    adaptive_clip: Optional[AdaptiveClip], encoder: Encoder, share_under_clip: Optional[float]
) -> tuple[Optional[float], dict[str, float]]:
    """Returns (the next round's clip norm, the figures for the report); (None, {}) if the clip is fixed."""
    if adaptive_clip is None or share_under_clip is None:
        return None, {}
    clip = replace(adaptive_clip, clip_norm=encoder.clip_norm).after(share_under_clip)
    return clip.clip_norm, {"clip_norm": encoder.clip_norm}
