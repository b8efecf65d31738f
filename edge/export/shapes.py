"""The train signatures of fixed shapes: a few rows of few positions, in which several sentences share a row.

Most sentences are short, and TFLite computes the padding. So train.tflite has, beside `train` of any number of whole
rows, signatures like train_8x20: 8 rows of 20 positions, in each of which sentences stand one after the other. A
sentence begins at <bos>, where the state begins anew. edge.clients.packing puts a batch into the smallest shape that
holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Optional

from models.weights import ModelSize

_NAME = re.compile(r"train_([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")


class TrainShape(NamedTuple):
    """Rows, and positions of each.

    >>> TrainShape(8, 20).signature, TrainShape(8, 20).positions
    ('train_8x20', 160)
    """

    rows: int
    time: int

    @property
    def signature(self) -> str:
        """The name of its signature."""
        return f"train_{self.rows}x{self.time}"

    @property
    def positions(self) -> int:
        """What a step computes, however much of it is padding."""
        return self.rows * self.time


def shape_of(signature: str) -> Optional[TrainShape]:
    """Returns the shape that a signature's name tells; None if the signature trains no fixed shape.

    >>> shape_of("train_4x20"), shape_of("train_fixed")
    (TrainShape(rows=4, time=20), None)
    """
    found = _NAME.fullmatch(signature)
    return TrainShape(int(found[1]), int(found[2])) if found else None


def shapes_among(signatures: Iterable[str]) -> list[TrainShape]:
    """Returns the shapes among the names of a file's signatures; none in files of before.

    >>> shapes_among(["train", "train_4x20", "infer"])
    [TrainShape(rows=4, time=20)]
    """
    return [shape for shape in map(shape_of, signatures) if shape is not None]


def train_shapes(size: ModelSize, time: int, batch_size: int) -> tuple[TrainShape, ...]:
    """Returns the shapes that a bundle has, for batches of `batch_size` sentences of `time` positions.

    Chosen on the built-in text, whose sentences have 8.1 positions on average. There are none if the kind of network
    can't keep sentences apart that share a row.

    >>> [shape.signature for shape in train_shapes(ModelSize(9, 2, 3), time=20, batch_size=16)]
    ['train_10x20', 'train_8x20', 'train_6x20', 'train_4x20', 'train_2x20', 'train_1x20', 'train_1x10', 'train_1x5']
    """
    if not size.architecture.shares_rows:
        return ()
    whole = {-(-batch_size * share // 16) for share in (10, 8, 6, 4, 2, 1)}
    lengths = {-(-time // 2), -(-time // 4)}
    shapes = {TrainShape(rows, time) for rows in whole} | {TrainShape(1, length) for length in lengths}
    return tuple(sorted(shapes, key=lambda shape: -shape.positions))
