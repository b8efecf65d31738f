"""Measures how well a finished model remembers secret phrases that were planted in people's text.

A phrase is random words of the model's vocabulary: only a model that has seen it finds it likelier than another such
phrase. Its exposure says how high it ranks among phrases that nobody typed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def exposure(loss: float, reference_losses: Sequence[float]) -> float:
    """Returns how high a phrase ranks, in bits: log2(number of phrases) - log2(its rank among them).

    The last place has 0 bits and the first log2(len(reference_losses) + 1). Phrases that nobody typed have 1.44 bits on
    average. A phrase ranks behind those with an equal loss.

    Args:
      loss: of the planted phrase.
      reference_losses: of phrases from the same distribution that nobody typed.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1802.08232, definition 2, on a sample of the space.

    >>> exposure(1.0, [2.0] * 7), exposure(3.0, [2.0] * 7), exposure(2.5, [2.0] * 3 + [3.0] * 4)
    (3.0, 0.0, 1.0)
    """
    rank = 1 + sum(other <= loss for other in reference_losses)
    return math.log2(len(reference_losses) + 1) - math.log2(rank)
