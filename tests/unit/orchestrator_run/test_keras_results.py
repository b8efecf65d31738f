"""Scores of people: the worst one is the furthest from right, and a loss that is not finite is told by name."""

from __future__ import annotations

import math

import pytest

from orchestrator.errors import Diverged
from orchestrator.run.keras_results import people_scores


def sums(error, count, loss=1.0):
    return {"squared_error": error, "num_examples": count, "loss_sum": loss}


def test_of_a_regressor_the_largest_error_is_the_worst():
    scores = people_scores(["ann", "bob", "eve"], [sums(2.0, 4.0), sums(9.0, 3.0), sums(1.0, 1.0)])
    assert scores.name == "mean_squared_error"
    assert scores.by_person == {"ann": 0.5, "bob": 3.0, "eve": 1.0}
    assert scores.worst == ("bob", 3.0)
    assert (scores.pooled, scores.mean) == (12.0 / 8.0, 1.5)
    assert scores.stddev == pytest.approx(math.sqrt((1.0 + 2.25 + 0.25) / 3.0))


@pytest.mark.parametrize("bad", [sums(1.0, 2.0, math.nan), sums(math.inf, 2.0)])
def test_a_loss_that_is_not_finite_is_told_by_name(bad):
    with pytest.raises(Diverged, match="examples of 'bob' is not finite"):
        people_scores(["ann", "bob"], [sums(1.0, 2.0), bad])
