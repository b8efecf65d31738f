"""What the model's weights are: names, order, shapes, raw bytes. Imports no TensorFlow: the phone tools need it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WEIGHT_NAMES = ("embedding", "kernel", "bias", "projection", "output_bias")
Weights = tuple[np.ndarray, ...]  # float32, in the order of WEIGHT_NAMES


@dataclass(frozen=True)
class ModelSize:
    """The three numbers that fix every weight's shape.

    >>> ModelSize(vocabulary_size=10_000, embedding_size=96, num_cells=670).num_weights
    1422250
    """

    vocabulary_size: int
    embedding_size: int
    num_cells: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the weights, in the order of WEIGHT_NAMES."""
        v, d, u = self.vocabulary_size, self.embedding_size, self.num_cells
        return (v, d), (2 * d, 3 * u), (3 * u,), (u, d), (v,)

    @property
    def num_weights(self) -> int:
        """Number of float32 weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    @staticmethod
    def of(weights: Sequence) -> ModelSize:
        """Returns the size that these weights have."""
        (v, d), (u, _) = weights[0].shape, weights[3].shape
        return ModelSize(int(v), int(d), int(u))


def weights_to_bytes(weights: Sequence) -> bytes:
    """Returns the weights as raw little-endian float32, row-major, one after the other in the order of WEIGHT_NAMES."""
    return b"".join(np.ascontiguousarray(w, "<f4").tobytes() for w in weights)


def weights_from_bytes(raw: bytes, size: ModelSize) -> Weights:
    """Returns the weights that weights_to_bytes wrote; copies, so they can be changed.

    Raises:
      ValueError: `raw` does not hold exactly a model of this size.

    >>> size = ModelSize(5, 2, 3)
    >>> [w.shape for w in weights_from_bytes(bytes(4 * size.num_weights), size)]
    [(5, 2), (4, 9), (9,), (3, 2), (5,)]
    """
    if len(raw) != 4 * size.num_weights:
        raise ValueError(f"raw must hold {4 * size.num_weights} bytes for {size}, got len(raw)={len(raw)}")
    flat = np.frombuffer(raw, "<f4").astype(np.float32)
    ends = np.cumsum([int(np.prod(shape)) for shape in size.shapes])
    return tuple(part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), size.shapes))


def train_step_flops(size: ModelSize, time: int, batch: int) -> float:
    """Returns the floating-point operations of a train step.

    It counts matrix products only, and the backward pass as twice the forward one.

    >>> train_step_flops(ModelSize(10_000, 96, 670), time=20, batch=1) / 1e6  # millions
    169.2288
    """
    v, d, u = size.vocabulary_size, size.embedding_size, size.num_cells
    forward = 2 * (2 * d * 3 * u + u * d + d * v)
    return 3.0 * forward * time * batch
