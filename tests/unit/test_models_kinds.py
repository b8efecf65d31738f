"""Every kind of network: its gradient, its key stroke and its layouts, beside oracles from outside."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from models import inference
from models.architectures import ARCHITECTURES, WINDOW
from models.batches import build_batches
from models.errors import RoleError
from models.model import NETWORKS, load_model
from models.plain_loss import plain_loss
from models.vocabulary import BOS, NUM_SPECIAL
from models.weights import ModelSize, train_step_flops

TIME, ROWS = 5, 4


def size_of(kind: str) -> ModelSize:
    return ModelSize(vocabulary_size=23, embedding_size=8, num_cells=9, kind=kind)


def weights_of(size: ModelSize) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    start = load_model(size).initial_weights(1, embedding_range=0.5)
    return tuple((w + rng.normal(0, 0.3, w.shape)).astype(np.float32) for w in start)


def ragged_batch(seed: int, time: int = TIME):
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(NUM_SPECIAL, 23, rng.integers(1, time + 3)) for _ in range(ROWS)]
    batches = build_batches(sentences, batch_size=ROWS + 1, time=time)  # the last row is filling
    return batches.tokens[0], batches.targets[0], batches.mask[0]


@pytest.fixture(params=ARCHITECTURES)
def size(request) -> ModelSize:
    return size_of(request.param)


def test_every_kind_has_a_network():
    assert list(NETWORKS) == list(ARCHITECTURES)


def test_weights_have_the_names_and_shapes_of_their_kind(size):
    weights = load_model(size).initial_weights(0)
    assert [w.shape for w in weights] == list(size.shapes)
    assert ModelSize.of(weights, size.kind) == size
    for kind in set(ARCHITECTURES) - {size.kind}:
        with pytest.raises(ValueError, match=f"weights must be those of a '{kind}' model"):
            ModelSize.of(weights, kind)


@pytest.mark.parametrize("padded", [False, True])
def test_the_gradient_is_tensorflows(size, padded):
    weights, (tokens, targets, mask) = weights_of(size), ragged_batch(0)
    variables = [tf.Variable(w) for w in weights]
    with tf.GradientTape() as tape:
        loss = plain_loss(size, variables, tokens, targets)
    expected = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, variables)]
    got = load_model(size).loss_and_gradients(weights, tokens, targets, mask, padded=padded)
    assert float(got.loss_sum) / float(got.num_tokens) == pytest.approx(float(loss), rel=1e-6)
    for name, mine, theirs in zip(size.names, got.gradients, expected):
        np.testing.assert_allclose(mine, theirs, atol=2e-6, err_msg=name)


def test_the_gradient_is_the_slope_of_the_loss(size):
    weights, batch, model = weights_of(size), ragged_batch(1), load_model(size)
    got, step, rng = model.loss_and_gradients(weights, *batch), 1e-2, np.random.default_rng(0)
    for place, name in enumerate(size.names):
        direction = rng.standard_normal(weights[place].shape).astype(np.float32)
        direction /= np.linalg.norm(direction)
        sides = []
        for sign in (1, -1):
            moved = [*weights]
            moved[place] = weights[place] + np.float32(sign * step) * direction
            found = model.loss_and_gradients(moved, *batch)
            sides.append(float(found.loss_sum) / float(found.num_tokens))
        slope = (sides[0] - sides[1]) / (2 * step)
        assert float(np.vdot(got.gradients[place], direction)) == pytest.approx(slope, rel=0.02, abs=3e-4), name


def test_what_stands_in_the_padding_does_not_matter(size):
    (tokens, targets, mask), model, weights = ragged_batch(6), load_model(size), weights_of(size)
    noise = np.random.default_rng(0).integers(0, 23, tokens.shape)
    noisy = [np.where(mask > 0, ids, noise).astype(np.int32) for ids in (tokens, targets)]
    for padded in (False, True):
        mine = model.loss_and_gradients(weights, tokens, targets, mask, padded=padded)
        theirs = model.loss_and_gradients(weights, *noisy, mask, padded=padded)
        for a, b in zip(tf.nest.flatten(mine), tf.nest.flatten(theirs)):
            np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("time", [5, WINDOW + 6])
def test_key_strokes_equal_the_whole_sentence(size, time):
    words = [BOS, *np.random.default_rng(time).integers(NUM_SPECIAL, 23, time - 1).tolist()]
    model, weights, state = load_model(size), weights_of(size), size.start_state()
    tokens, mask = np.array([words], np.int32), np.ones((1, time), np.float32)
    whole, where = inference.next_word_probabilities(model, weights, tokens, mask)
    assert where.numpy().tolist() == [[0, step] for step in range(time)]
    for word, expected in zip(words, whole.numpy()):
        stroke = inference.key_stroke(model, weights, np.array([word], np.int32), state)
        state = stroke.state
        assert {name: tuple(value.shape) for name, value in state.items()} == size.state
        best = np.sort(expected[NUM_SPECIAL:])[::-1][:3]
        np.testing.assert_allclose(stroke.probabilities[0], best, atol=2e-6)


def test_probabilities_stand_where_they_say(size):
    tokens, _, mask = ragged_batch(9)
    model, weights = load_model(size), weights_of(size)
    probabilities, where = inference.next_word_probabilities(model, weights, tokens, mask)
    assert sorted(map(tuple, where.numpy())) == sorted(map(tuple, np.argwhere(mask > 0)))
    for (row, step), got in zip(where.numpy(), probabilities.numpy()):
        alone = inference.next_word_probabilities(
            model, weights, tokens[row : row + 1, : step + 1], np.ones((1, step + 1), np.float32)
        )
        np.testing.assert_allclose(got, alone[0][-1], atol=2e-6)


def keras_states(layer: tf.keras.layers.Layer, weights, embedded: tf.Tensor) -> np.ndarray:
    """The states after each word, float32 [batch, time, U], of a Keras layer with these weights."""
    layer.build(embedded.shape)
    layer.set_weights(weights)
    return layer(embedded).numpy()


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_kind_computes_what_keras_does(kind):
    size = size_of(kind)
    weights, (tokens, _, mask) = weights_of(size), ragged_batch(2)
    by_name = dict(zip(size.names, weights))
    layer = {"gru": tf.keras.layers.GRU, "lstm": tf.keras.layers.LSTM}[kind](9, return_sequences=True)
    inner = [by_name[name] for name in ("kernel", "recurrent", "bias")]
    rows = keras_states(layer, inner, tf.gather(by_name["embedding"], tokens)) @ by_name["projection"]
    rows += by_name.get("projection_bias", 0.0)
    logits = rows @ by_name[size.architecture.output].T + by_name["output_bias"]
    expected = tf.nn.softmax(logits).numpy()
    got, where = inference.next_word_probabilities(load_model(size), weights, tokens, mask)
    np.testing.assert_allclose(got, expected[where[:, 0], where[:, 1]], atol=2e-6)


def test_lstm_has_the_weights_of_tffs_stack_overflow_model():
    """10,000 words and four special ones; Reddi et al. 2020: 96*10004 + 4*670*767 + 670*96+96 + 97*10004."""
    assert ModelSize(10_004, 96, 670, "lstm").num_weights == 4_050_748


def test_a_phones_time_follows_the_kinds_own_arithmetic():
    at = {kind: train_step_flops(ModelSize(100, 8, 16, kind), time=1, batch=1) / 6 for kind in ARCHITECTURES}
    assert at == {
        "cifg": 16 * 48 + 16 * 8 + 800,
        "gru": 24 * 48 + 16 * 8 + 800,
        "lstm": 24 * 64 + 16 * 8 + 800,
        "transformer": 2 * (4 * 64 + 2 * 128) + 800,
    }


def test_what_a_kind_has_not_is_refused_by_name(monkeypatch):
    row = dataclasses.replace(ARCHITECTURES["gru"], output_bias=None)
    monkeypatch.setitem(ARCHITECTURES, "gru", row)
    with pytest.raises(RoleError, match="model.kind = 'gru' has no output bias: take another kind for this"):
        size_of("gru").role("output_bias")
