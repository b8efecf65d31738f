"""A person's examples as arrays by name, cut into padded batches: what a model of any kind trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np

MASK = "mask"
Examples = Mapping[str, np.ndarray]  # by name, [num_examples, ...]; of one length


@dataclass(frozen=True)
class ExampleBatches:
    """One client's batches.

    Attributes:
      arrays: by name, [num_batches, batch, ...]; the one called "mask", float32 [num_batches, batch], is 0 in rows that
        are filling, which hold zeros.
    """

    arrays: Mapping[str, np.ndarray]

    @property
    def num_batches(self) -> int:
        """Batches of all epochs."""
        return len(self.arrays[MASK])

    @property
    def num_examples(self) -> int:
        """Examples of all epochs, filling not counted."""
        return int(self.arrays[MASK].sum())


def build_example_batches(
    examples: Examples,
    *,
    batch_size: int,
    max_examples: Optional[int] = None,
    epochs: int = 1,
    rng: Optional[np.random.Generator] = None,
) -> ExampleBatches:
    """Returns a client's examples as padded batches.

    Args:
      examples: at least one.
      batch_size: of every batch, the last one's filling included.
      max_examples: takes at most this many, drawn anew by `rng` (without it the first ones); None takes all.
      epochs: passes over them, each in a new order.
      rng: the source of orders; None keeps the examples' order, for evaluation.

    >>> one = build_example_batches({"x": np.array([3, 4, 5])}, batch_size=2)
    >>> one.arrays["x"].tolist(), one.arrays["mask"].tolist()
    ([[3, 4], [5, 0]], [[1.0, 1.0], [1.0, 0.0]])
    """
    count = len(next(iter(examples.values())))
    chosen = np.arange(count) if rng is None else rng.permutation(count)
    chosen = chosen[:max_examples]
    num_batches = -(-len(chosen) // batch_size)
    filling = num_batches * batch_size - len(chosen)
    orders = [chosen if rng is None else rng.permutation(chosen) for _ in range(epochs)]

    def cut(array: np.ndarray) -> np.ndarray:
        zeros = np.zeros((filling, *array.shape[1:]), array.dtype)
        rows = np.concatenate([part for order in orders for part in (array[order], zeros)])
        return rows.reshape(epochs * num_batches, batch_size, *array.shape[1:])

    everything = {**examples, MASK: np.ones(count, np.float32)}
    return ExampleBatches({name: cut(array) for name, array in everything.items()})
