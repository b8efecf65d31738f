"""The kinds of next-word network, as rows: their weights by name, their roles, their state, their arithmetic.

Imports no TensorFlow: the settings, the phone tools and the fleet need it. What a kind computes stands in
models/model.py, by the same name.

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
      width_multiple: D must be a multiple of it.
      free_batch: exported files take batches of any size; if not, of the plan's size only.
      shares_rows: exported files can train several sentences in a row, which the network keeps apart.
    """

    label: str
    shapes: Callable[[int, int, int], Mapping[str, Shape]]
    size_of: Callable[[Mapping[str, Shape]], tuple[int, int, int]]
    state: Callable[[int, int], Mapping[str, Shape]]
    products: Callable[[int, int, int], int]
    embedding: Optional[str] = "embedding"
    output: Optional[str] = "embedding"
    output_bias: Optional[str] = "output_bias"
    width_multiple: int = 1
    free_batch: bool = True
    shares_rows: bool = False

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


CIFG, GRU, LSTM, TRANSFORMER = "cifg", "gru", "lstm", "transformer"

# Of the transformer: blocks, heads of each, and the words that a word looks back at, itself included.
LAYERS, HEADS, WINDOW = 2, 4, 32


def _transformer_shapes(v: int, d: int, u: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {"embedding": (v, d)}
    for i in range(LAYERS):
        shapes[f"attention_norm_{i}"] = (d,)
        shapes[f"attention_{i}"] = (d, 3 * d)
        shapes[f"attention_out_{i}"] = (d, d)
        shapes[f"forward_norm_{i}"] = (d,)
        shapes[f"expand_{i}"] = (d, u)
        shapes[f"expand_bias_{i}"] = (u,)
        shapes[f"contract_{i}"] = (u, d)
    return {**shapes, "final_norm": (d,), "output_bias": (v,)}


ARCHITECTURES: dict[str, Architecture] = {
    CIFG: Architecture(
        label="CIFG-LSTM, tied embedding",
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
        shares_rows=True,
    ),
    GRU: Architecture(
        label="GRU, tied embedding",
        shapes=lambda v, d, u: {
            "embedding": (v, d),
            "kernel": (d, 3 * u),
            "recurrent": (u, 3 * u),
            "bias": (2, 3 * u),
            "projection": (u, d),
            "output_bias": (v,),
        },
        size_of=lambda shapes: _of(shapes["embedding"], shapes["projection"][0]),
        state=lambda d, u: {"hidden": (1, u)},
        products=lambda v, d, u: (d + u) * 3 * u + u * d + d * v,
        shares_rows=True,
    ),
    LSTM: Architecture(
        label="LSTM, output layer of its own",
        shapes=lambda v, d, u: {
            "embedding": (v, d),
            "kernel": (d, 4 * u),
            "recurrent": (u, 4 * u),
            "bias": (4 * u,),
            "projection": (u, d),
            "projection_bias": (d,),
            "output": (v, d),
            "output_bias": (v,),
        },
        size_of=lambda shapes: _of(shapes["embedding"], shapes["projection"][0]),
        state=lambda d, u: {"hidden": (1, u), "cell": (1, u)},
        products=lambda v, d, u: (d + u) * 4 * u + u * d + d * v,
        output="output",
        shares_rows=True,
    ),
    TRANSFORMER: Architecture(
        label="causal transformer, tied embedding",
        shapes=_transformer_shapes,
        size_of=lambda shapes: _of(shapes["embedding"], shapes["expand_0"][1]),
        state=lambda d, u: {
            "keys": (1, LAYERS, WINDOW, d),
            "values": (1, LAYERS, WINDOW, d),
            "seen": (1, WINDOW),
        },
        products=lambda v, d, u: LAYERS * (4 * d * d + 2 * d * u) + d * v,  # less the scores, which are few
        width_multiple=HEADS,
        shares_rows=True,
    ),
}
