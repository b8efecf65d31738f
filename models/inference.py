"""What a trained model says: next words and their probabilities, one key stroke, recall on a batch.

Pure functions over the weights of a models.next_word.NextWordModel. key_stroke, and recall_sums with `padded`, are in
TFLite's builtin ops: the export traces them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.network import Named, Tensors
from models.next_word import NextWordModel
from models.vocabulary import NUM_SPECIAL, UNK


def next_word_probabilities(
    model: NextWordModel, weights: Tensors, tokens: tf.Tensor, mask: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities float32 [N, V] at the real positions, and where each row stands: int64 [N, 2] of (row, step)."""
    named, layout = model.named(weights), model.layout(mask, padded=False)
    rows = model.rows(named, tokens, layout)
    return tf.nn.softmax(model.logits(named, layout.real(rows), layout)), layout.positions


class KeyStroke(NamedTuple):
    """What one key stroke gives: the three likeliest next words and the state to hand in with the next one."""

    ids: tf.Tensor  # int32 [1, 3], likeliest first; never a special id
    probabilities: tf.Tensor  # float32 [1, 3]
    state: Named  # with the shapes of ModelSize.state


def key_stroke(model: NextWordModel, weights: Tensors, token: tf.Tensor, state: Named) -> KeyStroke:
    """Returns one step of the network for one word, in TFLite's builtin ops.

    Args:
      model: whose weights they are.
      weights: all of them.
      token: int32 [1], the word just typed; BOS at the start of a sentence.
      state: of the step before; zeros at the start.
    """
    named = model.named(weights)
    rows, state = model.step(named, token, state)
    probability = tf.nn.softmax(model.logits(named, rows))
    best, ids = tf.math.top_k(probability[:, NUM_SPECIAL:], 3)
    return KeyStroke(ids + NUM_SPECIAL, best, state)


class RecallSums(NamedTuple):
    """Sums over the scored positions of a batch; float32 scalars, exact up to 2**24 positions."""

    hits1: tf.Tensor
    hits3: tf.Tensor
    nll_sum: tf.Tensor  # nats
    positions: tf.Tensor  # targets that are words of the vocabulary
    oov: tf.Tensor  # target words outside it, not scored


def recall_sums(
    model: NextWordModel,
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
      model: with V <= vocabulary_size words.
      weights: the model's.
      tokens, targets: int32 [batch, time] ids of the vocabulary, not cut to the model's.
      mask: float32 [batch, time].
      vocabulary_size: ids of the vocabulary, special ones included.
      padded: as in models.model.Model.loss_and_gradients.
    """
    num_rows, named = model.size.vocabulary_size, model.named(weights)
    layout = model.layout(mask, padded)
    known_tokens = tf.where(tokens >= num_rows, UNK, tokens)
    rows = model.rows(named, known_tokens, layout)
    target = layout.flatten(targets)
    is_word = target >= NUM_SPECIAL
    num_oov = tf.reduce_sum(layout.weight_where(tf.equal(target, UNK)))
    weight = layout.weight_where(is_word)
    target, rows = layout.only(is_word, target), layout.only(is_word, rows)
    missing = target >= num_rows
    logits = model.logits(named, rows, layout)
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
