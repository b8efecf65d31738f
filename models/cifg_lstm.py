"""Gboard's next-word model: a CIFG-LSTM with a recurrent projection and a tied embedding, as pure functions.

The forward pass and its hand-written gradient stand here once, over a layout of the batch's positions: TFF trains with
_Packed, which leaves the padding out, and the TFLite export traces _Padded, whose every op lowers to a TFLite builtin.
Phone and simulator so do the same arithmetic.

Notation: V words, D embedding size, U cells, `time` positions a sentence, N real (unpadded) positions of a batch.

    [f, o, a] = [x, h] K + b        f = sigmoid(f), o = sigmoid(o), a = tanh(a)
    c' = f * c + (1 - f) * a        the input gate is coupled: i = 1 - f
    h' = (o * tanh(c')) P           the recurrent projection, U -> D
    p(word) = softmax(h' E^T + e)   E is the embedding, used twice (tied)

Source: Hard et al. 2018, "Federated learning for mobile keyboard prediction", section 3 (CIFG, 670 cells, embedding 96
tied with the output, 10,000 words, 1.4 M weights); Greff et al. 2017, "LSTM: a search space odyssey" (CIFG); Sak et al.
2014 (recurrent projection), without which the count would be 2.6 M.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from models.vocabulary import NUM_SPECIAL, UNK
from models.weights import WEIGHT_NAMES, ModelSize, Weights

__all__ = [
    "WEIGHT_NAMES",
    "KeyStroke",
    "LossAndGradients",
    "ModelSize",
    "RecallSums",
    "Weights",
    "initial_weights",
    "key_stroke",
    "loss_and_gradients",
    "next_word_probabilities",
    "over_vocabulary",
    "recall_sums",
    "sgd_step",
]

_SMALLEST_PROBABILITY = 1e-30  # keeps log() finite where float32 softmax underflows


def initial_weights(
    size: ModelSize, seed: int, word_counts: Optional[np.ndarray] = None, embedding_range: float = 0.15
) -> Weights:
    """Random float32 weights in the order of WEIGHT_NAMES; equal for equal arguments.

    Args:
      size: the model's size.
      seed: any int >= 0.
      word_counts: float [V], how often each id is a target; the output bias starts at the log of its smoothed share,
        which gives the untrained model the accuracy of the unigram. None starts it at zero.
      embedding_range: the embedding is uniform in [-embedding_range, embedding_range].
    """
    rng = np.random.default_rng(seed)
    v, d, u = size.vocabulary_size, size.embedding_size, size.num_cells
    bias = np.zeros(3 * u, np.float32)
    bias[:u] = 1.0  # an open forget gate at the start: Jozefowicz et al. 2015
    output_bias = np.zeros(v, np.float32)
    if word_counts is not None:
        if word_counts.shape != (v,):
            raise ValueError(f"word_counts must have shape ({v},), got word_counts.shape={word_counts.shape}")
        log_share = np.log((word_counts + 0.5) / (word_counts + 0.5).sum())
        output_bias = (log_share - log_share.mean()).astype(np.float32)
    return (
        rng.uniform(-embedding_range, embedding_range, (v, d)).astype(np.float32),
        (rng.standard_normal((2 * d, 3 * u)) / np.sqrt(2 * d)).astype(np.float32),
        bias,
        (rng.standard_normal((u, d)) / np.sqrt(u)).astype(np.float32),
        output_bias,
    )


class _Packed:
    """Real positions only, time-major: step t holds the sizes[t] sentences that are still running at t.

    Sentences are put in order of falling length first, so that a step's rows are a prefix of the step's before.
    """

    def __init__(self, mask: tf.Tensor):
        self.time = mask.shape[1]
        order = tf.argsort(tf.reduce_sum(mask, 1), direction="DESCENDING", stable=True)
        real = tf.transpose(tf.gather(mask, order)) > 0.0  # [time, batch]
        self.sizes = tf.reduce_sum(tf.cast(real, tf.int32), 1)
        step_and_row = tf.where(real)
        rows = tf.gather(tf.cast(order, tf.int64), step_and_row[:, 1])
        self.positions = tf.stack([rows, step_and_row[:, 0]], 1)  # int64 [N, 2]: (row, step) in [batch, time]
        self.num_rows = tf.shape(self.positions)[0]
        self.weight = tf.ones([self.num_rows, 1])

    def flatten(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather_nd(ids, self.positions)

    def steps(self, rows: tf.Tensor) -> list:
        return tf.split(rows, self.sizes, num=self.time)

    def start(self, width: int) -> tf.Tensor:
        return tf.zeros([self.sizes[0], width])

    def carry(self, state: tf.Tensor, step: int) -> tf.Tensor:
        """The rows of `state` that go on at `step`."""
        return state[: self.sizes[step]]

    def carry_back(self, gradient: tf.Tensor, step: int) -> tf.Tensor:
        """The adjoint of carry: rows that ended before `step + 1` get no gradient from it."""
        return tf.pad(gradient, [[0, self.sizes[step] - self.sizes[step + 1]], [0, 0]])

    def weight_where(self, condition: tf.Tensor) -> tf.Tensor:
        """float32 [n]: the weight of the rows that `only` keeps."""
        return tf.ones_like(self.only(condition, self.weight)[:, 0])

    @staticmethod
    def only(condition: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """The rows where `condition` holds."""
        return tf.gather(rows, tf.where(condition)[:, 0])

    @staticmethod
    def times_transposed(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        return tf.matmul(left, right, transpose_b=True)

    @staticmethod
    def weighted_sum(rows: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        """float32 [width]: the sum of rows [N, width], each times its share [N, 1]."""
        return tf.squeeze(tf.matmul(rows, share, transpose_a=True), 1)

    @staticmethod
    def add_rows(dense: tf.Tensor, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """`dense` with rows[i] added to its row ids[i]."""
        return tf.tensor_scatter_nd_add(dense, ids[:, tf.newaxis], rows)


class _Padded:
    """All positions, time-major: every step holds every sentence, and padding weighs 0. For the TFLite export.

    The same interface as _Packed, in builtin ops whose shapes depend on `time` (static) and the batch size (free) only:
    packing needs shapes that depend on the values. Each method is written for the op that runs fast in LiteRT with
    weights that are not constants (docs/adr/0003).
    """

    def __init__(self, mask: tf.Tensor):
        self.time = mask.shape[1]
        self._batch = tf.shape(mask)[0] if mask.shape[0] is None else mask.shape[0]
        self.num_rows = self.time * self._batch
        self.weight = tf.reshape(tf.transpose(mask), [-1, 1])

    def flatten(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(ids), [-1])

    def steps(self, rows: tf.Tensor) -> list:
        return tf.unstack(tf.reshape(rows, [self.time, self._batch, rows.shape[1]]))

    def start(self, width: int) -> tf.Tensor:
        return tf.zeros([self._batch, width])

    @staticmethod
    def carry(state: tf.Tensor, step: int) -> tf.Tensor:
        return state

    @staticmethod
    def carry_back(gradient: tf.Tensor, step: int) -> tf.Tensor:
        return gradient

    def weight_where(self, condition: tf.Tensor) -> tf.Tensor:
        return tf.cast(condition, tf.float32) * self.weight[:, 0]

    @staticmethod
    def only(condition: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return rows

    @staticmethod
    def times_transposed(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        # Transposed through rank 3: the converter folds a plain transpose into FULLY_CONNECTED, which is slow when its
        # weights are not constants.
        rows, columns = right.shape
        turned = tf.transpose(tf.reshape(right, [1, rows, columns]), [0, 2, 1])
        return tf.matmul(left, tf.reshape(turned, [columns, rows]))

    @staticmethod
    def weighted_sum(rows: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(rows * share, 0)

    @staticmethod
    def add_rows(dense: tf.Tensor, ids: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        return dense + tf.scatter_nd(ids[:, tf.newaxis], rows, dense.shape)


def _layout(mask: tf.Tensor, padded: bool):
    return _Padded(mask) if padded else _Packed(mask)


def _hidden_states(weights, tokens: tf.Tensor, layout, keep=None):
    """Embedded rows [N, D], the states of each step that the backward pass needs, and hidden rows [N, D].

    `keep` [N, D] multiplies the embedded rows: dropout's factors.
    """
    embedding, kernel, bias, projection, _ = weights
    num_cells, width = projection.shape
    embedded = tf.gather(embedding, layout.flatten(tokens))
    if keep is not None:
        embedded *= keep
    from_input = layout.steps(tf.matmul(embedded, kernel[:width]) + bias)
    hidden, cell = layout.start(width), layout.start(num_cells)
    states, hidden_before, hidden_after = [], [], []
    for step in range(layout.time):
        hidden, cell_before = layout.carry(hidden, step), layout.carry(cell, step)
        hidden_before.append(hidden)
        gates = from_input[step]
        if step:  # the state before the first word is zero
            gates += tf.matmul(hidden, kernel[width:])
        forget = tf.sigmoid(gates[:, :num_cells])
        output = tf.sigmoid(gates[:, num_cells : 2 * num_cells])
        candidate = tf.tanh(gates[:, 2 * num_cells :])
        cell = candidate + forget * (cell_before - candidate)
        squashed = tf.tanh(cell)
        exposed = output * squashed
        hidden = tf.matmul(exposed, projection)
        states.append((forget, output, candidate, cell_before, squashed, exposed))
        hidden_after.append(hidden)
    return embedded, states, tf.concat(hidden_before, 0), tf.concat(hidden_after, 0)


class LossAndGradients(NamedTuple):
    """What one batch gives: scalars float32, gradients in the order and shapes of the weights."""

    loss_sum: tf.Tensor  # nats, summed over the real positions
    num_tokens: tf.Tensor  # float32, real positions
    gradients: tuple  # of loss_sum / max(num_tokens, 1)


def _keep_factors(rate: float, seed, num_rows, width: int) -> tf.Tensor:
    """Dropout's factors [N, D]: 0 with probability `rate`, else 1 / (1 - rate); equal for equal seeds."""
    uniform = tf.random.stateless_uniform([num_rows, width], seed)
    return tf.cast(uniform >= rate, tf.float32) / (1.0 - rate)


