"""A GRU with a projection and a tied embedding, as Keras's GRU computes it (reset_after).

Notation as in models.architectures; x is the embedded word, h the state [U], M and N the weights of input and state.

    [z, r] = sigmoid(x M_zr + b_zr + h N_zr + c_zr)
    a = tanh(x M_a + b_a + r * (h N_a + c_a))
    h' = z * h + (1 - z) * a
    row = h' P

Source: Cho et al. 2014; the reset gate after the matrix product as in cuDNN and in tf.keras.layers.GRU.
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
    return {
        "embedding": rng.uniform(-embedding_range, embedding_range, (v, d)).astype(np.float32),
        "kernel": (rng.standard_normal((d, 3 * u)) / np.sqrt(d)).astype(np.float32),
        "recurrent": (rng.standard_normal((u, 3 * u)) / np.sqrt(u)).astype(np.float32),
        "bias": np.zeros((2, 3 * u), np.float32),
        "projection": (rng.standard_normal((u, d)) / np.sqrt(u)).astype(np.float32),
    }


class _State(NamedTuple):
    """One step, each [rows, U]."""

    update: tf.Tensor  # z
    reset: tf.Tensor  # r
    candidate: tf.Tensor  # a
    before: tf.Tensor  # h
    recalled: tf.Tensor  # h N_a + c_a
    after: tf.Tensor  # h'


def _one_step(from_input: tf.Tensor, before: tf.Tensor, weights: Named) -> _State:
    """Runs one step, of the input's part of the gates [rows, 3 U] and of the state [rows, U]."""
    num_cells = weights["projection"].shape[0]
    from_state = tf.matmul(before, weights["recurrent"]) + weights["bias"][1]
    both = tf.sigmoid(from_input[:, : 2 * num_cells] + from_state[:, : 2 * num_cells])
    update, reset = both[:, :num_cells], both[:, num_cells:]
    recalled = from_state[:, 2 * num_cells :]
    candidate = tf.tanh(from_input[:, 2 * num_cells :] + reset * recalled)
    return _State(update, reset, candidate, before, recalled, candidate + update * (before - candidate))


def _rows(weights: Named, embedded: tf.Tensor, layout: Layout) -> tuple[tf.Tensor, PullBack]:
    """Runs the recurrence over a batch; the rows are the projected states."""
    projection = weights["projection"]
    from_input = layout.steps(tf.matmul(embedded, weights["kernel"]) + weights["bias"][0])
    hidden, states = layout.start(projection.shape[0]), []
    for step in range(layout.time):
        states.append(_one_step(from_input[step], layout.carry(hidden, step), weights))
        hidden = states[-1].after
    after = tf.concat([state.after for state in states], 0)

    def pull_back(d_rows: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        d_input, d_state = _back_through_time(weights, states, layout.times_transposed(d_rows, projection), layout)
        before = tf.concat([state.before for state in states], 0)
        gradients = {
            "kernel": tf.matmul(embedded, d_input, transpose_a=True),
            "recurrent": tf.matmul(before, d_state, transpose_a=True),
            "bias": tf.stack([tf.reduce_sum(d_input, 0), tf.reduce_sum(d_state, 0)]),
            "projection": tf.matmul(after, d_rows, transpose_a=True),
        }
        return layout.times_transposed(d_input, weights["kernel"]), gradients

    return tf.matmul(after, projection), pull_back


def _back_through_time(
    weights: Named, states: Sequence[_State], d_after: tf.Tensor, layout: Layout
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of the gates before their non-linearity [N, 3 U]: of the input's part, and of the state's part."""
    d_after_steps = layout.steps(d_after)
    d_input, d_state = [None] * layout.time, [None] * layout.time
    d_next = None
    for step in reversed(range(layout.time)):
        state, d_hidden = states[step], d_after_steps[step]
        if d_next is not None:
            d_hidden += layout.carry_back(d_next, step)
        d_update = d_hidden * (state.before - state.candidate) * (state.update * (1.0 - state.update))
        d_candidate = d_hidden * (1.0 - state.update) * (1.0 - state.candidate * state.candidate)
        d_reset = d_candidate * state.recalled * (state.reset * (1.0 - state.reset))
        d_input[step] = tf.concat([d_update, d_reset, d_candidate], 1)
        d_state[step] = tf.concat([d_update, d_reset, d_candidate * state.reset], 1)
        if step:
            d_next = d_hidden * state.update + layout.times_transposed(d_state[step], weights["recurrent"])
    return tf.concat(d_input, 0), tf.concat(d_state, 0)


def _step(weights: Named, embedded: tf.Tensor, state: Named) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Runs the recurrence for one more word in each row."""
    from_input = tf.matmul(embedded, weights["kernel"]) + weights["bias"][0]
    hidden = _one_step(from_input, state["hidden"], weights).after
    return tf.matmul(hidden, weights["projection"]), {"hidden": hidden}


NETWORK = Network(_initial, _rows, _step)
