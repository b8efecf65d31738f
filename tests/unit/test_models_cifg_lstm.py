"""The model: its gradient against autodiff, packing against padding, metrics against models.metrics."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models import inference, metrics
from models.batches import build_batches
from models.model import load_model
from models.next_word import Dropout, Pull, sgd_step
from models.vocabulary import NUM_SPECIAL, PAD, UNK
from models.weights import ModelSize

SIZE = ModelSize(vocabulary_size=23, embedding_size=6, num_cells=9)
MODEL = load_model(SIZE)
TIME = 5


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(3)
    start = MODEL.initial_weights(1, embedding_range=0.5)
    return tuple((w + rng.normal(0, 0.3, w.shape)).astype(np.float32) for w in start)


def ragged_batch(seed: int, rows: int = 4, vocabulary_size: int = SIZE.vocabulary_size, shortest: int = 1):
    rng = np.random.default_rng(seed)
    sentences = [rng.integers(NUM_SPECIAL, vocabulary_size, rng.integers(shortest, TIME + 3)) for _ in range(rows)]
    batches = build_batches(sentences, batch_size=rows, time=TIME)
    return batches.tokens[0], batches.targets[0], batches.mask[0]


def plain_hidden(weights, tokens):
    """The equations of the module's docstring, one sentence and one step at a time, in float64."""
    embedding, kernel, bias, projection, _ = (w.astype(np.float64) for w in weights)
    num_cells, width = projection.shape
    hidden, cell, outputs = np.zeros(width), np.zeros(num_cells), []
    for token in tokens:
        gates = np.concatenate([embedding[token], hidden]) @ kernel + bias
        forget, output = (1 / (1 + np.exp(-gates[i * num_cells : (i + 1) * num_cells])) for i in (0, 1))
        cell = forget * cell + (1 - forget) * np.tanh(gates[2 * num_cells :])
        hidden = (output * np.tanh(cell)) @ projection
        outputs.append(hidden)
    return np.array(outputs)


def plain_probabilities(weights, tokens):
    logits = plain_hidden(weights, tokens) @ weights[0].T.astype(np.float64) + weights[4]
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def factor(keep, step):
    return 1.0 if keep is None else keep[:, step]


def autodiff(weights, tokens, targets, mask, keep=(None, None)):
    """Mean loss and its gradients by TensorFlow, from a padded forward pass written in the plainest way."""
    variables = [tf.Variable(w) for w in weights]
    with tf.GradientTape() as tape:
        embedding, kernel, bias, projection, output_bias = variables
        hidden = tf.zeros([len(tokens), SIZE.embedding_size])
        cell = tf.zeros([len(tokens), SIZE.num_cells])
        total = 0.0
        for step in range(tokens.shape[1]):
            entering = tf.gather(embedding, tokens[:, step]) * factor(keep[0], step)
            gates = tf.concat([entering, hidden], 1) @ kernel + bias
            forget, output, candidate = tf.split(gates, 3, 1)
            cell = tf.sigmoid(forget) * cell + (1 - tf.sigmoid(forget)) * tf.tanh(candidate)
            hidden = (tf.sigmoid(output) * tf.tanh(cell)) @ projection
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                targets[:, step],
                (hidden * factor(keep[1], step)) @ tf.transpose(embedding) + output_bias,
            )
            total += tf.reduce_sum(losses * mask[:, step])
        loss = total / max(1.0, float(mask.sum()))
    return float(loss), [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, variables)]


def test_gboards_size_has_gboards_number_of_weights():
    size = ModelSize(10_000, 96, 670)
    assert size.num_weights == 1_422_250
    assert ModelSize.of(load_model(size).initial_weights(0)) == size


@pytest.mark.parametrize("longest", range(1, TIME + 1))
def test_gradient_equals_autodiff_for_every_length(weights, longest):
    for seed in range(3):
        rng = np.random.default_rng([seed, longest])
        sentences = [rng.integers(NUM_SPECIAL, SIZE.vocabulary_size, rng.integers(1, longest + 1)) for _ in range(4)]
        batch = build_batches(sentences, batch_size=5, time=longest)  # the fifth row is filling
        tokens, targets, mask = (part[0] for part in batch)
        loss, expected = autodiff(weights, tokens, targets, mask)
        got = MODEL.loss_and_gradients(weights, tokens, targets, mask)
        assert float(got.loss_sum) / float(got.num_tokens) == pytest.approx(loss, abs=1e-6)
        for name, mine, theirs in zip(SIZE.names, got.gradients, expected):
            np.testing.assert_allclose(mine, theirs, atol=1e-6, err_msg=name)


def test_gradient_under_dropout_equals_autodiff_with_the_same_factors(weights):
    tokens, targets, mask = ragged_batch(4)
    rate, seed = 0.4, tf.constant([5, 6])
    where = inference.next_word_probabilities(MODEL, weights, tokens, mask)[1].numpy()
    keep = []
    for offset in (0, 1):
        rows = Dropout(rate, seed + [0, offset]).factors(len(where), SIZE.embedding_size)
        padded = np.zeros((*tokens.shape, SIZE.embedding_size), np.float32)
        padded[where[:, 0], where[:, 1]] = rows
        keep.append(padded)
    assert not np.array_equal(*keep)
    assert set(np.unique(keep).round(4)) == {0.0, np.float32(1 / 0.6).round(4)}
    loss, expected = autodiff(weights, tokens, targets, mask, keep)
    got = MODEL.loss_and_gradients(weights, tokens, targets, mask, Dropout(rate, seed))
    assert float(got.loss_sum) / float(got.num_tokens) == pytest.approx(loss, abs=1e-6)
    for name, mine, theirs in zip(SIZE.names, got.gradients, expected):
        np.testing.assert_allclose(mine, theirs, atol=1e-6, err_msg=name)


