"""The LSTM of TFF's Stack Overflow experiments: an LSTM, a dense layer, and an output layer apart from the embedding.

As tf.keras.layers.LSTM computes it, so that figures compare with published runs. Notation as in models.architectures; x
is the embedded word, h and c the state [U].

    [i, f, a, o] = [x, h] [M; N] + b     i, f and o by sigmoid, a by tanh
    c' = f * c + i * a
    h' = o * tanh(c')
    row = h' P + p                       the dense layer, U -> D, without a non-linearity
    p(word) = softmax(row O^T + e)

Source: Reddi et al. 2020, "Adaptive federated optimization", the appendix on Stack Overflow (embedding 96, LSTM
670, dense 96; with 10,004 words 4,050,748 weights).
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
    bias = np.zeros(4 * u, np.float32)
    bias[u : 2 * u] = 1.0  # an open forget gate at the start: Jozefowicz et al. 2015
    return {
        "embedding": rng.uniform(-embedding_range, embedding_range, (v, d)).astype(np.float32),
        "kernel": (rng.standard_normal((d, 4 * u)) / np.sqrt(d)).astype(np.float32),
        "recurrent": (rng.standard_normal((u, 4 * u)) / np.sqrt(u)).astype(np.float32),
        "bias": bias,
        "projection": (rng.standard_normal((u, d)) / np.sqrt(u)).astype(np.float32),
        "projection_bias": np.zeros(d, np.float32),
        "output": rng.uniform(-embedding_range, embedding_range, (v, d)).astype(np.float32),
    }


class _State(NamedTuple):
    """One step, each [rows, U]."""

    enter: tf.Tensor  # i
    forget: tf.Tensor  # f
    candidate: tf.Tensor  # a
    leave: tf.Tensor  # o
    hidden_before: tf.Tensor
    cell_before: tf.Tensor
    cell: tf.Tensor
    squashed: tf.Tensor  # tanh(c')
    hidden: tf.Tensor


def _one_step(from_input: tf.Tensor, hidden: tf.Tensor, cell: tf.Tensor, weights: Named) -> _State:
    """Runs one step, of the input's part of the gates [rows, 4 U] and of the state."""
    num_cells = weights["projection"].shape[0]
    gates = from_input + tf.matmul(hidden, weights["recurrent"])
    both = tf.sigmoid(gates[:, : 2 * num_cells])
    enter, forget = both[:, :num_cells], both[:, num_cells:]
    candidate = tf.tanh(gates[:, 2 * num_cells : 3 * num_cells])
    leave = tf.sigmoid(gates[:, 3 * num_cells :])
    new_cell = forget * cell + enter * candidate
    squashed = tf.tanh(new_cell)
    return _State(enter, forget, candidate, leave, hidden, cell, new_cell, squashed, leave * squashed)


def _rows(weights: Named, embedded: tf.Tensor, layout: Layout) -> tuple[tf.Tensor, PullBack]:
    """Runs the recurrence over a batch; the rows are those of the dense layer."""
    projection = weights["projection"]
    num_cells = projection.shape[0]
    from_input = layout.steps(tf.matmul(embedded, weights["kernel"]) + weights["bias"])
    hidden, cell, states = layout.start(num_cells), layout.start(num_cells), []
    for step in range(layout.time):
        states.append(_one_step(from_input[step], layout.carry(hidden, step), layout.carry(cell, step), weights))
        hidden, cell = states[-1].hidden, states[-1].cell
    after = tf.concat([state.hidden for state in states], 0)

    def pull_back(d_rows: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        d_gates = _back_through_time(weights, states, layout.times_transposed(d_rows, projection), layout)
        before = tf.concat([state.hidden_before for state in states], 0)
        gradients = {
            "kernel": tf.matmul(embedded, d_gates, transpose_a=True),
            "recurrent": tf.matmul(before, d_gates, transpose_a=True),
            "bias": tf.reduce_sum(d_gates, 0),
            "projection": tf.matmul(after, d_rows, transpose_a=True),
            "projection_bias": tf.reduce_sum(d_rows, 0),
        }
        return layout.times_transposed(d_gates, weights["kernel"]), gradients

    return tf.matmul(after, projection) + weights["projection_bias"], pull_back


def _back_through_time(weights: Named, states: Sequence[_State], d_hidden: tf.Tensor, layout: Layout) -> tf.Tensor:
    """Gradients of the gates before their non-linearity, [N, 4 U]."""
    d_hidden_steps, d_gates = layout.steps(d_hidden), [None] * layout.time
    d_hidden_next = d_cell_next = None
    for step in reversed(range(layout.time)):
        state, d_step = states[step], d_hidden_steps[step]
        if d_hidden_next is not None:
            d_step += layout.carry_back(d_hidden_next, step)
        d_cell = d_step * state.leave * (1.0 - state.squashed * state.squashed)
        if d_cell_next is not None:
            d_cell += layout.carry_back(d_cell_next, step)
        d_gates[step] = tf.concat(
            [
                d_cell * state.candidate * (state.enter * (1.0 - state.enter)),
                d_cell * state.cell_before * (state.forget * (1.0 - state.forget)),
                d_cell * state.enter * (1.0 - state.candidate * state.candidate),
                d_step * state.squashed * (state.leave * (1.0 - state.leave)),
            ],
            1,
        )
        if step:
            d_cell_next = d_cell * state.forget
            d_hidden_next = layout.times_transposed(d_gates[step], weights["recurrent"])
    return tf.concat(d_gates, 0)


def _step(weights: Named, embedded: tf.Tensor, state: Named) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Runs the recurrence for one more word in each row."""
    from_input = tf.matmul(embedded, weights["kernel"]) + weights["bias"]
    after = _one_step(from_input, state["hidden"], state["cell"], weights)
    rows = tf.matmul(after.hidden, weights["projection"]) + weights["projection_bias"]
    return rows, {"hidden": after.hidden, "cell": after.cell}


NETWORK = Network(_initial, _rows, _step)