def loss_and_gradients(
    weights, tokens: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor, dropout=None, padded: bool = False
) -> LossAndGradients:
    """Summed cross-entropy of a batch and the gradient of its mean over real positions.

    Args:
      weights: the five weights, tensors or arrays.
      tokens: int32 [batch, time], `time` static.
      targets: int32 [batch, time].
      mask: float32 [batch, time] of 0 and 1; in each row the ones come first.
      dropout: (rate, seed int32 [2]): drops so large a share of what enters and leaves the LSTM, not of what recurs
        (Zaremba et al. 2014). None drops nothing.
      padded: compute the padding too and weigh it 0, in TFLite's builtin ops; for export. The same figures but for
        rounding.
    """
    weights = tuple(tf.convert_to_tensor(w) for w in weights)
    embedding, kernel, _, projection, output_bias = weights
    num_cells, width = projection.shape
    layout = _layout(mask, padded)
    keep_in = keep_out = None
    if dropout is not None:
        rate, seed = dropout
        keep_in = _keep_factors(rate, seed, layout.num_rows, width)
        keep_out = _keep_factors(rate, seed + tf.constant([0, 1]), layout.num_rows, width)
    embedded, states, hidden_before, hidden = _hidden_states(weights, tokens, layout, keep_in)
    if keep_out is not None:
        hidden *= keep_out

    token_ids, target_ids = layout.flatten(tokens), layout.flatten(targets)
    num_tokens = tf.reduce_sum(layout.weight)
    share = layout.weight / tf.maximum(num_tokens, 1.0)  # [N, 1]
    probability = tf.nn.softmax(layout.times_transposed(hidden, embedding) + output_bias)
    of_target = tf.gather_nd(probability, tf.stack([tf.range(layout.num_rows), target_ids], 1))
    loss_sum = -tf.reduce_sum(tf.math.log(tf.maximum(of_target, _SMALLEST_PROBABILITY)) * layout.weight[:, 0])

    # Output layer: d loss / d logits = (probability - one_hot(target)) * share; the one-hot part stays sparse.
    hidden_share = hidden * share
    d_hidden = tf.matmul(probability, embedding) * share - tf.gather(embedding, target_ids) * share
    if keep_out is not None:
        d_hidden *= keep_out
    d_embedding = tf.matmul(probability, hidden_share, transpose_a=True)
    d_output_bias = layout.weighted_sum(probability, share)

    # Back through time.
    d_hidden_steps = layout.steps(d_hidden)
    d_gates, d_hidden_rows = [None] * layout.time, [None] * layout.time
    d_hidden_next = d_cell_next = None
    for step in reversed(range(layout.time)):
        forget, output, candidate, cell_before, squashed, _ = states[step]
        d_hidden_step = d_hidden_steps[step]
        if d_hidden_next is not None:
            d_hidden_step += layout.carry_back(d_hidden_next, step)
        d_exposed = layout.times_transposed(d_hidden_step, projection)
        d_cell = d_exposed * output * (1.0 - squashed * squashed)
        if d_cell_next is not None:
            d_cell += layout.carry_back(d_cell_next, step)
        d_step_gates = tf.concat(
            [
                d_cell * (cell_before - candidate) * (forget * (1.0 - forget)),
                d_exposed * squashed * (output * (1.0 - output)),
                d_cell * (1.0 - forget) * (1.0 - candidate * candidate),
            ],
            1,
        )
        d_gates[step], d_hidden_rows[step] = d_step_gates, d_hidden_step
        if step:
            d_cell_next = d_cell * forget
            d_hidden_next = layout.times_transposed(d_step_gates, kernel[width:])
    d_gates = tf.concat(d_gates, 0)
    exposed = tf.concat([state[5] for state in states], 0)

    d_kernel = tf.concat(
        [tf.matmul(embedded, d_gates, transpose_a=True), tf.matmul(hidden_before, d_gates, transpose_a=True)],
        0,
    )
    d_bias = tf.reduce_sum(d_gates, 0)
    d_projection = tf.matmul(exposed, tf.concat(d_hidden_rows, 0), transpose_a=True)
    d_embedded = layout.times_transposed(d_gates, kernel[:width])
    if keep_in is not None:
        d_embedded *= keep_in
    d_embedding = layout.add_rows(
        d_embedding,
        tf.concat([token_ids, target_ids], 0),
        tf.concat([d_embedded, -hidden_share], 0),
    )
    d_output_bias = layout.add_rows(d_output_bias, target_ids, -share[:, 0])
    return LossAndGradients(loss_sum, num_tokens, (d_embedding, d_kernel, d_bias, d_projection, d_output_bias))


