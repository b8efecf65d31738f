"""What a model's weights are: names, order, shapes, raw bytes. Imports no TensorFlow: the phone tools need it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, Protocol

import numpy as np

from models.architectures import ARCHITECTURES, CIFG, Architecture
from models.errors import RoleError
from models.own_network import architecture_of, built_sizes, short_name

Weights = tuple[np.ndarray, ...]  # float32, in the order of ModelSize.names


class Shaped(Protocol):
    """A model of any kind, as far as sums and the server's step ask for it."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the weights, in the order in which they travel."""
        ...


@dataclass(frozen=True)
class WeightShapes:
    """Weights of which nothing but the shapes is known: of any model."""

    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(weights: Sequence[np.ndarray]) -> WeightShapes:
        """Returns the shapes of some weights."""
        return WeightShapes(tuple(weight.shape for weight in weights))


@dataclass(frozen=True)
class ModelSize:
    """The kind of network and the three numbers that fix every weight's shape.

    Attributes:
      vocabulary_size, embedding_size, num_cells: V, D, U.
      kind: a key of ARCHITECTURES, or the kind of a network of somebody's own (models.own_network).
      described: the row of such a network as a bundle describes it, whose code nobody needs to load for that.

    >>> ModelSize(vocabulary_size=10_000, embedding_size=96, num_cells=670).num_weights
    1422250
    """

    vocabulary_size: int
    embedding_size: int
    num_cells: int
    kind: str = field(default=CIFG, repr=False)
    described: Optional[Architecture] = field(default=None, repr=False, compare=False)

    @property
    def architecture(self) -> Architecture:
        """The row of the kind; raises as models.own_network.architecture_of."""
        return self.described or architecture_of(self.kind, self.numbers)

    @property
    def numbers(self) -> tuple[int, int, int]:
        """V, D and U."""
        return self.vocabulary_size, self.embedding_size, self.num_cells

    @property
    def by_name(self) -> Mapping[str, tuple[int, ...]]:
        """{weight: shape}, in the order in which the weights travel."""
        return self.architecture.shapes(self.vocabulary_size, self.embedding_size, self.num_cells)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the weights, in their order."""
        return tuple(self.by_name)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the weights, in the order of the names."""
        return tuple(self.by_name.values())

    @property
    def num_weights(self) -> int:
        """Number of float32 weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def state(self) -> Mapping[str, tuple[int, ...]]:
        """{name: shape} of what a key stroke hands to the next one; float32, zeros at the start."""
        return self.architecture.state(self.embedding_size, self.num_cells)

    def start_state(self) -> dict[str, np.ndarray]:
        """Returns the state before the first key stroke of a sentence."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.state.items()}

    def place_of(self, name: str, frozen: Collection[int] = ()) -> slice:
        """Returns where a weight stands in a vector of all weights that are not frozen; see flatten.

        >>> ModelSize(5, 2, 3).place_of("output_bias")
        slice(61, 66, None)
        """
        place = self.names.index(name)
        slots = slots_of(self.shapes, frozen)
        return slice(sum(slots[:place]), sum(slots[: place + 1]))

    def role(self, role: str) -> str:
        """Returns the name of the weight that has a role: "embedding", "output" or "output_bias".

        Raises:
          RoleError: no weight of this kind has it.
        """
        name = getattr(self.architecture, role)
        if name is None:
            raise RoleError(
                f"model.kind = {short_name(self.kind)!r} has no {role.replace('_', ' ')}: take another kind for this"
            )
        return name

    @staticmethod
    def of(weights: Sequence, kind: str = CIFG) -> ModelSize:
        """Returns the size that these weights of a kind have.

        Raises:
          ValueError: they are of another kind.
        """
        shapes = [tuple(map(int, weight.shape)) for weight in weights]
        for numbers in _fitting(ARCHITECTURES[kind], shapes) if kind in ARCHITECTURES else built_sizes(kind):
            size = ModelSize(*numbers, kind)
            if list(size.shapes) == shapes:
                return size
        raise ValueError(f"weights must be those of a {kind!r} model, got shapes {shapes}")


