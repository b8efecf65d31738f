"""Each gradient that is written in builtin ops, against TensorFlow's own on the same numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from edge.export import keras_gradients as gradients
from edge.export import keras_windows as windows


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def value_and_gradients(function: Callable, arguments: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Returns the function's value, and the gradients of a random mixture of it."""
    tensors = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = function(*tensors)
        mixture = tf.reduce_sum(y * np.random.default_rng(7).standard_normal(y.shape).astype(np.float32))
    return [y.numpy(), *(tf.convert_to_tensor(g).numpy() for g in tape.gradient(mixture, tensors))]


def pooled(pool: Callable, size: int, stride: int, padding: str) -> Callable:
    return lambda x: pool(x, windows.Window((size, size), (stride, stride), padding))


def convolved(strides: tuple[int, int], padding: str) -> Callable:
    return lambda x, w: windows.conv2d(x, w, strides, padding)


IMAGE = normal(2, 7, 8, 3)
TIES = np.maximum(normal(2, 7, 8, 3), 0)  # many windows hold several zeros
CORNERS = np.concatenate([normal(4, 9) * 4, [np.float32([-7, -1, 0, 0, 1, 5, 6, 6.5, 9])]]).astype(np.float32)

CASES = {
    "relu": (gradients.relu, tf.nn.relu, (CORNERS,)),
    "relu6": (gradients.relu6, tf.nn.relu6, (CORNERS,)),
    "leaky_relu": (lambda x: gradients.leaky_relu(x, 0.3), lambda x: tf.nn.leaky_relu(x, 0.3), (CORNERS,)),
    "elu": (gradients.elu, tf.nn.elu, (CORNERS,)),
    "erf": (gradients.erf, tf.math.erf, (CORNERS,)),
    "gelu": (gradients.gelu, tf.nn.gelu, (CORNERS,)),
    "product": (gradients.product, tf.matmul, (normal(4, 3), normal(3, 5))),
    "conv valid": (
        convolved((1, 1), "VALID"),
        lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"),
        (IMAGE, normal(3, 2, 3, 4)),
    ),
    "conv same": (convolved((1, 1), "SAME"), lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), (IMAGE, normal(3, 3, 3, 4))),
    "conv strides": (
        convolved((2, 1), "SAME"),
        lambda x, w: tf.nn.conv2d(x, w, (2, 1), "SAME"),
        (IMAGE, normal(3, 3, 3, 4)),
    ),
    "conv pointwise": (
        convolved((1, 1), "SAME"),
        lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"),
        (IMAGE, normal(1, 1, 3, 4)),
    ),
    "conv pointwise strides": (
        convolved((2, 2), "SAME"),
        lambda x, w: tf.nn.conv2d(x, w, 2, "SAME"),
        (IMAGE, normal(1, 1, 3, 4)),
    ),
    "depthwise": (
        lambda x, w: windows.depthwise_conv2d(x, w, (1, 1), "SAME"),
        lambda x, w: tf.nn.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME"),
        (IMAGE, normal(3, 3, 3, 1)),
    ),
    "depthwise strides": (
        lambda x, w: windows.depthwise_conv2d(x, w, (2, 2), "VALID"),
        lambda x, w: tf.nn.depthwise_conv2d(x, w, (1, 2, 2, 1), "VALID"),
        (IMAGE, normal(3, 3, 3, 1)),
    ),
    "max": (pooled(windows.max_pool2d, 2, 2, "VALID"), lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), (IMAGE,)),
    "max same": (pooled(windows.max_pool2d, 2, 2, "SAME"), lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"), (IMAGE,)),
    "max ties": (pooled(windows.max_pool2d, 2, 2, "VALID"), lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), (TIES,)),
    "max overlaps": (pooled(windows.max_pool2d, 3, 2, "SAME"), lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"), (TIES,)),
    "mean": (pooled(windows.avg_pool2d, 2, 2, "VALID"), lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"), (IMAGE,)),
    "mean same": (pooled(windows.avg_pool2d, 2, 2, "SAME"), lambda x: tf.nn.avg_pool2d(x, 2, 2, "SAME"), (IMAGE,)),
    "mean overlaps": (pooled(windows.avg_pool2d, 3, 2, "SAME"), lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), (IMAGE,)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_gradient_is_tensorflows(name: str) -> None:
    mine, theirs, arguments = CASES[name]
    for own, expected in zip(value_and_gradients(mine, arguments), value_and_gradients(theirs, arguments)):
        np.testing.assert_allclose(own, expected, rtol=2e-5, atol=2e-6)


def test_equal_ids_add_their_gradients_up() -> None:
    table = tf.constant(normal(5, 3))
    with tf.GradientTape() as tape:
        tape.watch(table)
        y = tf.reduce_sum(gradients.embedding_rows(table, tf.constant([[4, 0], [4, 4]])) * [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(tape.gradient(y, table)[4], [3.0, 6.0, 9.0])
