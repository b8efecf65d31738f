"""A person's own network is checked before anything is written: each fault is one line with the layer's name."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from own_networks import SIZE, bigram, registered

from models.errors import OwnNetworkError
from models.own_network import PureNetwork
from orchestrator.errors import ConfigError
from orchestrator.run.own_checks import check_own_network
from orchestrator.run.own_code import load_code, read_code
from orchestrator.settings.files import read_config

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SETTINGS = {
    "data.max_words": 6,
    "data.vocabulary_size": 9,
    "model.vocabulary_size": SIZE[0],
    "model.embedding_size": SIZE[1],
    "model.num_cells": SIZE[2],
    "client.batch_size": 3,
    "client.length_buckets": 1,
}

TABLE = np.ones((9, 4), np.float32)


def check(kind, **settings):
    config = read_config(preset="smoke", overrides={**SETTINGS, **settings, "model.kind": kind})
    check_own_network(config, SIZE[0], lambda said: None)


def refused(said, build, **settings):
    with pytest.raises(OwnNetworkError, match=said) as caught:
        check(registered(build), **settings)
    assert "\n" not in str(caught.value)


def changed(**fields):
    """Returns a build function of a bigram with fields that are made from it."""

    def build(size):
        plain = bigram(size)
        made = {name: change(plain) for name, change in fields.items()}
        return PureNetwork(**{**{"shapes": plain.shapes, "initial": plain.initial, "logits": plain.logits,
                                 "embedding": "table", "output_bias": "bias"}, **made})  # fmt: skip

    return build


def of_logits(change):
    return changed(logits=lambda plain: lambda weights, ids: change(plain.logits(weights, ids)))


def test_a_network_without_fault_passes_down_to_the_exported_file():
    check(registered(bigram))


def test_the_example_of_pure_functions_passes():
    code = read_code(f"{EXAMPLES / 'own_pure_network.py'}:build")
    load_code(code, 6, lambda text: None)
    check(code.kind)


@pytest.mark.parametrize(
    ("said", "build"),
    [
        (r"gives the shape \(2, 6, 8\) for words \(2, 6\), and must give", of_logits(lambda x: x[..., :8])),
        ("gives float64, and logits are float32", of_logits(lambda x: tf.cast(x, tf.float64))),
        ("gives list, and logits", of_logits(lambda x: [x])),
        ("logits raised ZeroDivisionError", of_logits(lambda x: x / (1 // 0))),
        ("gives NaN or an infinite value before any training", of_logits(lambda x: tf.math.log(x - x))),
        ("depend on the other sentences", of_logits(lambda x: x - tf.reduce_mean(x, 0, keepdims=True))),
        ("position 1 changes what was predicted before it: it must be causal", of_logits(lambda x: x + x[:, ::-1])),
        ("position 5 changes", of_logits(lambda x: x + tf.pad(x[:, 5:], [[0, 0], [4, 1], [0, 0]]))),
        (
            "weight table begins with other values each time",
            changed(initial=lambda plain: lambda rng: plain.initial(np.random.default_rng())),
        ),
        (
            "weight table begins with NaN",
            changed(initial=lambda plain: lambda rng: {**plain.initial(rng), "table": np.float32(np.nan) * TABLE}),
        ),
    ],
)  # fmt: skip
def test_a_fault_of_the_outputs_is_one_line(said, build):
    refused(said, build)


def test_a_network_that_is_too_large_is_refused_before_it_draws_its_weights():
    huge = changed(shapes=lambda plain: {**plain.shapes, "more": (1 << 16, 1 << 16)}, initial=lambda plain: None)
    with pytest.raises(ConfigError, match="the model would have 4,294,967,377 weights"):
        check(registered(huge))


def test_no_output_bias_needs_a_setting():
    without = changed(output_bias=lambda plain: None)
    refused(r"no output bias could begin at the word counts: set model\.start_from_word_counts to false", without)


@tf.custom_gradient
def half_gradient(x):
    return x, lambda upstream: 0.5 * upstream


@tf.custom_gradient
def no_gradient(x):
    return x, lambda upstream: 0.0 * upstream


@tf.custom_gradient
def nan_gradient(x):
    return x, lambda upstream: upstream * np.float32(np.nan)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (half_gradient, "the gradient of output is .* where differences of the loss give"),
        (no_gradient, "the gradient of output is 0 where differences"),
        (nan_gradient, "the gradient of output is not finite"),
    ],
)
def test_a_wrong_gradient_is_named_by_its_weight(wrong, said):
    def of_output(plain):
        return lambda weights, ids: plain.logits({**weights, "output": wrong(weights["output"])}, ids)

    refused(said, changed(logits=of_output))


def test_steps_that_predict_otherwise_are_refused():
    def build(size):
        plain = bigram(size)

        def step(weights, token, state):
            row = tf.matmul(tf.gather(weights["table"], token), weights["output"]) + weights["bias"]
            return row + state["count"], {"count": state["count"] + 1.0}

        return PureNetwork(plain.shapes, plain.initial, plain.logits, step, {"count": (1,)}, output_bias="bias")

    refused("step predicts something else at position 1 than logits", build)


def test_an_op_that_a_phone_lacks_is_named(capfd):
    def lacks(plain):
        return lambda weights, ids: tf.raw_ops.Lgamma(x=1.5 + tf.tanh(plain.logits(weights, ids)))

    refused("a phone could not train it: TFLite has no builtin for Digamma", changed(logits=lacks))
    assert "loc(" not in capfd.readouterr().err  # the converter's own lines


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("layers.Bidirectional(layers.GRU(3, return_sequences=True), name='both')", "layer both: the word at position"),
        ("layers.MultiHeadAttention(1, 2, name='attend')(x, x)", "layer attend: the word at position"),
        ("layers.Dense(4, kernel_initializer=nan, name='broken')", "weight broken_kernel begins with NaN"),
        (
            "layers.Dense(4, kernel_initializer=huge, name='steep', activation='exponential')",
            "layer steep: it gives NaN",
        ),
    ],
)
def test_a_layer_of_keras_is_named(layer, said, tmp_path):
    path = tmp_path / "mine.py"
    called = layer if layer.endswith("(x, x)") else f"{layer}(x)"
    path.write_text(
        textwrap.dedent(
            f"""
            import tensorflow as tf
            layers = tf.keras.layers
            nan, huge = tf.keras.initializers.Constant(float("nan")), tf.keras.initializers.Constant(1e5)

            def build(size):
                words = tf.keras.Input((size.max_words,), dtype="int32")
                x = layers.Embedding(size.vocabulary_size, 4)(words)
                x = {called}
                return tf.keras.Model(words, layers.Dense(size.vocabulary_size)(x))
            """
        )
    )
    code = read_code(f"{path}:build")
    load_code(code, 6, lambda text: None)
    with pytest.raises(OwnNetworkError, match=said):
        check(code.kind)
