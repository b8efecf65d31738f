"""Gboard's next-word model: a CIFG-LSTM with a recurrent projection and a tied embedding, as pure functions.

The forward pass and its hand-written gradient stand here once, over a layout of the batch's positions
(models.layouts): TFF trains with Packed, which leaves the padding out, and the TFLite export traces Padded, whose every
op lowers to a TFLite builtin. Phone and simulator so do the same arithmetic.

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

from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

import numpy as np
import tensorflow as tf

from models.layouts import Layout, build_layout
from models.weights import ModelSize, Weights

Tensors = Sequence[tf.Tensor]  # the five weights in the order of WEIGHT_NAMES: tensors, variables or arrays

_SMALLEST_PROBABILITY = 1e-30  # keeps log() finite where float32 softmax underflows


def initial_weights(
    size: ModelSize, seed: int, word_counts: Optional[np.ndarray] = None, embedding_range: float = 0.15
) -> Weights:
    """Returns random float32 weights in the order of WEIGHT_NAMES; equal for equal arguments.

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


class _State(NamedTuple):
    """What the backward pass needs of one step, each [rows, U]."""

    forget: tf.Tensor
    output: tf.Tensor
    candidate: tf.Tensor
    cell_before: tf.Tensor
    squashed: tf.Tensor
    exposed: tf.Tensor


class HiddenStates(NamedTuple):
    """The forward pass up to the output layer."""

    embedded: tf.Tensor  # [N, D]
    states: tuple[_State, ...]  # one a step
    before: tf.Tensor  # [N, D], hidden rows that entered each step
    after: tf.Tensor  # [N, D], hidden rows that left it


def to_tensors(weights: Tensors) -> tuple[tf.Tensor, ...]:
    """Returns the weights as tensors, whether they are arrays, variables or tensors."""
    return tuple(tf.convert_to_tensor(w) for w in weights)


def hidden_states(
    weights: Tensors, tokens: tf.Tensor, layout: Layout, keep: Optional[tf.Tensor] = None
) -> HiddenStates:
    """Runs the recurrence over a batch; `keep` [N, D] multiplies the embedded rows (dropout's factors)."""
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
        states.append(_State(forget, output, candidate, cell_before, squashed, exposed))
        hidden_after.append(hidden)
    return HiddenStates(embedded, tuple(states), tf.concat(hidden_before, 0), tf.concat(hidden_after, 0))


class LossAndGradients(NamedTuple):
    """What one batch gives: scalars float32, gradients in the order and shapes of the weights."""

    loss_sum: tf.Tensor  # nats, summed over the real positions
    num_tokens: tf.Tensor  # float32, real positions
    gradients: tuple[tf.Tensor, ...]  # of loss_sum / max(num_tokens, 1)


class Dropout(NamedTuple):
    """Dropout of what enters and leaves the LSTM, not of what recurs. Source: Zaremba et al. 2014."""

    rate: float  # the share that is dropped
    seed: tf.Tensor  # int32 [2]


class Pull(NamedTuple):
    """FedProx's term mu * (weights - anchor). Source: Li et al. 2020, equation 2."""

    mu: float
    anchor: Tensors  # the weights of the server


def _keep_factors(rate: float, seed: tf.Tensor, num_rows: tf.Tensor, width: int) -> tf.Tensor:
    """Returns dropout's factors [N, D]: 0 with probability `rate`, else 1 / (1 - rate); equal for equal seeds."""
    uniform = tf.random.stateless_uniform([num_rows, width], seed)
    return tf.cast(uniform >= rate, tf.float32) / (1.0 - rate)


