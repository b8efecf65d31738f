"""A next-word network of one's own as a Keras model.

fedkeys train --run DIR --model examples/own_keras_model.py:build
"""

import tensorflow as tf


def build(size):
    """Returns a model from word ids [batch, size.max_words] to the logits of the word after each position."""
    words = tf.keras.Input((size.max_words,), dtype="int32", name="words")
    x = tf.keras.layers.Embedding(size.vocabulary_size, size.embedding_size, name="embedding")(words)
    x = tf.keras.layers.GRU(size.num_cells, return_sequences=True, name="gru")(x)
    x = tf.keras.layers.Dense(size.embedding_size, activation="tanh", name="projection")(x)
    return tf.keras.Model(words, tf.keras.layers.Dense(size.vocabulary_size, name="output")(x))
