"""What the trained model says: next words and their probabilities, one key stroke, recall on a batch.

Pure functions over the weights of models.cifg_lstm. key_stroke, and recall_sums with `padded`, are in TFLite's builtin
ops: the export traces them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.cifg_lstm import Tensors, hidden_states, to_tensors
from models.layouts import Packed, build_layout
from models.vocabulary import NUM_SPECIAL, UNK


def next_word_probabilities(weights: Tensors, tokens: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities float32 [N, V] at the real positions, and where each row stands: int64 [N, 2] of (row, step)."""
    layout = Packed(mask)
    hidden = hidden_states(to_tensors(weights), tokens, layout).after
    probability = tf.nn.softmax(layout.times_transposed(hidden, weights[0]) + weights[4])
    return probability, layout.positions


def recurrent_step(
    weights: Tensors, token: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (hidden [batch, D], cell [batch, U]) after one more word in each row; token int32 [batch]."""
    embedding, kernel, bias, projection, _ = weights
    num_cells = projection.shape[0]
    gates = tf.matmul(tf.concat([tf.gather(embedding, token), hidden], 1), kernel) + bias
    forget = tf.sigmoid(gates[:, :num_cells])
    output = tf.sigmoid(gates[:, num_cells : 2 * num_cells])
    candidate = tf.tanh(gates[:, 2 * num_cells :])
    cell = candidate + forget * (cell - candidate)
    return tf.matmul(output * tf.tanh(cell), projection), cell


class KeyStroke(NamedTuple):
    """What one key stroke gives: the three likeliest next words and the state to hand in with the next one."""

    ids: tf.Tensor  # int32 [1, 3], likeliest first; never a special id
    probabilities: tf.Tensor  # float32 [1, 3]
    hidden: tf.Tensor  # float32 [1, D]
    cell: tf.Tensor  # float32 [1, U]


def key_stroke(weights: Tensors, token: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor) -> KeyStroke:
    """Returns one step of the recurrence for one word, in TFLite's builtin ops.

    Args:
      weights: the five weights.
      token: int32 [1], the word just typed; BOS at the start of a sentence.
      hidden, cell: float32 [1, D] and [1, U], of the step before; zeros at the start.
    """
    hidden, cell = recurrent_step(weights, token, hidden, cell)
    probability = tf.nn.softmax(tf.matmul(hidden, weights[0], transpose_b=True) + weights[4])
    best, ids = tf.math.top_k(probability[:, NUM_SPECIAL:], 3)
    return KeyStroke(ids + NUM_SPECIAL, best, hidden, cell)


class RecallSums(NamedTuple):
    """Sums over the scored positions of a batch; float32 scalars, exact up to 2**24 positions."""

    hits1: tf.Tensor
    hits3: tf.Tensor
    nll_sum: tf.Tensor  # nats
    positions: tf.Tensor  # targets that are words of the vocabulary
    oov: tf.Tensor  # target words outside it, not scored


def recall_sums(
    weights: Tensors,
    tokens: tf.Tensor,
    targets: tf.Tensor,
    mask: tf.Tensor,
    vocabulary_size: int,
    padded: bool = False,
) -> RecallSums:
    """Returns the top-1 and top-3 hits and the cross-entropy of a batch, by the same metric as models.metrics.

    Scored are targets that are words of the vocabulary (ids from NUM_SPECIAL on). Special ids are never proposed; ties
    go to the smaller id. A word of the vocabulary that the (smaller) model has no row for is a miss; its probability
    is an equal share of <unk>'s (which stands for those words and for the unknown), so that the losses of models of
    different size compare.

    Args:
      weights: the model's, with V <= vocabulary_size rows.
      tokens, targets: int32 [batch, time] ids of the vocabulary, not cut to the model's.
      mask: float32 [batch, time].
      vocabulary_size: ids of the vocabulary, special ones included.
      padded: as in models.cifg_lstm.loss_and_gradients.
    """
    num_rows = int(weights[0].shape[0])
    layout = build_layout(mask, padded)
    known_tokens = tf.where(tokens >= num_rows, UNK, tokens)
    hidden = hidden_states(to_tensors(weights), known_tokens, layout).after
    target = layout.flatten(targets)
    is_word = target >= NUM_SPECIAL
    num_oov = tf.reduce_sum(layout.weight_where(tf.equal(target, UNK)))
    weight = layout.weight_where(is_word)
    target, hidden = layout.only(is_word, target), layout.only(is_word, hidden)
    missing = target >= num_rows
    logits = layout.times_transposed(hidden, weights[0]) + weights[4]
    of_target = layout.picked(logits, tf.where(missing, UNK, target))
    nll = tf.reduce_logsumexp(logits, 1, keepdims=True)[:, 0] - of_target  # without keepdims TFLite computes a shape
    if vocabulary_size > num_rows:
        nll += tf.where(missing, tf.math.log(float(vocabulary_size - num_rows + 1)), 0.0)
    words = logits[:, NUM_SPECIAL:]
    ids = tf.range(NUM_SPECIAL, num_rows)
    better = (words > of_target[:, tf.newaxis]) | (
        tf.equal(words, of_target[:, tf.newaxis]) & (ids < target[:, tf.newaxis])
    )
    rank = tf.reduce_sum(tf.cast(better, tf.int32), 1)

    def count(condition: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(condition & ~missing, tf.float32) * weight)

    return RecallSums(count(rank < 1), count(rank < 3), tf.reduce_sum(nll * weight), tf.reduce_sum(weight), num_oov)


def over_vocabulary(probabilities: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """Returns the model's probabilities [n, V], spread over a larger vocabulary: [n, vocabulary_size].

    >>> over_vocabulary(np.array([[0.0, 0.0, 0.2, 0.3, 0.5]]), 7)
    array([[0. , 0. , 0.2, 0.1, 0.5, 0.1, 0.1]])
    """
    num_rows = probabilities.shape[1]
    spread = np.empty((len(probabilities), vocabulary_size), probabilities.dtype)
    share = probabilities[:, UNK] / (vocabulary_size - num_rows + 1)
    spread[:, :num_rows] = probabilities
    spread[:, UNK] = share
    spread[:, num_rows:] = share[:, np.newaxis]
    return spread
