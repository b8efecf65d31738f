"""A small causal transformer with a tied embedding: LAYERS blocks of attention over the last WINDOW words.

Its gradient is written by hand in TFLite's builtin ops, block by block: each function returns its result and what turns
the result's gradient into those of its inputs. Notation as in models.architectures; T positions, H heads of D / H.

    x = x + attention(norm(x)) O        norm(x) = x / sqrt(mean(x^2) + 1e-6) * gain
    x = x + relu(norm(x) E + b) C       U is the width in between
    row = norm(x)

Positions have no weights: a head's score falls by its slope for each word in between, so that only distances count, and
the keys and values of the last WINDOW words are all that a key stroke needs.

Source: Vaswani et al. 2017; normalisation first: Xiong et al. 2020; by the root mean square: Zhang and Sennrich 2019;
slopes: Press et al. 2022 (ALiBi).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models.architectures import HEADS, LAYERS, WINDOW
from models.layouts import Layout
from models.network import Named, Network, PullBack
from models.weights import ModelSize

Gradients = dict[str, tf.Tensor]
Back = Callable[[tf.Tensor], tuple[tf.Tensor, Gradients]]  # of a block's result -> (of its input, of its weights)

_EPSILON = 1e-6
_NEVER = -1e9  # the score of a word that must not be looked at
_SLOPES = 2.0 ** (-8.0 * np.arange(1, HEADS + 1) / HEADS)


def _initial(size: ModelSize, rng: np.random.Generator, embedding_range: float) -> dict[str, np.ndarray]:
    v, d, u = size.vocabulary_size, size.embedding_size, size.num_cells
    weights = {"embedding": rng.uniform(-embedding_range, embedding_range, (v, d)), "final_norm": np.ones(d)}
    for i in range(LAYERS):
        weights[f"attention_norm_{i}"] = np.ones(d)
        weights[f"attention_{i}"] = rng.standard_normal((d, 3 * d)) / np.sqrt(d)
        # What is added to x begins small, and the smaller the more blocks add to it: Radford et al. 2019.
        weights[f"attention_out_{i}"] = rng.standard_normal((d, d)) / np.sqrt(2 * LAYERS * d)
        weights[f"forward_norm_{i}"] = np.ones(d)
        weights[f"expand_{i}"] = rng.standard_normal((d, u)) / np.sqrt(d)
        weights[f"expand_bias_{i}"] = np.zeros(u)
        weights[f"contract_{i}"] = rng.standard_normal((u, d)) / np.sqrt(2 * LAYERS * u)
    return {name: weight.astype(np.float32) for name, weight in weights.items()}


def _distance_scores(time: int) -> np.ndarray:
    """Returns what is added to the scores, float32 [H, T, T]: a slope for each word in between; never the future."""
    distance = np.arange(time)[:, np.newaxis] - np.arange(time)
    allowed = (distance >= 0) & (distance < WINDOW)
    return np.where(allowed, -_SLOPES[:, np.newaxis, np.newaxis] * distance, _NEVER).astype(np.float32)


def _norm(x: tf.Tensor, gain: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    inverse = tf.math.rsqrt(tf.reduce_mean(x * x, 1, keepdims=True) + _EPSILON)
    unit = x * inverse

    def back(d: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        d_unit = d * gain
        return inverse * (d_unit - unit * tf.reduce_mean(d_unit * unit, 1, keepdims=True)), tf.reduce_sum(d * unit, 0)

    return unit * gain, back


def _to_heads(rows: tf.Tensor, time: int) -> tf.Tensor:
    """Returns rows [T * batch, D], time-major, as [batch, H, T, D / H]."""
    return tf.transpose(tf.reshape(rows, [time, -1, HEADS, rows.shape[1] // HEADS]), [1, 2, 0, 3])


def _from_heads(heads: tf.Tensor, width: int) -> tf.Tensor:
    """Returns _to_heads's argument."""
    return tf.reshape(tf.transpose(heads, [2, 0, 1, 3]), [-1, width])


def _turned(heads: tf.Tensor) -> tf.Tensor:
    return tf.transpose(heads, [0, 1, 3, 2])


