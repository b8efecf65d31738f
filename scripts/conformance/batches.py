"""batches.json: sentences of ids, how a round draws of them, and the batches that every client draws of a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Union

import numpy as np

from models.batches import build_batches
from models.vocabulary import NUM_SPECIAL

VOCABULARY_SIZE = 40
DRAWINGS = (
    {"epochs": 1, "batch_size": 4, "max_sentences": 100, "length_buckets": 1, "time": 6},
    {"epochs": 3, "batch_size": 3, "max_sentences": 7, "length_buckets": 1, "time": 4},
    {"epochs": 2, "batch_size": 4, "max_sentences": 13, "length_buckets": 3, "time": 8},
    {"epochs": 1, "batch_size": 2, "max_sentences": 5, "length_buckets": 9, "time": 1},
)


class Mulberry32:
    """The orders that clients draw from a seed; in place of NumPy's generator.

    Source: mulberry32 (public domain).
    """

    def __init__(self, seed: int) -> None:
        self._state = seed

    def _draw(self) -> int:
        self._state = (self._state + 0x6D2B79F5) % 2**32
        mixed = (self._state ^ self._state >> 15) * (self._state | 1) % 2**32
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) % 2**32
        return mixed ^ mixed >> 14

    def permutation(self, values: Union[int, Sequence[int]]) -> np.ndarray:
        """Returns the values, or the numbers below one, in a random order (Fisher and Yates, from the end)."""
        order = np.arange(values) if isinstance(values, int) else np.array(values, np.int64)
        for last in range(len(order) - 1, 0, -1):
            other = self._draw() * (last + 1) >> 32
            order[[last, other]] = order[[other, last]]
        return order


def batches() -> dict[str, object]:
    """Returns the file's content: `mask` is the number of real positions in each row."""
    draws = random.Random(0)
    sentences = [
        draws.choices(range(NUM_SPECIAL, VOCABULARY_SIZE + 3), k=draws.randint(1, 9)) for _ in range(len(DRAWINGS) * 4)
    ]
    drawn = []
    for seed, drawing in enumerate(DRAWINGS, start=2**32 - 2):
        # The generator gives orders alone, and build_batches asks for nothing else.
        rng = Mulberry32(seed % 2**32)
        made = build_batches(list(map(np.array, sentences)), vocabulary_size=VOCABULARY_SIZE, rng=rng, **drawing)
        drawn.append(
            {
                "seed": seed % 2**32,
                **drawing,
                "tokens": made.tokens.tolist(),
                "targets": made.targets.tolist(),
                "mask": made.mask.sum(axis=2).astype(int).tolist(),
            }
        )
    return {"vocabulary_size": VOCABULARY_SIZE, "sentences": sentences, "drawn": drawn}