def sgd_step(
    weights,
    tokens,
    targets,
    mask,
    learning_rate,
    clip_norm: float = 0.0,
    pull=None,
    dropout=None,
    padded: bool = False,
):
    """Weights after one step of SGD, with the batch's loss_sum and num_tokens.

    Args:
      weights, tokens, targets, mask, dropout, padded: as in loss_and_gradients.
      learning_rate: float32 scalar.
      clip_norm: if the gradients of kernel, bias and projection together are longer than this (L2), the whole step is
        scaled down by the same factor: the recurrent part is what explodes (Pascanu et al. 2013). 0 switches it off.
      pull: (mu, weights of the server) adds FedProx's mu * (weights - server's): Li et al. 2020, equation 2.
    """
    loss_sum, num_tokens, gradients = loss_and_gradients(weights, tokens, targets, mask, dropout, padded)
    if pull is not None:
        mu, anchor = pull
        gradients = tuple(g + mu * (w - a) for g, w, a in zip(gradients, weights, anchor))
    rate = learning_rate
    if clip_norm > 0:
        norm = tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in gradients[1:4]]))
        rate = learning_rate * (clip_norm / tf.maximum(norm, clip_norm))
    return tuple(w - rate * g for w, g in zip(weights, gradients)), loss_sum, num_tokens


