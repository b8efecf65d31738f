"""In which shape a batch trains, and where its sentences stand there."""

from __future__ import annotations

import numpy as np

from edge.clients.packing import smallest
from edge.export.shapes import TrainShape, train_shapes
from models.weights import ModelSize

_CASES = (
    ("no sentence", []),
    ("a filling row only", [0]),
    ("one word in a whole row", [1]),
    ("as long as the shortest row", [5]),
    ("a position longer", [6]),
    ("the longest there is", [20]),
    ("two share a row", [12, 8]),
    ("two that do not share one", [12, 9]),
    ("of two as long, the first stands first", [4, 4, 4]),
    ("the first row with room, not the fullest", [11, 12, 8, 8]),
    ("shorter rows, where as many positions do", [10, 10]),
    ("no shape holds them", [20] * 11),
)


def packing() -> dict[str, object]:
    """packing.json: `shapes` are those of a file; in `cases` stand a batch's lengths, and what becomes of it."""
    shapes = [*train_shapes(ModelSize(9, 2, 3), time=20, batch_size=16), TrainShape(2, 10)]
    rng = np.random.default_rng(0)
    drawn = [(f"chance {size}", rng.integers(0, 21, size).tolist()) for size in (2, 3, 5, 8, 16, 16)]
    return {
        "shapes": [shape.signature for shape in shapes],
        "cases": [_case(name, lengths, shapes) for name, lengths in (*_CASES, *drawn)],
    }


def _case(name: str, lengths: list[int], shapes: list[TrainShape]) -> dict[str, object]:
    chosen = smallest(lengths, shapes)
    return {
        "name": name,
        "lengths": lengths,
        "signature": chosen[0].signature if chosen else None,
        "places": [list(place) for place in chosen[1]] if chosen else None,
    }
