"""Each layer of the table, in ops of ours, against Keras's own: its output, and the gradient of each of its weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from edge.export.keras_network import build_network
from edge.export.keras_table import LAYERS

layers = tf.keras.layers
SERIES, IMAGE = (3, 4), (6, 5, 4)

# Where a model of a layer begins: the shape of its input, and the layer; several where its settings change the rule.
CASES: dict[str, list[tuple[tuple[int, ...], Callable[[], layers.Layer]]]] = {
    "Dense": [((3,), lambda: layers.Dense(2, "tanh")), (SERIES, lambda: layers.Dense(2, use_bias=False))],
    "Embedding": [((5,), lambda: layers.Embedding(7, 3))],
    "Conv1D": [(SERIES, lambda: layers.Conv1D(3, 2, 2, padding="same"))],
    "Conv2D": [(IMAGE, lambda: layers.Conv2D(3, (3, 2), (2, 1)))],
    "DepthwiseConv2D": [(IMAGE, lambda: layers.DepthwiseConv2D(3, 2, padding="same"))],
    "SeparableConv2D": [(IMAGE, lambda: layers.SeparableConv2D(3, 2))],
    "MaxPooling1D": [(SERIES, lambda: layers.MaxPooling1D(3, 2, padding="same"))],
    "MaxPooling2D": [(IMAGE, lambda: layers.MaxPooling2D((3, 2)))],
    "AveragePooling1D": [(SERIES, lambda: layers.AveragePooling1D(3, 2, padding="same"))],
    "AveragePooling2D": [(IMAGE, lambda: layers.AveragePooling2D((2, 3), 2, padding="same"))],
    "GlobalAveragePooling1D": [(SERIES, lambda: layers.GlobalAveragePooling1D())],
    "GlobalAveragePooling2D": [(IMAGE, lambda: layers.GlobalAveragePooling2D(keepdims=True))],
    "GlobalMaxPooling1D": [(SERIES, lambda: layers.GlobalMaxPooling1D())],
    "GlobalMaxPooling2D": [(IMAGE, lambda: layers.GlobalMaxPooling2D())],
    "ZeroPadding1D": [(SERIES, lambda: layers.ZeroPadding1D((1, 2)))],
    "ZeroPadding2D": [(IMAGE, lambda: layers.ZeroPadding2D(((1, 2), (0, 3))))],
    "BatchNormalization": [
        (SERIES, lambda: layers.BatchNormalization()),
        (IMAGE, lambda: layers.BatchNormalization(center=False, scale=False)),
    ],
    "LayerNormalization": [
        (SERIES, lambda: layers.LayerNormalization()),
        (SERIES, lambda: layers.LayerNormalization(center=False, scale=False)),
    ],
    "SimpleRNN": [(SERIES, lambda: layers.SimpleRNN(3, go_backwards=True))],
    "GRU": [
        (SERIES, lambda: layers.GRU(3, return_sequences=True)),
        (SERIES, lambda: layers.GRU(3, reset_after=False)),
        (SERIES, lambda: layers.GRU(3, use_bias=False)),
    ],
    "LSTM": [(SERIES, lambda: layers.LSTM(3, return_sequences=True))],
    "Bidirectional": [
        (SERIES, lambda mode=mode: layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True), merge_mode=mode))
        for mode in ("concat", "mul", "ave")
    ],
    "TimeDistributed": [(SERIES, lambda: layers.TimeDistributed(layers.Dense(3, "relu")))],
    "Dropout": [(SERIES, lambda: layers.Dropout(0.5))],
    "SpatialDropout1D": [(SERIES, lambda: layers.SpatialDropout1D(0.5))],
    "SpatialDropout2D": [(IMAGE, lambda: layers.SpatialDropout2D(0.5))],
    "GaussianNoise": [(SERIES, lambda: layers.GaussianNoise(0.5))],
    "GaussianDropout": [(SERIES, lambda: layers.GaussianDropout(0.5))],
    "Activation": [(SERIES, lambda: layers.Activation("softsign"))],
    "ReLU": [(SERIES, lambda: layers.ReLU()), (SERIES, lambda: layers.ReLU(6))],
    "LeakyReLU": [(SERIES, lambda: layers.LeakyReLU(0.2))],
    "ELU": [(SERIES, lambda: layers.ELU())],
    "Softmax": [(SERIES, lambda: layers.Softmax())],
    "Flatten": [(IMAGE, lambda: layers.Flatten())],
    "Reshape": [(SERIES, lambda: layers.Reshape((2, -1)))],
    "Permute": [(IMAGE, lambda: layers.Permute((3, 1, 2)))],
    "RepeatVector": [((3,), lambda: layers.RepeatVector(4))],
    "Rescaling": [(SERIES, lambda: layers.Rescaling(1 / 255, offset=-0.5))],
}
# Layers of several inputs: how many, and the layer.
OF_SEVERAL: dict[str, tuple[int, Callable[..., layers.Layer]]] = {
    "MultiHeadAttention": (2, lambda: layers.MultiHeadAttention(2, 3)),
    "Add": (3, layers.Add),
    "Subtract": (2, layers.Subtract),
    "Multiply": (3, layers.Multiply),
    "Average": (3, layers.Average),
    "Concatenate": (2, lambda: layers.Concatenate(axis=1)),
}


def model_of(shape: tuple[int, ...], layer: layers.Layer) -> tf.keras.Model:
    """A model of the layer; a layer with weights that train stands before it, whose gradient goes through it."""
    place = layers.Input(shape)
    before = place if isinstance(layer, layers.Embedding) else layers.Dense(shape[-1], name="before")(place)
    return tf.keras.Model(place, layer(before))


def model_of_several(count: int, layer: layers.Layer) -> tf.keras.Model:
    place = layers.Input(SERIES)
    parts = [layers.Dense(4, name=f"before_{i}")(place) for i in range(count)]
    return tf.keras.Model(place, layer(*parts) if isinstance(layer, layers.MultiHeadAttention) else layer(parts))


def check_against_keras(model: tf.keras.Model) -> None:
    """Compares the output and the gradients of a random mixture of it."""
    rng = np.random.default_rng(5)
    for variable in model.weights:
        low = 0.5 if "variance" in variable.name else -1.0
        variable.assign(rng.uniform(low, 1.0, variable.shape))
    network = build_network(model, "mean_squared_error", batch_size=2)
    (place,) = network.inputs
    shape = (2, *place.shape)
    inputs = rng.integers(0, place.num_ids, shape) if place.num_ids else rng.standard_normal(shape)
    inputs = tf.constant(inputs.astype(place.dtype))
    mixture = rng.standard_normal((2, *network.output_shape)).astype(np.float32)
    trained = [tf.constant(weight.start) for weight in network.trainable]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(trained)
        values = network.values(trained, [variable.read_value() for variable in network.frozen])
        mine, theirs = network.apply(values, [inputs], logits=False), model(inputs, training=False)
        sums = [tf.reduce_sum(y * mixture) for y in (mine, theirs)]
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    expected = tape.gradient(sums[1], [weight.variable for weight in network.trainable])
    for weight, own, other in zip(network.trainable, tape.gradient(sums[0], trained), expected):
        np.testing.assert_allclose(own, tf.convert_to_tensor(other), rtol=1e-4, atol=1e-5, err_msg=weight.name)


@pytest.mark.parametrize(("name", "place"), [(name, i) for name, cases in CASES.items() for i in range(len(cases))])
def test_a_layer_computes_what_kerass_does(name: str, place: int) -> None:
    shape, build = CASES[name][place]
    layer = build()
    assert type(layer).__name__ == name
    check_against_keras(model_of(shape, layer))


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_a_layer_of_several_inputs_computes_what_kerass_does(name: str) -> None:
    count, build = OF_SEVERAL[name]
    check_against_keras(model_of_several(count, build()))


def test_each_layer_of_the_table_is_compared() -> None:
    assert {*CASES, *OF_SEVERAL} == {name for name, row in LAYERS.items() if not row.why_not} - {"InputLayer"}


def test_a_layer_may_read_one_input_many_times() -> None:
    place = layers.Input(SERIES)
    once = layers.Dense(4)(place)
    check_against_keras(tf.keras.Model(place, layers.Add()([once] * 12)))
