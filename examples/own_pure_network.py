"""A next-word network of one's own as pure functions.

fedkeys train --run DIR --model examples/own_pure_network.py:build

It mixes the last four words, with a weight for each of them and each dimension, and passes them through one layer. The
embedding is the output layer, too. Looking up rows has a gradient of its own here, and tf.slice is there in place of
x[:, a:b]: TFLite has no builtin for the gradients that TensorFlow has of these. A key stroke hands on the last three
words' rows, so that no word is read twice.
"""

import tensorflow as tf

from models.own_network import PureNetwork

WORDS = 4  # that it looks back at, the newest included


def look_up(table, ids):
    """Returns the rows [..., D] of a table [V, D] that ids name, with a gradient in TFLite's builtin ops."""

    @tf.custom_gradient
    def rows_of(table):
        def gradient(upstream):
            rows = tf.reshape(upstream, [-1, table.shape[1]])
            return tf.scatter_nd(tf.reshape(ids, [-1, 1]), rows, table.shape)

        return tf.gather(table, ids), gradient

    return rows_of(table)


def build(size):
    """Returns the network of a size."""
    words, width, cells = size.vocabulary_size, size.embedding_size, size.num_cells

    def initial(rng):
        def draw(*shape):
            return (rng.standard_normal(shape) / shape[0] ** 0.5).astype("float32")

        return {
            "embedding": rng.uniform(-0.15, 0.15, (words, width)).astype("float32"),
            "mix": draw(WORDS, width),
            "inner": draw(width, cells),
            "inner_bias": draw(cells) * 0,
            "outer": draw(cells, width),
            "output_bias": draw(words) * 0,
        }

    def output(weights, mixed):
        """Logits [N, V] of the mixed rows [N, D]."""
        inner = tf.tanh(tf.matmul(mixed, weights["inner"]) + weights["inner_bias"])
        rows = mixed + tf.matmul(inner, weights["outer"])
        return tf.matmul(rows, weights["embedding"], transpose_b=True) + weights["output_bias"]

    def logits(weights, ids):
        rows = look_up(weights["embedding"], ids)
        later = [tf.pad(rows, [[0, 0], [lag, 0], [0, 0]]) for lag in range(WORDS)]
        lags = [tf.slice(part, [0, 0, 0], [-1, size.max_words, width]) for part in later]
        mixed = tf.add_n([lag * part for lag, part in zip(lags, tf.unstack(weights["mix"]))])
        return tf.reshape(output(weights, tf.reshape(mixed, [-1, width])), [-1, size.max_words, words])

    def step(weights, token, state):
        rows = tf.concat([tf.expand_dims(tf.gather(weights["embedding"], token), 1), state["recent"]], 1)
        mixed = tf.reduce_sum(rows * weights["mix"], 1)
        return output(weights, mixed), {"recent": rows[:, : WORDS - 1]}

    return PureNetwork(
        shapes={
            "embedding": (words, width),
            "mix": (WORDS, width),
            "inner": (width, cells),
            "inner_bias": (cells,),
            "outer": (cells, width),
            "output_bias": (words,),
        },
        initial=initial,
        logits=logits,
        step=step,
        state={"recent": (1, WORDS - 1, width)},
        embedding="embedding",
        output="embedding",
        output_bias="output_bias",
    )
