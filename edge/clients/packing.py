"""Which of a model's fixed shapes a batch is trained in, and where each sentence stands there.

Every client chooses by the same rule: the shape of the fewest positions that holds the sentences, and among equals the
one of the shortest rows. The longest sentence is placed first, each in the first row that has room for it (first fit,
decreasing). edge/conformance/packing.json holds cases. The C client, which must do with little memory, first decides
which of the shapes to use at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

import numpy as np

from edge.export.shapes import TrainShape
from models.batches import Batches
from models.vocabulary import BOS, PAD


class Batch(NamedTuple):
    """One of Batches: int32, int32 and float32 [rows, time]."""

    tokens: np.ndarray
    targets: np.ndarray
    mask: np.ndarray


class Place(NamedTuple):
    """Where a sentence stands in a shape."""

    sentence: int
    row: int
    position: int  # of its first word


def places(lengths: Sequence[int], shape: TrainShape) -> Optional[list[Place]]:
    """Returns where sentences of these lengths stand in a shape, the empty ones nowhere; None if they do not fit.

    >>> places([2, 0, 3, 2], TrainShape(2, 5))
    [Place(sentence=2, row=0, position=0), Place(sentence=0, row=0, position=3), Place(sentence=3, row=1, position=0)]
    """
    used, found = [0] * shape.rows, []
    for sentence in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[sentence]
        if length == 0:
            break
        row = next((row for row, taken in enumerate(used) if taken + length <= shape.time), None)
        if row is None:
            return None
        found.append(Place(sentence, row, used[row]))
        used[row] += length
    return found


def smallest(lengths: Sequence[int], shapes: Iterable[TrainShape]) -> Optional[tuple[TrainShape, list[Place]]]:
    """Returns the shape that a batch of these lengths trains in, and the places there; None if no shape holds it."""
    for shape in sorted(shapes, key=lambda shape: (shape.positions, shape.time)):
        found = places(lengths, shape)
        if found is not None:
            return shape, found
    return None


def packed(batch: Batch, shapes: Iterable[TrainShape]) -> Optional[tuple[TrainShape, Batch]]:
    """Returns a batch in a shape of fewer positions, and the shape; None if it is best trained as it is.

    It is, too, where it holds anything but sentences that begin at <bos>: only there does the state begin anew.
    """
    lengths = _lengths(batch)
    chosen = None if lengths is None else smallest(lengths, shapes)
    if lengths is None or chosen is None or chosen[0].positions >= batch.tokens.size:
        return None
    shape, found = chosen
    parts = [np.full(shape, PAD, np.int32), np.full(shape, PAD, np.int32), np.zeros(shape, np.float32)]
    for sentence, row, position in found:
        length = lengths[sentence]
        for mine, theirs in zip(parts, batch):
            mine[row, position : position + length] = theirs[sentence, :length]
    return shape, Batch(*parts)


def cut_to_fit(batches: Batches, shapes: Sequence[TrainShape]) -> Batches:
    """Returns the batches, in turns whole and cut to what each shape holds: to compare all train signatures on.

    Of a batch that is cut, sentences that are too long end earlier, and those for which there is no room are left out.
    """
    parts = Batches(*(part.copy() for part in batches))
    for step in range(len(parts.tokens)):
        turn = step % (1 + len(shapes))
        if turn:
            _cut(Batch(*(part[step] for part in parts)), shapes[turn - 1])
    return parts


def _cut(batch: Batch, shape: TrainShape) -> None:
    batch.mask[:, shape.time :] = 0
    lengths = [0] * len(batch.mask)
    for row, length in enumerate(batch.mask.sum(1).astype(int).tolist()):
        lengths[row] = length
        if places(lengths, shape) is None:
            lengths[row], batch.mask[row] = 0, 0
    for ids in (batch.tokens, batch.targets):
        ids[batch.mask == 0] = PAD


def _lengths(batch: Batch) -> Optional[list[int]]:
    """Returns the positions of each row's sentence; None if a row holds anything else."""
    real = batch.mask > 0
    lengths = real.sum(1)
    starts = (batch.tokens == BOS) & real
    is_sentence = (starts.sum(1) == (lengths > 0)) & (starts[:, 0] == (lengths > 0))
    comes_first = np.arange(real.shape[1]) < lengths[:, np.newaxis]
    return lengths.tolist() if is_sentence.all() and (real == comes_first).all() else None
