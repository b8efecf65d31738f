"""The kinds of next-word network, as rows: their weights by name, their roles, their state, their arithmetic.

Imports no TensorFlow: the settings, the phone tools and the fleet need it. What a kind computes stands in
models/networks.py under the same name.

Notation: V words, D embedding size, U cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Optional

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """One kind of network.

    Attributes:
      label: the name for people.
      shapes: (V, D, U) -> {weight: shape}, in the order in which the weights travel.
      size_of: {weight: shape} -> (V, D, U).
      state: (D, U) -> {name: shape} of what a key stroke hands to the next one: float32, zeros at the start.
      products: (V, D, U) -> multiplications of a word's forward pass in matrix products.
      embedding: the weight [V, D] that turns words into vectors; None if there is none.
      output: the weight [V, D] that turns the last rows into logits; the embedding, if the two are tied.
      output_bias: the weight [V] that is added to the logits; None if there is none.
    """

    label: str
    shapes: Callable[[int, int, int], Mapping[str, Shape]]
    size_of: Callable[[Mapping[str, Shape]], tuple[int, int, int]]
    state: Callable[[int, int], Mapping[str, Shape]]
    products: Callable[[int, int, int], int]
    embedding: Optional[str] = "embedding"
    output: Optional[str] = "embedding"
    output_bias: Optional[str] = "output_bias"

    @property
    def is_tied(self) -> bool:
        """True if the embedding is the output layer, too."""
        return self.embedding is not None and self.embedding == self.output

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the weights, in their order."""
        return tuple(self.shapes(1, 1, 1))

    @property
    def by_word(self) -> tuple[str, ...]:
        """The weights that hold an entry for each word: embedding and output layer."""
        return tuple(name for name in self.names if name in (self.embedding, self.output, self.output_bias))

    @property
    def inner(self) -> tuple[str, ...]:
        """The other weights, whose gradient a client's clip_norm measures."""
        return tuple(name for name in self.names if name not in self.by_word)


def _of(embedding: Shape, num_cells: int) -> tuple[int, int, int]:
    words, width = embedding
    return words, width, num_cells


CIFG = "cifg"

ARCHITECTURES: dict[str, Architecture] = {
    CIFG: Architecture(
        label="CIFG-LSTM with a projection and a tied embedding",
        shapes=lambda v, d, u: {
            "embedding": (v, d),
            "kernel": (2 * d, 3 * u),
            "bias": (3 * u,),
            "projection": (u, d),
            "output_bias": (v,),
        },
        size_of=lambda shapes: _of(shapes["embedding"], shapes["projection"][0]),
        state=lambda d, u: {"hidden": (1, d), "cell": (1, u)},
        products=lambda v, d, u: 2 * d * 3 * u + u * d + d * v,
    ),
}
