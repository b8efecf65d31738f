"""A model's loss in the plainest way, padded and for TensorFlow's own gradient: what ours is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from models.architectures import CIFG
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


_ROWS: Mapping[str, Callable[[Named, tf.Tensor], tf.Tensor]] = {CIFG: _cifg}  # by the keys of ARCHITECTURES
