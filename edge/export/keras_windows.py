"""Convolutions and pooling with gradients in builtin ops of TFLite, which has none for their backward ops.

Each function returns what TensorFlow's own op returns. Images are float32 [batch, height, width, channels], all static.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from edge.export.keras_gradients import Gradient
from models.layouts import Padded

_LOWEST = -3.4028235e38  # of float32: padding that no maximum takes


@dataclass(frozen=True)
class Window:
    """A window that slides over an image.

    Attributes:
      size: height and width of the window.
      strides: steps down and to the right.
      padding: "SAME" or "VALID", as TensorFlow means them.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: str

    def pads(self, image: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Returns the rows above and below, and the columns left and right, that padding adds to [height, width].

        >>> Window((3, 3), (2, 2), "SAME").pads((6, 5))
        ((0, 1), (1, 1))
        """
        if self.padding == "VALID":
            return (0, 0), (0, 0)
        height, width = (
            max((-(-length // stride) - 1) * stride + size - length, 0)
            for length, stride, size in zip(image, self.strides, self.size)
        )
        return (height // 2, height - height // 2), (width // 2, width - width // 2)

    def offsets(self) -> list[tuple[int, int]]:
        """Returns the window's places, row by row."""
        return [(i, j) for i in range(self.size[0]) for j in range(self.size[1])]


def _padded(x: tf.Tensor, pads: tuple[tuple[int, int], tuple[int, int]], value: float = 0.0) -> tf.Tensor:
    if not any(map(sum, pads)):
        return x
    return tf.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value)


def _slices(x: tf.Tensor, window: Window, rows: int, columns: int) -> list[tf.Tensor]:
    """Returns what stands at each place of a window that slides over a padded image: [batch, rows, columns, C] each."""
    down, right = window.strides
    if (down, right) == (1, 1):
        return [x[:, i : i + rows, j : j + columns, :] for i, j in window.offsets()]
    # TFLite's STRIDED_SLICE is slow where a stride is not 1: so neighbours go on one axis, and the first one is cut.
    batch, height, width, channels = x.shape
    low, far = rows * down + window.size[0] - 1 - height, columns * right + window.size[1] - 1 - width
    x = _padded(x, ((0, max(low, 0)), (0, max(far, 0))))
    places = []
    for i, j in window.offsets():
        whole = x[:, i : i + rows * down, j : j + columns * right, :]
        lines = tf.reshape(whole, [batch * rows, down, columns * right * channels])[:, :1]
        points = tf.reshape(lines, [batch * rows, columns, right * channels])[:, :, :channels]
        places.append(tf.reshape(points, [batch, rows, columns, channels]))
    return places


def _spread(parts: Sequence[tf.Tensor], window: Window, image: Sequence[int]) -> tf.Tensor:
    """Returns the transpose of _slices and padding: adds each part where it was cut out of [batch, *image, C]."""
    (top, bottom), (left, right) = window.pads(image)
    height, width = image[0] + top + bottom, image[1] + left + right
    if window.size == window.strides:
        whole = _interleaved(parts, window)[:, :height, :width]
        rest = ((0, height - whole.shape[1]), (0, width - whole.shape[2]))
        total = _padded(whole, rest)
    else:
        total = tf.add_n(
            [
                _padded(wide, ((i, height - i - wide.shape[1]), (j, width - j - wide.shape[2])))
                for (i, j), wide in zip(window.offsets(), (_dilated(part, window.strides) for part in parts))
            ]
        )
    return total[:, top : top + image[0], left : left + image[1], :]


def _interleaved(parts: Sequence[tf.Tensor], window: Window) -> tf.Tensor:
    """Puts windows that don't overlap side by side."""
    down, right = window.size
    batch, rows, columns, channels = parts[0].shape
    lines = [
        tf.reshape(tf.stack(parts[i * right : (i + 1) * right], 3), [batch, rows, columns * right * channels])
        for i in range(down)
    ]
    return tf.reshape(tf.stack(lines, 2), [batch, rows * down, columns * right, channels])


def _dilated(x: tf.Tensor, strides: tuple[int, int]) -> tf.Tensor:
    """Puts strides - 1 zeros between neighbours."""
    down, right = strides
    batch, rows, columns, channels = x.shape
    if right > 1:
        x = tf.pad(tf.reshape(x, [batch * rows * columns, 1, channels]), [(0, 0), (0, right - 1), (0, 0)])
    if down > 1:
        x = tf.pad(tf.reshape(x, [batch * rows, 1, columns * right * channels]), [(0, 0), (0, down - 1), (0, 0)])
    whole = tf.reshape(x, [batch, rows * down, columns * right, channels])
    return whole[:, : (rows - 1) * down + 1, : (columns - 1) * right + 1, :]