def next_word_probabilities(weights, tokens: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities float32 [N, V] at the real positions, and where each row stands: int64 [N, 2] of (row, step)."""
    layout = _Packed(mask)
    hidden = _hidden_states(tuple(tf.convert_to_tensor(w) for w in weights), tokens, layout)[3]
    probability = tf.nn.softmax(layout.times_transposed(hidden, weights[0]) + weights[4])
    return probability, layout.positions


def recurrent_step(weights, token: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(hidden [batch, D], cell [batch, U]) after one more word in each row; token int32 [batch]."""
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


def key_stroke(weights, token: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor) -> KeyStroke:
    """One step of the recurrence for one word, in TFLite's builtin ops.

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


def recall_sums(weights, tokens, targets, mask, vocabulary_size: int, padded: bool = False) -> RecallSums:
    """Top-1 and top-3 hits and cross-entropy of a batch, the same metric as models.metrics.

    Scored are targets that are words of the vocabulary (ids from NUM_SPECIAL on). Special ids are never proposed; ties
    go to the smaller id. A word of the vocabulary that the (smaller) model has no row for is a miss; its probability
    is an equal share of <unk>'s (which stands for those words and for the unknown), so that the losses of models of
    different size compare.

    Args:
      weights: the model's, with V <= vocabulary_size rows.
      tokens, targets: int32 [batch, time] ids of the vocabulary, not cut to the model's.
      mask: float32 [batch, time].
      vocabulary_size: ids of the vocabulary, special ones included.
      padded: as in loss_and_gradients.
    """
    num_rows = int(weights[0].shape[0])
    layout = _layout(mask, padded)
    known_tokens = tf.where(tokens >= num_rows, UNK, tokens)
    hidden = _hidden_states(tuple(tf.convert_to_tensor(w) for w in weights), known_tokens, layout)[3]
    target = layout.flatten(targets)
    is_word = target >= NUM_SPECIAL
    num_oov = tf.reduce_sum(layout.weight_where(tf.equal(target, UNK)))
    weight = layout.weight_where(is_word)
    target, hidden = layout.only(is_word, target), layout.only(is_word, hidden)
    missing = target >= num_rows
    logits = layout.times_transposed(hidden, weights[0]) + weights[4]
    row = tf.range(tf.shape(target)[0])
    of_target = tf.gather_nd(logits, tf.stack([row, tf.where(missing, UNK, target)], 1))
    nll = tf.reduce_logsumexp(logits, 1) - of_target
    if vocabulary_size > num_rows:
        nll += tf.where(missing, tf.math.log(float(vocabulary_size - num_rows + 1)), 0.0)
    words = logits[:, NUM_SPECIAL:]
    ids = tf.range(NUM_SPECIAL, num_rows)
    better = (words > of_target[:, tf.newaxis]) | (
        tf.equal(words, of_target[:, tf.newaxis]) & (ids < target[:, tf.newaxis])
    )
    rank = tf.reduce_sum(tf.cast(better, tf.int32), 1)

    def count(condition):
        return tf.reduce_sum(tf.cast(condition & ~missing, tf.float32) * weight)

    return RecallSums(count(rank < 1), count(rank < 3), tf.reduce_sum(nll * weight), tf.reduce_sum(weight), num_oov)


def over_vocabulary(probabilities: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """The model's probabilities [n, V] spread over a larger vocabulary [n, vocabulary_size], as recall_sums does.

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
