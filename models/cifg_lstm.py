"""Gboard's next-word model: a CIFG-LSTM with a recurrent projection and a tied embedding.

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
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.layouts import Layout
from models.network import Named, Network, PullBack
from models.weights import ModelSize


def _initial(size: ModelSize, rng: np.random.Generator, embedding_range: float) -> dict[str, np.ndarray]:
    v, d, u = size.vocabulary_size, size.embedding_size, size.num_cells
    bias = np.zeros(3 * u, np.float32)
    bias[:u] = 1.0  # an open forget gate at the start: Jozefowicz et al. 2015
    return {
        "embedding": rng.uniform(-embedding_range, embedding_range, (v, d)).astype(np.float32),
        "kernel": (rng.standard_normal((2 * d, 3 * u)) / np.sqrt(2 * d)).astype(np.float32),
        "bias": bias,
        "projection": (rng.standard_normal((u, d)) / np.sqrt(u)).astype(np.float32),
    }


class _State(NamedTuple):
    """What the backward pass needs of one step, each [rows, U]."""

    forget: tf.Tensor
    output: tf.Tensor
    candidate: tf.Tensor
    cell_before: tf.Tensor
    squashed: tf.Tensor
    exposed: tf.Tensor


def _rows(weights: Named, embedded: tf.Tensor, layout: Layout) -> tuple[tf.Tensor, PullBack]:
    """Runs the recurrence over a batch; the rows are the hidden ones that leave each step."""
    kernel, projection = weights["kernel"], weights["projection"]
    num_cells, width = projection.shape
    from_input = layout.steps(tf.matmul(embedded, kernel[:width]) + weights["bias"])
    hidden, cell = layout.start(width), layout.start(num_cells)
    states, hidden_before, hidden_after = [], [], []
    for step in range(layout.time):
        hidden, cell_before = layout.carry(hidden, step), layout.carry(cell, step)
        hidden_before.append(hidden)
        gates = from_input[step]
        if step:  # the state before the first word is zero
            gates += tf.matmul(hidden, kernel[width:])
        forget, output, candidate = _activated(gates, num_cells)
        cell = candidate + forget * (cell_before - candidate)
        squashed = tf.tanh(cell)
        exposed = output * squashed
        hidden = tf.matmul(exposed, projection)
        states.append(_State(forget, output, candidate, cell_before, squashed, exposed))
        hidden_after.append(hidden)
    entered = tf.concat(hidden_before, 0)

    def pull_back(d_rows: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        d_gates, d_hidden_rows = _back_through_time(weights, states, d_rows, layout)
        exposed = tf.concat([state.exposed for state in states], 0)
        d_kernel = tf.concat(
            [tf.matmul(embedded, d_gates, transpose_a=True), tf.matmul(entered, d_gates, transpose_a=True)],
            0,
        )
        gradients = {
            "kernel": d_kernel,
            "bias": tf.reduce_sum(d_gates, 0),
            "projection": tf.matmul(exposed, d_hidden_rows, transpose_a=True),
        }
        return layout.times_transposed(d_gates, kernel[:width]), gradients

    return tf.concat(hidden_after, 0), pull_back


def _activated(gates: tf.Tensor, num_cells: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns (forget gate, output gate, candidate), each [rows, U], of the gates [rows, 3 U] before non-linearity."""
    forget = tf.sigmoid(gates[:, :num_cells])
    output = tf.sigmoid(gates[:, num_cells : 2 * num_cells])
    return forget, output, tf.tanh(gates[:, 2 * num_cells :])


def _back_through_time(
    weights: Named, states: Sequence[_State], d_hidden: tf.Tensor, layout: Layout
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of the gates before their non-linearity [N, 3 U], and of the hidden rows [N, D]."""
    kernel, projection = weights["kernel"], weights["projection"]
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


def _step(weights: Named, embedded: tf.Tensor, state: Named) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Runs the recurrence for one more word in each row."""
    projection = weights["projection"]
    gates = tf.matmul(tf.concat([embedded, state["hidden"]], 1), weights["kernel"]) + weights["bias"]
    forget, output, candidate = _activated(gates, projection.shape[0])
    cell = candidate + forget * (state["cell"] - candidate)
    hidden = tf.matmul(output * tf.tanh(cell), projection)
    return hidden, {"hidden": hidden, "cell": cell}


NETWORK = Network(_initial, _rows, _step)
