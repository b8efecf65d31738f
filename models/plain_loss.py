"""A model's loss in the plainest way, padded and for TensorFlow's own gradient: what ours is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from models.architectures import CIFG, GRU, HEADS, LAYERS, LSTM, TRANSFORMER, WINDOW
from models.network import Named, Tensors
from models.vocabulary import PAD
from models.weights import ModelSize


def plain_loss(size: ModelSize, weights: Tensors, tokens: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy in nats over the positions whose target is not PAD.

    Args:
      size: of the model.
      weights: all of them, in their order.
      tokens, targets: int32 [batch, time], `time` static.
    """
    named = dict(zip(size.names, weights))
    outputs = _ROWS[size.kind](named, tf.nn.embedding_lookup(named[size.role("embedding")], tokens))
    rows, labels = tf.reshape(outputs, [-1, size.embedding_size]), tf.reshape(targets, [-1])
    logits = tf.matmul(rows, named[size.role("output")], transpose_b=True) + named[size.role("output_bias")]
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    mask = tf.cast(tf.not_equal(labels, PAD), tf.float32)
    return tf.reduce_sum(losses * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)


def _cifg(weights: Named, embedded: tf.Tensor) -> tf.Tensor:
    """Returns the rows [batch, time, D] that enter the output layer, of the embedded words [batch, time, D]."""
    kernel, bias, projection = weights["kernel"], weights["bias"], weights["projection"]
    hidden = tf.zeros([tf.shape(embedded)[0], projection.shape[1]])
    cell = tf.zeros([tf.shape(embedded)[0], projection.shape[0]])
    outputs = []
    for step in range(embedded.shape[1]):
        gates = tf.matmul(tf.concat([embedded[:, step], hidden], 1), kernel) + bias
        forget, output, candidate = tf.split(gates, 3, axis=1)
        forget, output, candidate = tf.sigmoid(forget), tf.sigmoid(output), tf.tanh(candidate)
        cell = forget * cell + (1.0 - forget) * candidate
        hidden = tf.matmul(output * tf.tanh(cell), projection)
        outputs.append(hidden)
    return tf.stack(outputs, 1)


def _gru(weights: Named, embedded: tf.Tensor) -> tf.Tensor:
    """See _cifg."""
    kernel, recurrent, bias, projection = (weights[name] for name in ("kernel", "recurrent", "bias", "projection"))
    hidden, outputs = tf.zeros([tf.shape(embedded)[0], projection.shape[0]]), []
    for step in range(embedded.shape[1]):
        x_update, x_reset, x_new = tf.split(tf.matmul(embedded[:, step], kernel) + bias[0], 3, axis=1)
        h_update, h_reset, h_new = tf.split(tf.matmul(hidden, recurrent) + bias[1], 3, axis=1)
        update, reset = tf.sigmoid(x_update + h_update), tf.sigmoid(x_reset + h_reset)
        hidden = update * hidden + (1.0 - update) * tf.tanh(x_new + reset * h_new)
        outputs.append(tf.matmul(hidden, projection))
    return tf.stack(outputs, 1)


def _lstm(weights: Named, embedded: tf.Tensor) -> tf.Tensor:
    """See _cifg."""
    projection = weights["projection"]
    hidden = cell = tf.zeros([tf.shape(embedded)[0], projection.shape[0]])
    outputs = []
    for step in range(embedded.shape[1]):
        from_input = tf.matmul(embedded[:, step], weights["kernel"]) + weights["bias"]
        enter, forget, candidate, leave = tf.split(from_input + tf.matmul(hidden, weights["recurrent"]), 4, axis=1)
        cell = tf.sigmoid(forget) * cell + tf.sigmoid(enter) * tf.tanh(candidate)
        hidden = tf.sigmoid(leave) * tf.tanh(cell)
        outputs.append(tf.matmul(hidden, projection) + weights["projection_bias"])
    return tf.stack(outputs, 1)


def _transformer(weights: Named, embedded: tf.Tensor) -> tf.Tensor:
    """See _cifg."""
    time, width = embedded.shape[1], embedded.shape[2]
    distance = tf.range(time)[:, tf.newaxis] - tf.range(time)
    slopes = tf.reshape([2.0 ** (-8.0 * (head + 1) / HEADS) for head in range(HEADS)], [HEADS, 1, 1])
    bias = tf.where((distance >= 0) & (distance < WINDOW), -slopes * tf.cast(distance, tf.float32), -1e9)

    def norm(x: tf.Tensor, gain: tf.Tensor) -> tf.Tensor:
        return x / tf.sqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6) * gain

    x = embedded
    for i in range(LAYERS):
        rows = tf.matmul(norm(x, weights[f"attention_norm_{i}"]), weights[f"attention_{i}"])
        heads = tf.reshape(rows, [-1, time, 3, HEADS, width // HEADS])
        scores = tf.einsum("bthd,bshd->bhts", heads[:, :, 0], heads[:, :, 1]) / (width // HEADS) ** 0.5
        mixed = tf.einsum("bhts,bshd->bthd", tf.nn.softmax(scores + bias), heads[:, :, 2])
        x += tf.matmul(tf.reshape(mixed, [-1, time, width]), weights[f"attention_out_{i}"])
        wide = tf.matmul(norm(x, weights[f"forward_norm_{i}"]), weights[f"expand_{i}"]) + weights[f"expand_bias_{i}"]
        x += tf.matmul(tf.nn.relu(wide), weights[f"contract_{i}"])
    return norm(x, weights["final_norm"])


_ROWS: Mapping[str, Callable[[Named, tf.Tensor], tf.Tensor]] = {  # by the keys of ARCHITECTURES
    CIFG: _cifg,
    GRU: _gru,
    LSTM: _lstm,
    TRANSFORMER: _transformer,
}