def _fitting(architecture: Architecture, shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, int, int]]:
    """Returns the size (V, D, U) that weights of these shapes may have; nothing if they are of another kind."""
    try:
        return [architecture.size_of(dict(zip(architecture.names, shapes)))]
    except (KeyError, IndexError, ValueError):  # other weights, or other ranks
        return []


def weights_to_bytes(weights: Sequence) -> bytes:
    """Returns the weights as raw little-endian float32, row-major, one after the other in their order."""
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
    return in_shapes(raw, size.shapes)


def in_shapes(raw: bytes, shapes: Sequence[tuple[int, ...]]) -> Weights:
    """Returns raw little-endian float32 as arrays of these shapes, which take all of it; copies."""
    return unflatten(np.frombuffer(raw, "<f4").astype(np.float32), shapes)


def flatten(tensors: Sequence[np.ndarray], frozen: Collection[int] = ()) -> np.ndarray:
    """Returns a float32 vector of the values of the tensors whose places are not frozen, in their order.

    It is to read only: where they lie so in one vector already, it is a part of that.
    """
    travel = [tensor for place, tensor in enumerate(tensors) if place not in frozen]
    size = sum(np.size(tensor) for tensor in travel)
    whole = getattr(travel[0], "base", None) if travel else None
    if isinstance(whole, np.ndarray) and whole.dtype == np.float32 and whole.ndim == 1 and whole.flags.c_contiguous:
        start = place = travel[0].ctypes.data
        for tensor in travel:
            if tensor.base is not whole or tensor.dtype != np.float32 or not tensor.flags.c_contiguous:
                break
            if tensor.ctypes.data != place:
                break
            place += tensor.nbytes
        else:
            first = (start - whole.ctypes.data) // whole.itemsize
            return whole[first : first + size]
    flat = np.empty(size, np.float32)
    np.concatenate([np.ravel(tensor) for tensor in travel], out=flat)
    return flat


def unflatten(flat: np.ndarray, shapes: Sequence[tuple[int, ...]], frozen: Collection[int] = ()) -> Weights:
    """Returns the tensors of these shapes that flatten made a vector of; zeros where they are frozen.

    >>> [tensor.tolist() for tensor in unflatten(np.float32([1, 2]), ((1,), (2,)), frozen={0})]
    [[0.0], [1.0, 2.0]]
    """
    parts = np.split(flat, np.cumsum(slots_of(shapes, frozen))[:-1])
    return tuple(
        np.zeros(shape, np.float32) if place in frozen else part.reshape(shape)
        for place, (part, shape) in enumerate(zip(parts, shapes))
    )


def slots_of(shapes: Sequence[tuple[int, ...]], frozen: Collection[int] = ()) -> list[int]:
    """Returns how many places of such a vector each tensor takes; a frozen one takes none."""
    return [0 if place in frozen else math.prod(shape) for place, shape in enumerate(shapes)]


def are_finite(weights: Sequence[np.ndarray]) -> bool:
    """Returns whether none of the values is NaN or infinite.

    >>> are_finite([np.ones(2), np.array([0.0, np.inf])]), are_finite([np.ones(2)])
    (False, True)
    """
    return all(bool(np.isfinite(weight).all()) for weight in weights)


def largest_difference(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Returns the largest absolute difference of any two weights in the same place; NaN if one is.

    >>> largest_difference([np.zeros(2), np.ones(1)], [np.array([0.0, -3.0]), np.ones(1)])
    3.0
    """
    return float(np.max([np.abs(a - b).max() for a, b in zip(left, right)]))


def word_products(size: ModelSize) -> int:
    """Returns the multiplications of one word's forward pass, in matrix products.

    >>> word_products(ModelSize(10_000, 96, 670))
    1410240
    """
    return size.architecture.products(size.vocabulary_size, size.embedding_size, size.num_cells)


def train_step_flops(size: ModelSize, time: int, batch: int) -> float:
    """Returns the floating-point operations of a train step.

    It counts matrix products only, and the backward pass as twice the forward one.

    >>> train_step_flops(ModelSize(10_000, 96, 670), time=20, batch=1) / 1e6  # millions
    169.2288
    """
    return 3.0 * 2.0 * word_products(size) * time * batch