def conv2d(x: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str) -> tf.Tensor:
    """Returns the convolution of images with a kernel [height, width, channels, filters]."""
    window = Window(tuple(kernel.shape[:2]), strides, padding)

    @tf.custom_gradient
    def convolve(image: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        batch, height, width, channels = image.shape
        filters = weight.shape[3]
        pads = window.pads((height, width))
        rows = (height + sum(pads[0]) - window.size[0]) // strides[0] + 1
        columns = (width + sum(pads[1]) - window.size[1]) // strides[1] + 1
        places = _slices(_padded(image, pads), window, rows, columns)
        flat = [tf.reshape(place, [batch * rows * columns, channels]) for place in places]
        matrix = tf.reshape(weight, [len(places) * channels, filters])
        y = tf.matmul(tf.concat(flat, 1) if len(flat) > 1 else flat[0], matrix)

        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_output = tf.reshape(dy, [batch * rows * columns, filters])
            d_weight = tf.stack([tf.matmul(place, of_output, transpose_a=True) for place in flat])
            if window.size == (1, 1):
                d_places = tf.reshape(Padded.times_transposed(of_output, matrix), [batch, rows, columns, channels])
                d_image = _spread([d_places], window, (height, width)) if strides != (1, 1) else d_places
            else:
                d_image = tf.nn.conv2d_transpose(dy, weight, image.shape, strides, padding)
            return d_image, tf.reshape(d_weight, weight.shape)

        return tf.reshape(y, [batch, rows, columns, filters]), gradient

    return convolve(x, kernel)


def depthwise_conv2d(x: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str) -> tf.Tensor:
    """Returns each channel's convolution with its own kernel, [height, width, channels, 1]."""
    window = Window(tuple(kernel.shape[:2]), strides, padding)

    @tf.custom_gradient
    def convolve(image: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        y = tf.nn.depthwise_conv2d(image, weight, [1, *strides, 1], padding)

        def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            (height, width), wide = image.shape[1:3], _dilated(dy, strides)
            pads = window.pads((height, width))
            places = _slices(_padded(image, pads), Window(window.size, (1, 1), "VALID"), *wide.shape[1:3])
            d_weight = tf.stack([tf.reduce_sum(place * wide, (0, 1, 2)) for place in places])
            # Not a convolution with the kernel turned around: with it TensorFlow 2.14's interpreter missed the gate.
            factors = tf.unstack(tf.reshape(weight, [len(places), weight.shape[2]]))
            d_image = _spread([dy * factor for factor in factors], window, (height, width))
            return d_image, tf.reshape(d_weight, weight.shape)

        return y, gradient

    return convolve(x, kernel)


def max_pool2d(x: tf.Tensor, window: Window) -> tf.Tensor:
    """Returns the largest value of each window; where several are, the first of them takes the gradient."""

    @tf.custom_gradient
    def pool(image: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        y = tf.nn.max_pool2d(image, window.size, window.strides, window.padding)

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            size = image.shape[1:3]
            places = _slices(_padded(image, window.pads(size), _LOWEST), window, *y.shape[1:3])
            left, parts = dy, []
            for place in places:
                is_largest = tf.equal(place, y)
                parts.append(tf.where(is_largest, left, 0.0))
                left = tf.where(is_largest, 0.0, left)
            return _spread(parts, window, size)

        return y, gradient

    return pool(x)


def avg_pool2d(x: tf.Tensor, window: Window) -> tf.Tensor:
    """Returns the mean of each window; what padding adds does not count."""
    size = tuple(x.shape[1:3])
    (top, bottom), (left, right) = window.pads(size)

    @tf.custom_gradient
    def pool(image: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        y = tf.nn.avg_pool2d(image, window.size, window.strides, window.padding)
        ones = np.pad(np.ones(size, np.float32), ((top, bottom), (left, right)))
        down, across = window.strides
        counts = np.zeros(y.shape[1:3], np.float32)
        for i, j in window.offsets():
            counts += ones[i:][: (y.shape[1] - 1) * down + 1 : down, j:][:, : (y.shape[2] - 1) * across + 1 : across]

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            share = dy * (1.0 / counts)[np.newaxis, :, :, np.newaxis]
            return _spread([share] * len(window.offsets()), window, size)

        return y, gradient

    return pool(x)
