"""What the layers of images and of windows over a sequence compute, in ops that TFLite has builtins for."""

from __future__ import annotations

import tensorflow as tf

from edge.export import keras_windows as windows
from edge.export.keras_layers import Call, Rule, as_list


def _pair(value: object) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return int(first), int(second)


def _check_plain(call: Call) -> str:
    """Refuses what convolutions and pooling do without; returns the padding as TensorFlow writes it."""
    layer = call.layer
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise call.refuse("data_format must be channels_last")
    if any(rate != 1 for rate in getattr(layer, "dilation_rate", ())):
        raise call.refuse("dilation_rate must be 1")
    if getattr(layer, "groups", 1) != 1 or getattr(layer, "depth_multiplier", 1) != 1:
        raise call.refuse("groups and depth_multiplier must be 1")
    if layer.padding not in ("same", "valid"):
        raise call.refuse(f"padding must be same or valid, it is {layer.padding}")
    return layer.padding.upper()


def _conv2d(call: Call, x: tf.Tensor) -> tf.Tensor:
    padding = _check_plain(call)
    y = windows.conv2d(x, call.weights(call.layer.kernel), _pair(call.layer.strides), padding)
    return call.activate(call.add_bias(y))


def _conv1d(call: Call, x: tf.Tensor) -> tf.Tensor:
    padding = _check_plain(call)
    kernel = tf.expand_dims(call.weights(call.layer.kernel), 0)
    y = windows.conv2d(tf.expand_dims(x, 1), kernel, (1, call.layer.strides[0]), padding)
    return call.activate(call.add_bias(tf.squeeze(y, 1)))


def _depthwise_conv2d(call: Call, x: tf.Tensor) -> tf.Tensor:
    padding = _check_plain(call)
    kernel = call.weights(call.layer.depthwise_kernel)
    y = windows.depthwise_conv2d(x, kernel, _pair(call.layer.strides), padding)
    return call.activate(call.add_bias(y))


def _separable_conv2d(call: Call, x: tf.Tensor) -> tf.Tensor:
    padding, weights, layer = _check_plain(call), call.weights, call.layer
    y = windows.depthwise_conv2d(x, weights(layer.depthwise_kernel), _pair(layer.strides), padding)
    return call.activate(call.add_bias(windows.conv2d(y, weights(layer.pointwise_kernel), (1, 1), "VALID")))


def _window(call: Call) -> windows.Window:
    padding = _check_plain(call)
    return windows.Window(_pair(call.layer.pool_size), _pair(call.layer.strides), padding)


def _window1d(call: Call) -> windows.Window:
    padding, layer = _check_plain(call), call.layer
    return windows.Window((1, as_list(layer.pool_size)[0]), (1, as_list(layer.strides)[0]), padding)


def _max_pooling2d(call: Call, x: tf.Tensor) -> tf.Tensor:
    return windows.max_pool2d(x, _window(call))


def _max_pooling1d(call: Call, x: tf.Tensor) -> tf.Tensor:
    return tf.squeeze(windows.max_pool2d(tf.expand_dims(x, 1), _window1d(call)), 1)


def _average_pooling2d(call: Call, x: tf.Tensor) -> tf.Tensor:
    return windows.avg_pool2d(x, _window(call))


def _average_pooling1d(call: Call, x: tf.Tensor) -> tf.Tensor:
    return tf.squeeze(windows.avg_pool2d(tf.expand_dims(x, 1), _window1d(call)), 1)


def _zero_padding2d(call: Call, x: tf.Tensor) -> tf.Tensor:
    return tf.pad(x, [(0, 0), *call.layer.padding, (0, 0)])


RULES_OF_IMAGES: dict[str, Rule] = {
    "Conv1D": _conv1d,
    "Conv2D": _conv2d,
    "DepthwiseConv2D": _depthwise_conv2d,
    "SeparableConv2D": _separable_conv2d,
    "MaxPooling1D": _max_pooling1d,
    "MaxPooling2D": _max_pooling2d,
    "AveragePooling1D": _average_pooling1d,
    "AveragePooling2D": _average_pooling2d,
    "ZeroPadding1D": lambda call, x: tf.pad(x, [(0, 0), tuple(call.layer.padding), (0, 0)]),
    "ZeroPadding2D": _zero_padding2d,
}
