"""The table of layers says what the code does: each layer that it does not refuse has a rule, and Keras knows it."""

from __future__ import annotations

import tensorflow as tf

from edge.export.keras_images import RULES_OF_IMAGES
from edge.export.keras_layers import RULES, activation
from edge.export.keras_losses import TERMS
from edge.export.keras_recurrent import RULES_OF_SEQUENCES
from edge.export.keras_table import ACTIVATIONS, LAYERS, LOSSES


def test_each_layer_that_can_be_exported_has_a_rule() -> None:
    can = {name for name, row in LAYERS.items() if not row.why_not} - {"InputLayer"}
    assert can == {*RULES, *RULES_OF_IMAGES, *RULES_OF_SEQUENCES}


def test_each_layer_of_the_table_is_one_of_keras() -> None:
    unknown = {name for name in LAYERS if not hasattr(tf.keras.layers, name)}
    assert unknown == {"TFOpLambda", "Functional", "Sequential"}


def test_each_activation_is_kerass() -> None:
    x = tf.constant([[-7.0, -2.5, -1.0, -0.1, 0.0, 0.3, 2.0, 3.0, 7.5]])
    for name in ACTIVATIONS:
        keras = tf.nn.relu6 if name == "relu6" else tf.keras.activations.get(name)
        tf.debugging.assert_near(activation(name)(x), keras(x), rtol=2e-6, atol=2e-6, message=name)


def test_each_loss_has_its_terms() -> None:
    assert set(LOSSES) == set(TERMS)