def test_masked_equals_unpadded(weights):
    tokens, targets, mask = ragged_batch(5)
    together = MODEL.loss_and_gradients(weights, tokens, targets, mask)
    alone = []
    for row in range(len(tokens)):
        length = int(mask[row].sum())
        cut = (a[row : row + 1, :length] for a in (tokens, targets, mask))
        alone.append(MODEL.loss_and_gradients(weights, *cut))
    assert float(together.loss_sum) == pytest.approx(sum(float(a.loss_sum) for a in alone), rel=1e-6)
    assert float(together.num_tokens) == sum(float(a.num_tokens) for a in alone)
    for place, gradient in enumerate(together.gradients):
        expected = sum(a.gradients[place] * a.num_tokens for a in alone) / together.num_tokens
        np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_what_stands_in_the_padding_does_not_matter(weights):
    tokens, targets, mask = ragged_batch(6)
    noise = np.random.default_rng(0).integers(0, SIZE.vocabulary_size, tokens.shape)
    real = mask > 0
    other = MODEL.loss_and_gradients(
        weights, np.where(real, tokens, noise).astype(np.int32), np.where(real, targets, noise).astype(np.int32), mask
    )
    for mine, theirs in zip(MODEL.loss_and_gradients(weights, tokens, targets, mask).gradients, other.gradients):
        np.testing.assert_array_equal(mine, theirs)


def test_a_batch_of_nothing_changes_nothing(weights):
    nothing = np.full((3, TIME), PAD, np.int32)
    after, loss_sum, num_tokens = sgd_step(MODEL, weights, nothing, nothing, np.zeros((3, TIME), np.float32), 1.0)
    assert float(loss_sum) == float(num_tokens) == 0.0
    for before, now in zip(weights, after):
        np.testing.assert_array_equal(before, now)


def test_clipping_scales_all_gradients_by_the_norm_of_the_recurrent_ones(weights):
    batch = ragged_batch(7)
    gradients = MODEL.loss_and_gradients(weights, *batch).gradients
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients[1:4]))
    after, *_ = sgd_step(MODEL, weights, *batch, 0.5, clip_norm=float(norm) / 4)
    for before, now, gradient in zip(weights, after, gradients):
        np.testing.assert_allclose(now, before - 0.125 * gradient, atol=1e-6)
    unclipped, *_ = sgd_step(MODEL, weights, *batch, 0.5, clip_norm=float(norm) * 2)
    np.testing.assert_allclose(unclipped[1], weights[1] - 0.5 * gradients[1], atol=1e-6)


def test_fedprox_pulls_towards_the_servers_weights(weights):
    batch = ragged_batch(8)
    anchor = tuple(w - 1.0 for w in weights)
    plain, *_ = sgd_step(MODEL, weights, *batch, 0.1)
    pulled, *_ = sgd_step(MODEL, weights, *batch, 0.1, pull=Pull(0.5, anchor))
    for a, b in zip(plain, pulled):
        np.testing.assert_allclose(b, a - 0.1 * 0.5, atol=1e-5)


def test_probabilities_equal_the_plain_equations(weights):
    tokens, _, mask = ragged_batch(9)
    probabilities, where = inference.next_word_probabilities(MODEL, weights, tokens, mask)
    assert sorted(map(tuple, where.numpy())) == sorted(map(tuple, np.argwhere(mask > 0)))
    for (row, step), got in zip(where.numpy(), probabilities.numpy()):
        np.testing.assert_allclose(got, plain_probabilities(weights, tokens[row])[step], atol=1e-6)


@pytest.mark.parametrize("vocabulary_size", [SIZE.vocabulary_size, SIZE.vocabulary_size + 7])
def test_recall_sums_equal_the_metrics_module(weights, vocabulary_size):
    tokens, targets, mask = ragged_batch(10, rows=40, vocabulary_size=vocabulary_size)
    targets = np.where((targets == 5) & (mask > 0), UNK, targets)  # some unknown words
    got = inference.recall_sums(MODEL, weights, tokens, targets, mask, vocabulary_size)
    known = np.where(tokens >= SIZE.vocabulary_size, UNK, tokens)
    probabilities, where = inference.next_word_probabilities(MODEL, weights, known, mask)
    target = targets[where[:, 0], where[:, 1]]
    scored = target >= NUM_SPECIAL
    spread = inference.over_vocabulary(probabilities.numpy()[scored], vocabulary_size)
    np.testing.assert_allclose(spread.sum(1), 1.0, atol=1e-5)
    expected = metrics.score_positions(spread, target[scored], np.zeros(scored.sum(), int))
    assert float(got.positions) == scored.sum()
    assert float(got.oov) == np.sum(target == UNK)
    assert float(got.hits1) == expected.hit1.sum()
    assert float(got.hits3) == expected.hit3.sum()
    assert float(got.nll_sum) == pytest.approx(expected.nll_nats.sum(), rel=1e-5)


def test_word_counts_start_the_model_at_the_unigram():
    counts = np.zeros(SIZE.vocabulary_size)
    counts[7] = 1000
    start = MODEL.initial_weights(0, counts, embedding_range=0.01)
    probabilities, _ = inference.next_word_probabilities(
        MODEL, start, *(a for i, a in enumerate(ragged_batch(1)) if i != 1)
    )
    assert np.all(probabilities.numpy().argmax(1) == 7)
    with pytest.raises(ValueError, match=r"word_counts must have shape \(23,\)"):
        MODEL.initial_weights(0, np.zeros(3))
