"""Secret phrases planted in people's text, and how well the finished model remembers them.

A phrase is random words of the model's vocabulary; nothing but having seen it makes it likelier than another such
phrase. Its exposure is how far it ranks up among so many others that nobody typed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def exposure(loss: float, reference_losses: Sequence[float]) -> float:
    """How far a phrase ranks up, in bits: log2(phrases) - log2(its rank among them).

    0 is the last place, log2(len(reference_losses) + 1) the first, and the mean over phrases that nobody typed 1.44.
    Ties rank behind.

    Args:
      loss: of the planted phrase.
      reference_losses: of phrases from the same distribution that nobody typed.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1802.08232, definition 2, on a sample of the space.

    >>> exposure(1.0, [2.0] * 7), exposure(3.0, [2.0] * 7), exposure(2.5, [2.0] * 3 + [3.0] * 4)
    (3.0, 0.0, 1.0)
    """
    rank = 1 + sum(other <= loss for other in reference_losses)
    return math.log2(len(reference_losses) + 1) - math.log2(rank)