def loss_and_gradients(
    weights: Tensors,
    tokens: tf.Tensor,
    targets: tf.Tensor,
    mask: tf.Tensor,
    dropout: Optional[Dropout] = None,
    padded: bool = False,
) -> LossAndGradients:
    """Returns the summed cross-entropy of a batch, and the gradient of its mean over the real positions.

    Args:
      weights: the five weights.
      tokens: int32 [batch, time], `time` static.
      targets: int32 [batch, time].
      mask: float32 [batch, time] of 0 and 1; in each row the ones come first.
      dropout: None drops nothing.
      padded: compute the padding too and weigh it 0, in TFLite's builtin ops; for export. The figures are the same
        but for rounding.
    """
    weights = to_tensors(weights)
    embedding, kernel, _, projection, _ = weights
    width = projection.shape[1]
    layout = build_layout(mask, padded)
    keep_in = keep_out = None
    if dropout is not None:
        keep_in = _keep_factors(dropout.rate, dropout.seed, layout.num_rows, width)
        keep_out = _keep_factors(dropout.rate, dropout.seed + tf.constant([0, 1]), layout.num_rows, width)
    embedded, states, hidden_before, hidden = hidden_states(weights, tokens, layout, keep_in)
    if keep_out is not None:
        hidden *= keep_out

    token_ids, target_ids = layout.flatten(tokens), layout.flatten(targets)
    output = _output_layer(weights, hidden, target_ids, layout)
    d_hidden = output.d_hidden if keep_out is None else output.d_hidden * keep_out
    d_gates, d_hidden_rows = _back_through_time(weights, states, d_hidden, layout)
    exposed = tf.concat([state.exposed for state in states], 0)

    d_kernel = tf.concat(
        [tf.matmul(embedded, d_gates, transpose_a=True), tf.matmul(hidden_before, d_gates, transpose_a=True)],
        0,
    )
    d_bias = tf.reduce_sum(d_gates, 0)
    d_projection = tf.matmul(exposed, d_hidden_rows, transpose_a=True)
    d_embedded = layout.times_transposed(d_gates, kernel[:width])
    if keep_in is not None:
        d_embedded *= keep_in
    # The embedding's gradient has three parts: of the softmax (dense), of the words read and of the targets (sparse).
    d_embedding = layout.add_rows(
        output.d_embedding,
        tf.concat([token_ids, target_ids], 0),
        tf.concat([d_embedded, -output.hidden_share], 0),
    )
    gradients = (d_embedding, d_kernel, d_bias, d_projection, output.d_output_bias)
    return LossAndGradients(output.loss_sum, output.num_tokens, gradients)


class _OutputLayer(NamedTuple):
    """Loss of the tied softmax, and its gradients: d_embedding without the targets' part, which is sparse."""

    loss_sum: tf.Tensor
    num_tokens: tf.Tensor
    hidden_share: tf.Tensor  # [N, D], hidden rows times their share of the mean
    d_hidden: tf.Tensor  # [N, D]
    d_embedding: tf.Tensor  # [V, D]
    d_output_bias: tf.Tensor  # [V]


def _output_layer(weights: Tensors, hidden: tf.Tensor, target_ids: tf.Tensor, layout: Layout) -> _OutputLayer:
    """Computes d loss / d logits = (probability - one_hot(target)) * share; the one-hot part stays sparse."""
    embedding, output_bias = weights[0], weights[4]
    num_tokens = tf.reduce_sum(layout.weight)
    share = layout.weight / tf.maximum(num_tokens, 1.0)  # [N, 1]
    probability = tf.nn.softmax(layout.times_transposed(hidden, embedding) + output_bias)
    of_target = layout.picked(probability, target_ids)
    loss_sum = -tf.reduce_sum(tf.math.log(tf.maximum(of_target, _SMALLEST_PROBABILITY)) * layout.weight[:, 0])
    hidden_share = hidden * share
    d_hidden = tf.matmul(probability, embedding) * share - tf.gather(embedding, target_ids) * share
    d_embedding = tf.matmul(probability, hidden_share, transpose_a=True)
    d_output_bias = layout.add_rows(layout.weighted_sum(probability, share), target_ids, -share[:, 0])
    return _OutputLayer(loss_sum, num_tokens, hidden_share, d_hidden, d_embedding, d_output_bias)


def _back_through_time(
    weights: Tensors, states: Sequence[_State], d_hidden: tf.Tensor, layout: Layout
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of the gates before their non-linearity [N, 3 U], and of the hidden rows [N, D]."""
    kernel, projection = weights[1], weights[3]
    width = projection.shape[1]
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
    return tf.concat(d_gates, 0), tf.concat(d_hidden_rows, 0)


def sgd_step(
    weights: Tensors,
    tokens: tf.Tensor,
    targets: tf.Tensor,
    mask: tf.Tensor,
    learning_rate: Union[float, tf.Tensor],
    clip_norm: float = 0.0,
    pull: Optional[Pull] = None,
    dropout: Optional[Dropout] = None,
    padded: bool = False,
) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
    """Returns (weights after one step of SGD, the batch's loss_sum, its num_tokens).

    Args:
      weights, tokens, targets, mask, dropout, padded: as in loss_and_gradients.
      learning_rate: float32 scalar.
      clip_norm: if the gradients of kernel, bias and projection together are longer than this (L2), the whole step is
        scaled down by the same factor: the recurrent part is what explodes (Pascanu et al. 2013). 0 switches it off.
      pull: FedProx's pull towards the server's weights; None pulls nowhere.
    """
    loss_sum, num_tokens, gradients = loss_and_gradients(weights, tokens, targets, mask, dropout, padded)
    if pull is not None:
        gradients = tuple(g + pull.mu * (w - a) for g, w, a in zip(gradients, weights, pull.anchor))
    rate = learning_rate
    if clip_norm > 0:
        norm = tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in gradients[1:4]]))
        rate = learning_rate * (clip_norm / tf.maximum(norm, clip_norm))
    return tuple(w - rate * g for w, g in zip(weights, gradients)), loss_sum, num_tokens
