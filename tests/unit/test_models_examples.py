"""Batches of examples: every example once an epoch, filling that counts for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from models.examples import build_example_batches

EXAMPLES = {"x": np.arange(14.0, dtype=np.float32).reshape(7, 2), "targets": np.arange(7, dtype=np.int32)}


def kept(batches):
    return batches.arrays["targets"][batches.arrays["mask"] == 1].tolist()


@pytest.mark.parametrize("epochs", [1, 3])
def test_each_epoch_has_every_example_once_with_its_own_row(epochs):
    batches = build_example_batches(EXAMPLES, batch_size=3, epochs=epochs, rng=np.random.default_rng(0))
    assert (batches.num_batches, batches.num_examples) == (3 * epochs, 7 * epochs)
    seen = kept(batches)
    orders = [seen[i : i + 7] for i in range(0, len(seen), 7)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) == epochs, "each epoch has an order of its own"
    rows = batches.arrays["x"][batches.arrays["mask"] == 1]
    assert (rows == EXAMPLES["x"][seen]).all()
    filling = batches.arrays["mask"] == 0
    assert filling.sum() == 2 * epochs
    assert not batches.arrays["x"][filling].any()
    assert not batches.arrays["targets"][filling].any()


def test_a_limit_draws_anew_and_keeps_to_what_it_drew():
    drawn = [
        build_example_batches(EXAMPLES, batch_size=2, max_examples=4, epochs=2, rng=np.random.default_rng(seed))
        for seed in range(9)
    ]
    people = [kept(batches) for batches in drawn]
    assert all(sorted(own[:4]) == sorted(own[4:]) and len(set(own[:4])) == 4 for own in people)
    assert set().union(*map(set, people)) == set(range(7))


def test_without_a_generator_the_order_is_the_examples():
    assert kept(build_example_batches(EXAMPLES, batch_size=3)) == list(range(7))
    assert kept(build_example_batches(EXAMPLES, batch_size=3, max_examples=2)) == [0, 1]
    assert build_example_batches(EXAMPLES, batch_size=9).arrays["x"].shape == (1, 9, 2)
