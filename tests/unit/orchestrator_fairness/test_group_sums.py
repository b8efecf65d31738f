"""Which groups may show beside the total, and sums that can't wrap."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.aggregator import PlainSum
from orchestrator.fairness import group_sums
from orchestrator.fairness.group_sums import Secure


def test_suppression_holds_for_any_sizes():
    rng = np.random.default_rng(5)
    for _ in range(3000):
        counted = rng.integers(0, 25, rng.integers(1, 7))
        sizes = np.stack([counted + rng.integers(0, 3, len(counted)), counted], axis=1)
        shown = group_sums.groups_to_show(sizes, 0, 10)
        hidden = [i for i in range(len(sizes)) if i not in shown]
        assert all(sizes[i, 1] >= 10 for i in shown)
        assert not shown or sizes[hidden, 0].sum() == 0 or sizes[hidden, 1].sum() >= 10


def test_a_sum_that_would_wrap_is_refused():
    with pytest.raises(ValueError, match="entries must lie in"):
        Secure(PlainSum(), 1).total({"a": np.array([2**31]), "b": np.array([2**31])}, step=1)
