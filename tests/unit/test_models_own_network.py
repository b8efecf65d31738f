"""Networks of somebody's own: how they are named, what is known of them, and what they compute."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from own_networks import SIZE, bigram, registered

from models import own_network
from models.errors import OwnNetworkError, RoleError
from models.inference import key_stroke, next_word_probabilities, recall_sums
from models.model import load_model
from models.next_word import Dropout
from models.own_network import LENGTH, PREFIX, BuildSize
from models.weights import ModelSize, weights_from_bytes, weights_to_bytes, word_products


@pytest.mark.parametrize(
    "kind",
    [
        "gru",
        "mine.py:build",
        "mine.py:build@12",
        "a/b.py:f@" + 64 * "0",
        "m.py:1@" + 64 * "0",
        "a b\n.py:f@" + 64 * "0",
    ],
)
def test_only_a_file_a_function_and_a_digest_name_a_network(kind):
    assert not own_network.is_own(kind)


def test_a_network_whose_code_is_not_loaded_says_what_would_run():
    size = ModelSize(9, 2, 3, "mine.py:build@" + 64 * "a")
    for asked in (lambda: size.num_weights, lambda: ModelSize.of([], size.kind), lambda: load_model(size)):
        with pytest.raises(OwnNetworkError, match=r"mine\.py:build \(SHA-256 a{12}\).*--trust-model"):
            asked()


def test_a_size_has_the_shapes_that_the_code_gives():
    size = ModelSize(*SIZE, registered(bigram))
    assert size.by_name == {"table": (9, 4), "output": (4, 9), "bias": (9,)}
    assert size.num_weights == 36 + 36 + 9
    assert size.state == {PREFIX: (1, 6), LENGTH: (1,)}
    assert not size.architecture.free_batch
    weights = load_model(size).initial_weights(3)
    assert ModelSize.of(weights, size.kind) == size
    assert [w.shape for w in weights_from_bytes(weights_to_bytes(weights), size)] == list(size.shapes)
    assert word_products(size) == 36  # a table that is only read multiplies nothing
    assert size.role("embedding") == "table"
    with pytest.raises(RoleError, match="has no output: take another kind"):
        size.role("output")
    assert size.architecture.inner == ("output",)


def test_one_network_is_not_loaded_for_two_lengths():
    kind = registered(bigram)
    with pytest.raises(OwnNetworkError, match="loaded for sentences of 6 words, and this run's have 7"):
        own_network.is_loaded(kind, 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shapes": {}}, "has no weights"),
        ({"shapes": {"a b": (1,)}}, "'a b' must be named by letters"),
        ({"embedding": "nothing"}, "embedding = 'nothing' is none of its weights"),
        ({"output_bias": "output"}, r"has the shape \(4, 9\), and must have 1 dimensions"),
        ({"embedding": "output"}, "the first of 9 words"),
        ({"state": {"a": (1,)}}, "step and state belong together"),
    ],
)
def test_what_no_run_could_train_is_refused(change, said):
    kind = registered(bigram, **change)
    with pytest.raises(OwnNetworkError, match=said):
        _ = ModelSize(*SIZE, kind).names


def test_the_loss_and_the_gradient_are_those_of_the_definition():
    model = load_model(ModelSize(*SIZE, registered(bigram)))
    weights = model.initial_weights(0)
    tokens, targets = np.array([[1, 5, 6], [1, 7, 0]], np.int32), np.array([[5, 6, 2], [7, 2, 0]], np.int32)
    mask = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
    found = model.loss_and_gradients(weights, tokens, targets, mask)
    table, output, bias = (w.astype(np.float64) for w in weights)
    rows = table[tokens] @ output + bias
    probability = np.exp(rows) / np.exp(rows).sum(-1, keepdims=True)
    of_target = np.take_along_axis(probability, targets[..., None], -1)[..., 0]
    assert float(found.loss_sum) == pytest.approx(-(np.log(of_target) * mask).sum(), rel=1e-5)
    assert float(found.num_tokens) == 5
    slopes = (probability - np.eye(9)[targets]) * mask[..., None] / 5
    np.testing.assert_allclose(found.gradients[2], slopes.sum((0, 1)), atol=1e-6)
    np.testing.assert_allclose(found.gradients[1], np.einsum("btd,btv->dv", table[tokens], slopes), atol=1e-6)


def test_a_key_stroke_reads_the_prefix_anew_and_drops_its_first_word_when_full():
    model = load_model(ModelSize(*SIZE, registered(history)))
    weights = model.initial_weights(0)
    state = model.size.start_state()
    typed = np.array([1, 5, 6, 7, 8, 5, 4, 6], np.int32)
    for place, word in enumerate(typed):
        stroke = key_stroke(model, weights, tf.constant([word]), state)
        state = stroke.state
        seen = typed[max(0, place - 5) : place + 1]
        tokens = np.zeros((1, 6), np.int32)
        tokens[0, : len(seen)] = seen
        probability, _ = next_word_probabilities(model, weights, tf.constant(tokens), tf.ones([1, 6]))
        expected = probability.numpy()[len(seen) - 1]
        np.testing.assert_allclose(stroke.probabilities[0], np.sort(expected[4:])[::-1][:3], rtol=1e-5)
    assert state[PREFIX].numpy().tolist() == [typed[-6:].tolist()]


def history(size: BuildSize):
    """A bigram whose rows are summed over the words so far."""
    plain = bigram(size)

    def logits(weights, ids):
        rows = tf.cumsum(tf.gather(weights["table"], ids), 1)
        return rows @ weights["output"] + weights["bias"]

    return own_network.PureNetwork(plain.shapes, plain.initial, logits)


def test_padding_has_no_part_in_recall():
    model = load_model(ModelSize(*SIZE, registered(bigram)))
    weights = model.initial_weights(0)
    tokens, targets = np.array([[1, 5, 6], [1, 7, 0]], np.int32), np.array([[5, 6, 2], [7, 3, 0]], np.int32)
    mask = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
    sums = recall_sums(model, weights, tf.constant(tokens), tf.constant(targets), tf.constant(mask), 9)
    assert (float(sums.positions), float(sums.oov)) == (3, 1)  # 5, 6 and 7 are words; 3 is the unknown one
    probability, positions = next_word_probabilities(model, weights, tf.constant(tokens), tf.constant(mask))
    assert positions.numpy().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    np.testing.assert_allclose(tf.reduce_sum(probability, 1), np.ones(5), rtol=1e-5)


def test_the_output_bias_begins_at_the_word_counts():
    model = load_model(ModelSize(*SIZE, registered(bigram)))
    counts = np.arange(9.0)
    bias = model.initial_weights(0, counts)[2]
    expected = np.log((counts + 0.5) / (counts + 0.5).sum())
    np.testing.assert_allclose(bias, expected - expected.mean(), atol=1e-6)


@pytest.mark.parametrize("value", [np.zeros((9, 4)), np.zeros((9, 5), np.float32), None])
def test_first_values_of_another_kind_are_refused(value):
    def build(size):
        plain = bigram(size)
        return own_network.PureNetwork(plain.shapes, lambda rng: {**plain.initial(rng), "table": value}, plain.logits)

    model = load_model(ModelSize(*SIZE, registered(build)))
    with pytest.raises(OwnNetworkError, match=r"weight table begins as .*must be float32 \(9, 4\)"):
        model.initial_weights(0)


def test_a_weight_that_the_loss_does_not_depend_on_is_named():
    def build(size):
        plain = bigram(size)
        return own_network.PureNetwork({**plain.shapes, "idle": (2,)}, plain.initial, plain.logits)

    model = load_model(ModelSize(*SIZE, registered(build)))
    weights = (*load_model(ModelSize(*SIZE, registered(bigram))).initial_weights(0), np.zeros(2, np.float32))
    ones = np.ones((1, 3), np.int32)
    with pytest.raises(OwnNetworkError, match="does not depend on the weight idle"):
        model.loss_and_gradients(weights, ones, ones, np.ones((1, 3), np.float32))


def test_dropout_and_shared_rows_are_of_built_in_networks_alone():
    model = load_model(ModelSize(*SIZE, registered(bigram)))
    weights, ids, mask = model.initial_weights(0), np.ones((1, 3), np.int32), np.ones((1, 3), np.float32)
    with pytest.raises(OwnNetworkError, match=r"client\.dropout must be 0"):
        model.loss_and_gradients(weights, ids, ids, mask, Dropout(0.5, tf.constant([0, 1])))
    with pytest.raises(ValueError, match="share a row"):
        model.loss_and_gradients(weights, ids, ids, mask, padded=True, shares_rows=True)
