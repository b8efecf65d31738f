"""What each layer of edge.export.keras_table computes, in ops that TFLite has builtins for, backwards too.

A rule takes a call of a layer (Call) and the layer's inputs, and returns its output. Shapes are static, but for the
batch where nothing is exported. It computes what Keras computes in inference mode: nothing is dropped, and batch
normalisation takes its moving averages.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Optional, Protocol

import tensorflow as tf

from edge.errors import ExportError
from edge.export import keras_gradients as gradients

Adapter = tuple[tf.Tensor, tf.Tensor]  # [rows, rank] and [rank, columns], whose product is added to a weight


def sizes(x: tf.Tensor) -> list[int]:
    """Returns the shape of x for a reshape, -1 where the batch is free, as it is in training; in a file it is fixed."""
    return [-1 if size is None else size for size in x.shape]


class Values:
    """The weights of a network as tensors, by Keras's variables."""

    def __init__(self, values: Mapping[object, tf.Tensor], adapters: Optional[Mapping[object, Adapter]] = None):
        """Holds {variable.ref(): tensor}, and the adapters of those that have one."""
        self._values, self._adapters = values, adapters or {}

    def __call__(self, variable: tf.Variable) -> tf.Tensor:
        """Returns a weight, which has no adapter."""
        return self._values[variable.ref()]

    def times(self, x: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        """Returns the product of x [..., I] with a weight [I, O] and its adapter."""
        rows = tf.reshape(x, [-1 if None in x.shape else math.prod(x.shape[:-1]), x.shape[-1]])
        y = gradients.product(rows, self(variable))
        adapter = self._adapters.get(variable.ref())
        if adapter is not None:
            y += gradients.product(gradients.product(rows, adapter[0]), adapter[1])
        return tf.reshape(y, [*sizes(x)[:-1], y.shape[-1]])

    def rows(self, ids: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        """Returns the rows of a weight [V, D] and its adapter that ids int32 [...] name."""
        y = gradients.embedding_rows(self(variable), ids)
        adapter = self._adapters.get(variable.ref())
        if adapter is None:
            return y
        left = tf.reshape(gradients.embedding_rows(adapter[0], ids), [math.prod(ids.shape), adapter[0].shape[1]])
        return y + tf.reshape(gradients.product(left, adapter[1]), y.shape)


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
      layer: Keras's layer.
      weights: of the network.
      is_last: leave out the activation, since the loss takes what comes before it.
    """

    layer: tf.keras.layers.Layer
    weights: Values
    is_last: bool = False

    def activate(self, x: tf.Tensor, function: Optional[Callable] = None) -> tf.Tensor:
        """Returns the layer's activation of x, or another's."""
        if self.is_last:
            return x
        return activation(tf.keras.activations.serialize(function or self.layer.activation))(x)

    def add_bias(self, x: tf.Tensor) -> tf.Tensor:
        """Adds the layer's bias if it has one."""
        return x + self.weights(self.layer.bias) if self.layer.use_bias else x

    def refuse(self, reason: str) -> ExportError:
        """Returns the error that says why this layer can't be exported."""
        return refusal(self.layer, reason)


class Rule(Protocol):
    """How a layer is computed from its inputs."""

    def __call__(self, call: Call, *inputs: tf.Tensor) -> tf.Tensor: ...


def refusal(layer: tf.keras.layers.Layer, reason: str) -> ExportError:
    """Returns the error that says why a layer can't be exported."""
    return ExportError(f"layer {layer.name} ({type(layer).__name__}) can't be exported: {reason}")


def _softplus(x: tf.Tensor) -> tf.Tensor:
    return gradients.relu(x) + tf.math.log(1.0 + tf.exp(-tf.abs(x)))


def _hard_sigmoid(x: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.maximum(0.2 * x + 0.5, 0.0), 1.0)


_ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "linear": lambda x: x,
    "relu": gradients.relu,
    "relu6": gradients.relu6,
    "elu": gradients.elu,
    "gelu": gradients.gelu,
    "selu": tf.nn.selu,
    "sigmoid": tf.sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "tanh": tf.tanh,
    "softmax": tf.nn.softmax,
    "softplus": _softplus,
    "softsign": lambda x: x / (1.0 + tf.abs(x)),
    "swish": lambda x: x * tf.sigmoid(x),
    "silu": lambda x: x * tf.sigmoid(x),
    "exponential": tf.exp,
}


def activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns Keras's activation of this name, in builtin ops."""
    return _ACTIVATIONS[name]


def _dense(call: Call, x: tf.Tensor) -> tf.Tensor:
    return call.activate(call.add_bias(call.weights.times(x, call.layer.kernel)))


def _embedding(call: Call, ids: tf.Tensor) -> tf.Tensor:
    if call.layer.mask_zero:
        raise call.refuse("mask_zero=True hides positions from later layers: build it with mask_zero=False")
    return call.weights.rows(tf.cast(ids, tf.int32), call.layer.embeddings)


def _global(reduce: Callable[..., tf.Tensor]) -> Rule:
    def pool(call: Call, *inputs: tf.Tensor) -> tf.Tensor:
        if call.layer.data_format != "channels_last":
            raise call.refuse("data_format must be channels_last")
        return reduce(inputs[0], tuple(range(1, len(inputs[0].shape) - 1)), keepdims=call.layer.keepdims)

    return pool


def _batch_normalization(call: Call, x: tf.Tensor) -> tf.Tensor:
    """Normalises by the moving averages, which stay: a person's few batches say little of them."""
    layer, weights = call.layer, call.weights
    if [axis % len(x.shape) for axis in as_list(layer.axis)] != [len(x.shape) - 1]:
        raise call.refuse("it must normalise the last axis")
    scale = tf.math.rsqrt(weights(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale *= weights(layer.gamma)
    shift = -weights(layer.moving_mean) * scale
    if layer.center:
        shift += weights(layer.beta)
    return x * scale + shift


def as_list(value: object) -> list[int]:
    """Returns a setting that is a number or several as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [int(str(value))]


def _layer_normalization(call: Call, x: tf.Tensor) -> tf.Tensor:
    layer = call.layer
    if [axis % len(x.shape) for axis in as_list(layer.axis)] != [len(x.shape) - 1]:
        raise call.refuse("it must normalise the last axis")
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    y = centred * tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, keepdims=True) + layer.epsilon)
    if layer.scale:
        y *= call.weights(layer.gamma)
    return y + call.weights(layer.beta) if layer.center else y


def _relu(call: Call, x: tf.Tensor) -> tf.Tensor:
    layer = call.layer
    if layer.threshold or layer.negative_slope or layer.max_value not in (None, 6):
        raise call.refuse("threshold and negative_slope must be 0, max_value None or 6")
    return gradients.relu(x) if layer.max_value is None else gradients.relu6(x)


def _elu(call: Call, x: tf.Tensor) -> tf.Tensor:
    if call.layer.alpha != 1:
        raise call.refuse("alpha must be 1")
    return gradients.elu(x)


def _softmax(call: Call, x: tf.Tensor) -> tf.Tensor:
    if call.layer.axis not in (-1, len(x.shape) - 1):
        raise call.refuse("it must be over the last axis")
    return x if call.is_last else tf.nn.softmax(x)


def _rescaling(call: Call, x: tf.Tensor) -> tf.Tensor:
    layer = call.layer
    if not all(isinstance(value, (int, float)) for value in (layer.scale, layer.offset)):
        raise call.refuse("scale and offset must be numbers")
    return tf.cast(x, tf.float32) * layer.scale + layer.offset


def _flat(call: Call, x: tf.Tensor) -> tf.Tensor:
    """Reshapes to the shape that Keras computed; the batch stays in front."""
    shape = call.layer.compute_output_shape(x.shape)
    return tf.reshape(x, [*sizes(x)[:1], *shape[1:]])


def _unchanged(call: Call, x: tf.Tensor) -> tf.Tensor:
    return x


RULES: dict[str, Rule] = {
    "Dense": _dense,
    "Embedding": _embedding,
    "GlobalAveragePooling1D": _global(tf.reduce_mean),
    "GlobalAveragePooling2D": _global(tf.reduce_mean),
    "GlobalMaxPooling1D": _global(tf.reduce_max),
    "GlobalMaxPooling2D": _global(tf.reduce_max),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Dropout": _unchanged,
    "SpatialDropout1D": _unchanged,
    "SpatialDropout2D": _unchanged,
    "GaussianNoise": _unchanged,
    "GaussianDropout": _unchanged,
    "Activation": lambda call, x: call.activate(x),
    "ReLU": _relu,
    "LeakyReLU": lambda call, x: gradients.leaky_relu(x, float(call.layer.alpha)),
    "ELU": _elu,
    "Softmax": _softmax,
    "Flatten": _flat,
    "Reshape": _flat,
    "Permute": lambda call, x: tf.transpose(x, [0, *call.layer.dims]),
    "RepeatVector": lambda call, x: tf.tile(tf.expand_dims(x, 1), [1, call.layer.n, 1]),
    "Rescaling": _rescaling,
    "Add": lambda call, *xs: reduce(operator.add, xs),
    "Subtract": lambda call, *xs: xs[0] - xs[1],
    "Multiply": lambda call, *xs: reduce(operator.mul, xs),
    "Average": lambda call, *xs: reduce(operator.add, xs) / len(xs),
    "Concatenate": lambda call, *xs: tf.concat(xs, call.layer.axis),
}
