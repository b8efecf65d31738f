"""The model's loss in the plainest way, padded and for TensorFlow's own gradient: what ours is compared with."""

from __future__ import annotations

import tensorflow as tf

from models.cifg_lstm import Tensors
from models.vocabulary import PAD


def plain_loss(weights: Tensors, tokens: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy in nats over the positions whose target is not PAD.

    Args:
      weights: as in models.cifg_lstm.
      tokens, targets: int32 [batch, time], `time` static.
    """
    embedding, kernel, bias, projection, output_bias = weights
    hidden = tf.zeros([tf.shape(tokens)[0], projection.shape[1]])
    cell = tf.zeros([tf.shape(tokens)[0], projection.shape[0]])
    embedded, outputs = tf.nn.embedding_lookup(embedding, tokens), []
    for step in range(tokens.shape[1]):
        gates = tf.matmul(tf.concat([embedded[:, step], hidden], 1), kernel) + bias
        forget, output, candidate = tf.split(gates, 3, axis=1)
        forget, output, candidate = tf.sigmoid(forget), tf.sigmoid(output), tf.tanh(candidate)
        cell = forget * cell + (1.0 - forget) * candidate
        hidden = tf.matmul(output * tf.tanh(cell), projection)
        outputs.append(hidden)
    rows, labels = tf.reshape(tf.stack(outputs, 1), [-1, projection.shape[1]]), tf.reshape(targets, [-1])
    logits = tf.matmul(rows, embedding, transpose_b=True) + output_bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    mask = tf.cast(tf.not_equal(labels, PAD), tf.float32)
    return tf.reduce_sum(losses * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)
