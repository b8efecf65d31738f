"""One client's training against values worked out by hand: the sign, scale and order of its steps, and its dropout.

With all weights zero every word has probability 1/V and the hidden rows stay zero, so that only the output bias moves:
by the learning rate times (one-hot of the target minus probability), averaged over the batch's positions.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.batches import Batches, build_batches
from models.local_training import build_trainer
from models.vocabulary import BOS, EOS, NUM_SPECIAL
from models.weights import ModelSize

SIZE = ModelSize(vocabulary_size=8, embedding_size=2, num_cells=3)
ZEROS = tuple(np.zeros(shape, np.float32) for shape in SIZE.shapes)
RATE = 0.5
A, B = NUM_SPECIAL, NUM_SPECIAL + 1


@pytest.fixture(scope="module")
def train():
    return build_trainer(SIZE, time=2)


def one_position(*targets: int) -> Batches:
    """A batch for each target, of one sentence with one real position."""
    shape = (len(targets), 1, 2)
    tokens, ids, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    tokens[:, 0, 0], ids[:, 0, 0], mask[:, 0, 0] = BOS, targets, 1.0
    return Batches(tokens, ids, mask)


def test_an_update_is_the_servers_weights_minus_the_clients(train):
    result = train(ZEROS, RATE, 0, one_position(A))
    expected = np.full(8, 0.5 * 1 / 8)  # the client pushed these words down: server minus client is above 0
    expected[A] = 0.5 * (1 / 8 - 1)
    np.testing.assert_allclose(result["delta"][4], expected, rtol=1e-6)
    for delta in result["delta"][:4]:
        assert not delta.any()
    assert result["loss_sum"] == pytest.approx(math.log(8))
    assert (result["num_tokens"], result["num_examples"], result["is_finite"]) == (1, 1, True)


def test_a_step_goes_along_the_mean_over_the_batchs_positions(train):
    two = build_batches([np.array([A])], batch_size=1, time=2)  # A, then the end of the sentence
    result = train(ZEROS, RATE, 0, two)
    expected = np.full(8, 0.5 * 1 / 8)
    expected[[A, EOS]] = 0.5 * (1 / 8 - 1 / 2)
    np.testing.assert_allclose(result["delta"][4], expected, rtol=1e-6)
    assert result["loss_sum"] == pytest.approx(2 * math.log(8))  # summed, where the gradient is a mean
    assert (result["num_tokens"], result["num_examples"]) == (2, 1)


def test_steps_follow_each_other_in_the_batches_order(train):
    result = train(ZEROS, RATE, 0, one_position(A, B))
    up, down = 0.5 * (1 - 1 / 8), -0.5 * 1 / 8  # the output bias of A, and of each other word, after the first step
    total = math.exp(up) + 7 * math.exp(down)
    of_a, of_other = math.exp(up) / total, math.exp(down) / total
    client = np.full(8, down - 0.5 * of_other)
    client[A] = up - 0.5 * of_a
    client[B] = down + 0.5 * (1 - of_other)
    np.testing.assert_allclose(result["delta"][4], -client, rtol=1e-5)
    assert result["loss_sum"] == pytest.approx(math.log(8) - math.log(of_other))
    assert result["num_tokens"] == 2


def test_the_learning_rate_scales_a_step(train):
    once, twice = (train(ZEROS, rate, 0, one_position(A))["delta"][4] for rate in (0.25, 0.5))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_a_filling_row_is_no_example(train):
    batches = build_batches([np.array([A])], batch_size=3, time=2)
    assert train(ZEROS, RATE, 0, batches)["num_examples"] == 1


def test_weights_that_overflow_are_told(train):
    weights = (*ZEROS[:4], np.full(8, np.nan, np.float32))
    assert not train(weights, RATE, 0, one_position(A))["is_finite"]


def drawn_weights():
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in SIZE.shapes)


def test_each_seed_draws_other_dropout_and_equal_seeds_the_same():
    train = build_trainer(SIZE, time=2, dropout=0.5)
    sentences = [np.array([A, B]), np.array([B, A]), np.array([A, A]), np.array([B, B])]
    batches = build_batches(sentences, batch_size=4, time=2)
    first, again, other = (train(drawn_weights(), RATE, seed, batches)["delta"] for seed in (7, 7, 8))
    for one, two in zip(first, again):
        np.testing.assert_array_equal(one, two)
    assert any(not np.array_equal(one, two) for one, two in zip(first, other))


def test_without_dropout_the_seed_has_no_effect(train):
    batches = build_batches([np.array([A, B])], batch_size=1, time=2)
    for one, two in zip(*(train(drawn_weights(), RATE, seed, batches)["delta"] for seed in (7, 8))):
        np.testing.assert_array_equal(one, two)


def test_frozen_weights_stay_to_the_bit_and_the_others_take_the_step_of_before():
    rng = np.random.default_rng(2)
    weights = tuple(rng.normal(0.0, 0.5, shape).astype(np.float32) for shape in SIZE.shapes)
    batch = one_position(A)
    whole = build_trainer(SIZE, time=2)(weights, RATE, 0, batch)
    part = build_trainer(SIZE, time=2, frozen=("embedding",))(weights, RATE, 0, batch)
    assert whole["delta"][0].any()
    assert not part["delta"][0].any()
    for name, left, right in zip(SIZE.names[1:], part["delta"][1:], whole["delta"][1:]):
        np.testing.assert_array_equal(left, right, err_msg=name)
    after = build_trainer(SIZE, time=2, frozen=("embedding",))(weights, RATE, 0, one_position(A, B))
    assert not after["delta"][0].any()  # nor does a second step change them


def test_a_frozen_inner_weight_does_not_count_into_a_steps_norm():
    rng = np.random.default_rng(3)
    weights = tuple(rng.normal(0.0, 2.0, shape).astype(np.float32) for shape in SIZE.shapes)
    moved = "projection"
    frozen = tuple(name for name in SIZE.architecture.inner if name != moved)
    place = SIZE.names.index(moved)
    free = build_trainer(SIZE, time=2, frozen=frozen)(weights, RATE, 0, one_position(A))["delta"][place]
    norm = float(np.linalg.norm(free)) / RATE
    clipped = build_trainer(SIZE, time=2, clip_norm=norm / 2, frozen=frozen)(weights, RATE, 0, one_position(A))
    np.testing.assert_allclose(clipped["delta"][place], free / 2, rtol=1e-5)
