"""Small Keras models, one of each family that people bring to a phone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

layers = tf.keras.layers


def mlp() -> tf.keras.Model:
    model = tf.keras.Sequential(
        [
            layers.Input((20,)),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(8, activation="gelu"),
            layers.Dense(5, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def cnn() -> tf.keras.Model:
    model = tf.keras.Sequential(
        [
            layers.Input((12, 12, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, activation="relu", padding="same"),
            layers.AveragePooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def gru() -> tf.keras.Model:
    model = tf.keras.Sequential(
        [layers.Input((4,)), layers.Embedding(30, 8), layers.GRU(8), layers.Dense(4, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def lstm() -> tf.keras.Model:
    model = tf.keras.Sequential(
        [
            layers.Input((4, 3)),
            layers.Bidirectional(layers.LSTM(4)),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    return model


def transformer() -> tf.keras.Model:
    ids, positions = layers.Input((6,), name="ids"), layers.Input((6,), name="positions")
    x = layers.Add()([layers.Embedding(40, 8)(ids), layers.Embedding(6, 8)(positions)])
    attended = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    x = layers.Add()([x, layers.Dense(8)(layers.Dense(16, activation="gelu")(x))])
    outputs = layers.Dense(40, activation="softmax")(layers.LayerNormalization()(x))
    model = tf.keras.Model([ids, positions], outputs)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def depthwise() -> tf.keras.Model:
    image = layers.Input((12, 12, 3))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(image)))
    for filters, stride in ((8, 1), (12, 2)):
        x = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x)))
    model = tf.keras.Model(image, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    model.compile("sgd", "categorical_crossentropy")
    return model


FAMILIES: dict[str, Callable[[], tf.keras.Model]] = {
    "mlp": mlp,
    "cnn": cnn,
    "gru": gru,
    "lstm": lstm,
    "transformer": transformer,
    "depthwise": depthwise,
}


def family(name: str) -> tf.keras.Model:
    """Returns a family's model with random weights, the same for every call."""
    model, rng = FAMILIES[name](), np.random.default_rng(3)
    for variable in model.weights:
        if "variance" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        else:
            variable.assign(rng.standard_normal(variable.shape) / np.sqrt(variable.shape[0]))
    return model
