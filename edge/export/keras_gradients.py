"""Gradients that TFLite has no builtin for, each written once in ops that are builtins.

TensorFlow differentiates most ops into ops that a TFLite file may hold, if every shape is static. These are the rest:
the backward ops of ReLU and its kin, of the error function and of looking up rows have no TFLite builtin; convolutions
and pooling are in edge.export.keras_windows. Each function here returns what TensorFlow's own op returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from models.layouts import Padded

Gradient = Callable[[tf.Tensor], tf.Tensor]

# The error function as a ratio of polynomials in x * x, from the highest power to the lowest; |x| is cut to 4.
# Source: Eigen 3.4, generic_fast_erf_float, which TensorFlow computes on a processor.
_ERF_NUMERATOR = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_DENOMINATOR = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


@tf.custom_gradient
def relu(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Returns max(x, 0); the gradient at 0 is 0, as TensorFlow's."""
    y = tf.nn.relu(x)
    return y, lambda dy: dy * tf.sign(y)


@tf.custom_gradient
def relu6(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Returns min(max(x, 0), 6)."""
    y = tf.nn.relu6(x)
    return y, lambda dy: dy * tf.sign(y) * tf.sign(6.0 - y)


def leaky_relu(x: tf.Tensor, slope: float) -> tf.Tensor:
    """Returns x where it is positive, and slope * x elsewhere."""

    @tf.custom_gradient
    def leaky(value: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return tf.nn.leaky_relu(value, slope), lambda dy: tf.where(value > 0.0, dy, dy * slope)

    return leaky(x)


@tf.custom_gradient
def elu(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Returns x where it is positive, and exp(x) - 1 elsewhere."""
    y = tf.nn.elu(x)
    return y, lambda dy: tf.where(y > 0.0, dy, dy * (y + 1.0))


def _polynomial(x: tf.Tensor, coefficients: Sequence[float]) -> tf.Tensor:
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


@tf.custom_gradient
def erf(x: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
    """Returns the error function of x, within 1e-6 of TensorFlow's."""
    clipped = tf.minimum(tf.maximum(x, -4.0), 4.0)
    square = clipped * clipped
    y = clipped * _polynomial(square, _ERF_NUMERATOR) / _polynomial(square, _ERF_DENOMINATOR)
    return y, lambda dy: dy * (2.0 / np.sqrt(np.pi)).astype(np.float32) * tf.exp(-x * x)


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Returns x * P(X <= x) for a standard normal X, which is Keras's gelu."""
    return 0.5 * x * (1.0 + erf(x * np.float32(np.sqrt(0.5))))


@tf.custom_gradient
def product(x: tf.Tensor, matrix: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Returns the product of x [N, I] and a matrix [I, O], whose gradient is fast though the matrix is no constant."""

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return Padded.times_transposed(dy, matrix), tf.matmul(x, dy, transpose_a=True)

    return tf.matmul(x, matrix), gradient


def embedding_rows(table: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the rows of a table [V, D] that ids int32 [...] name; equal ids add their gradients up."""
    size, width = table.shape

    @tf.custom_gradient
    def look_up(rows: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def gradient(dy: tf.Tensor) -> tf.Tensor:
            return tf.scatter_nd(tf.reshape(ids, [-1, 1]), tf.reshape(dy, [-1, width]), [size, width])

        return tf.gather(rows, ids), gradient

    return look_up(table)
