"""The mixture's first word, found without looking at most words, is the first of the whole row."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # loads TensorFlow


def test_the_mixture_s_first_word_is_that_of_the_whole_row_ties_included() -> None:
    """Against argmax over all words; rounded probabilities make ties, of which the smaller id comes first."""
    from orchestrator.evaluation.comparison import _MIXING_WEIGHTS, _proposes_first

    rng = np.random.default_rng(0)
    first = np.zeros(len(_MIXING_WEIGHTS), int)
    for _ in range(1000):
        own, counted = (rng.dirichlet(np.full(12, 0.3)).round(1).astype(np.float32) for _ in range(2))
        target = int(rng.integers(4, 12))
        mixtures = [np.float32(weight) * own + np.float32(1 - weight) * counted for weight in _MIXING_WEIGHTS]
        expected = [4 + int(np.argmax(mixed[4:])) == target for mixed in mixtures]
        assert _proposes_first(own, counted, target).tolist() == expected
        first += expected
    assert (first > 50).all()