def _attend(rows: tf.Tensor, layout: Layout) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Mixes the values of the sentence's words before; rows [T * batch, 3 D] are queries, keys and values."""
    time, width, apart = layout.time, rows.shape[1] // 3, layout.apart()
    scale = (width // HEADS) ** -0.5
    query, key, value = (_to_heads(rows[:, i * width : (i + 1) * width], time) for i in range(3))
    score = tf.matmul(query, _turned(key)) * scale + _distance_scores(time)
    share = tf.nn.softmax(score if apart is None else score + apart * _NEVER)

    def back(d: tf.Tensor) -> tf.Tensor:
        d_mixed = _to_heads(d, time)
        d_share = tf.matmul(d_mixed, _turned(value))
        d_score = share * (d_share - tf.reduce_sum(d_share * share, 3, keepdims=True)) * scale
        parts = (
            tf.matmul(d_score, key),
            tf.matmul(_turned(d_score), query),
            tf.matmul(_turned(share), d_mixed),
        )
        return tf.concat([_from_heads(part, width) for part in parts], 1)

    return _from_heads(tf.matmul(share, value), width), back


def _attention_block(weights: Named, i: int, x: tf.Tensor, layout: Layout) -> tuple[tf.Tensor, Back]:
    into, out = weights[f"attention_{i}"], weights[f"attention_out_{i}"]
    normed, back_norm = _norm(x, weights[f"attention_norm_{i}"])
    mixed, back_attend = _attend(tf.matmul(normed, into), layout)

    def back(d: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        d_rows = back_attend(layout.times_transposed(d, out))
        d_x, d_gain = back_norm(layout.times_transposed(d_rows, into))
        gradients = {
            f"attention_norm_{i}": d_gain,
            f"attention_{i}": tf.matmul(normed, d_rows, transpose_a=True),
            f"attention_out_{i}": tf.matmul(mixed, d, transpose_a=True),
        }
        return d + d_x, gradients

    return x + tf.matmul(mixed, out), back


def _forward_block(weights: Named, i: int, x: tf.Tensor, layout: Layout) -> tuple[tf.Tensor, Back]:
    expand, contract = weights[f"expand_{i}"], weights[f"contract_{i}"]
    normed, back_norm = _norm(x, weights[f"forward_norm_{i}"])
    wide = tf.nn.relu(tf.matmul(normed, expand) + weights[f"expand_bias_{i}"])

    def back(d: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        d_wide = layout.times_transposed(d, contract) * tf.cast(wide > 0.0, tf.float32)
        d_x, d_gain = back_norm(layout.times_transposed(d_wide, expand))
        gradients = {
            f"forward_norm_{i}": d_gain,
            f"expand_{i}": tf.matmul(normed, d_wide, transpose_a=True),
            f"expand_bias_{i}": tf.reduce_sum(d_wide, 0),
            f"contract_{i}": tf.matmul(wide, d, transpose_a=True),
        }
        return d + d_x, gradients

    return x + tf.matmul(wide, contract), back


def _rows(weights: Named, embedded: tf.Tensor, layout: Layout) -> tuple[tf.Tensor, PullBack]:
    """Runs the blocks over a padded batch: padding comes last, so no real word looks at it."""
    x, backs = embedded, []
    for i in range(LAYERS):
        for block in (_attention_block, _forward_block):
            x, back = block(weights, i, x, layout)
            backs.append(back)
    rows, back_norm = _norm(x, weights["final_norm"])

    def pull_back(d_rows: tf.Tensor) -> tuple[tf.Tensor, Gradients]:
        d, d_gain = back_norm(d_rows)
        gradients = {"final_norm": d_gain}
        for back in reversed(backs):
            d, own = back(d)
            gradients.update(own)
        return d, gradients

    return rows, pull_back


def _step(weights: Named, embedded: tf.Tensor, state: Named) -> tuple[tf.Tensor, Gradients]:
    """Runs the blocks for one more word in each row, with the keys and values [batch, LAYERS, WINDOW, D] of before.

    `seen` [batch, WINDOW] is 1 where a place holds a word of the sentence; the newest is the last.
    """
    x, width = embedded, embedded.shape[1]
    last = state["seen"][:, -1:]
    seen = tf.concat([state["seen"][:, 1:], last - last + 1.0], 1)
    unseen = tf.reshape((1.0 - seen) * _NEVER, [-1, 1, 1, WINDOW])
    scores = _distance_scores(WINDOW)[:, -1:]  # [H, 1, WINDOW]
    kept: dict[str, list[tf.Tensor]] = {"keys": [], "values": []}

    def heads(rows: tf.Tensor, time: int) -> tf.Tensor:
        return tf.transpose(tf.reshape(rows, [-1, time, HEADS, width // HEADS]), [0, 2, 1, 3])

    for i in range(LAYERS):
        rows = tf.matmul(_norm(x, weights[f"attention_norm_{i}"])[0], weights[f"attention_{i}"])
        for name, new in (("keys", rows[:, width : 2 * width]), ("values", rows[:, 2 * width :])):
            kept[name].append(tf.concat([state[name][:, i, 1:], tf.reshape(new, [-1, 1, width])], 1))
        query, key = heads(rows[:, :width], 1), heads(kept["keys"][i], WINDOW)
        score = tf.matmul(query, _turned(key)) * (width // HEADS) ** -0.5 + scores + unseen
        mixed = tf.matmul(tf.nn.softmax(score), heads(kept["values"][i], WINDOW))
        x += tf.matmul(tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, width]), weights[f"attention_out_{i}"])
        normed, _ = _norm(x, weights[f"forward_norm_{i}"])
        wide = tf.nn.relu(tf.matmul(normed, weights[f"expand_{i}"]) + weights[f"expand_bias_{i}"])
        x += tf.matmul(wide, weights[f"contract_{i}"])
    stacked = {name: tf.stack(layers, 1) for name, layers in kept.items()}
    return _norm(x, weights["final_norm"])[0], {**stacked, "seen": seen}


NETWORK = Network(_initial, _rows, _step, packs=False)
