"""A batch goes into the smallest shape that holds it, by the rule that all clients have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edge
from edge.bundle.golden import golden_batches
from edge.clients.packing import Batch, cut_to_fit, packed, places, smallest
from edge.export.shapes import TrainShape, shape_of, train_shapes
from models.batches import Batches, build_batches
from models.weights import ModelSize

SIZE = ModelSize(vocabulary_size=60, embedding_size=8, num_cells=12)
SHAPES = train_shapes(SIZE, time=20, batch_size=16)
VECTORS = json.loads((Path(edge.__file__).parent / "conformance" / "packing.json").read_text("utf-8"))


def one_batch(*sentences, rows: int, time: int) -> Batch:
    batches = build_batches([np.array(words, int) for words in sentences], batch_size=rows, time=time)
    return Batch(*(part[0] for part in batches))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_the_vectors_leave_no_sentence_out_and_let_none_overlap(case):
    if case["signature"] is None:
        assert sum(case["lengths"]) > max(shape.positions for shape in SHAPES)
        return
    shape = shape_of(case["signature"])
    taken = np.zeros(shape, int)
    for sentence, row, position in case["places"]:
        assert position + case["lengths"][sentence] <= shape.time
        taken[row, position : position + case["lengths"][sentence]] += 1
    assert taken.max(initial=0) <= 1
    assert taken.sum() == sum(case["lengths"])


def test_sentences_that_share_a_row_stand_one_after_the_other():
    shape, batch = packed(one_batch([7], [], [4, 5, 6, 8], rows=4, time=4), [TrainShape(2, 4)])
    assert shape == (2, 4)
    assert batch.tokens.tolist() == [[1, 4, 5, 6], [1, 7, 1, 0]]
    assert batch.targets.tolist() == [[4, 5, 6, 8], [7, 2, 2, 0]]
    assert batch.mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert [part.dtype for part in batch] == [np.int32, np.int32, np.float32]


def test_what_is_no_sentence_or_saves_nothing_is_trained_as_it_is():
    batch = one_batch([7, 8], rows=1, time=4)
    assert packed(batch, [TrainShape(1, 3)])[0] == (1, 3)
    assert packed(batch, [TrainShape(1, 4)]) is None
    assert packed(batch, []) is None
    for tokens in ([[5, 7, 8, 0]], [[1, 1, 8, 0]]):  # begins at no <bos>, or two sentences
        assert packed(batch._replace(tokens=np.array(tokens)), [TrainShape(1, 3)]) is None
    assert packed(batch._replace(mask=np.array([[1.0, 0.0, 1.0, 0.0]])), [TrainShape(1, 3)]) is None


@pytest.mark.parametrize(("batch_size", "time"), [(16, 20), (4, 6), (1, 1), (2, 3), (50, 7)])
def test_each_shape_has_a_golden_batch_that_no_smaller_one_holds(batch_size, time):
    shapes = train_shapes(SIZE, time, batch_size)
    assert shapes
    batches = golden_batches(60, time, shapes=shapes)
    assert len(batches.tokens) == 3 + len(shapes)
    for shape, tokens, mask in zip(shapes, batches.tokens[3:], batches.mask[3:]):
        lengths = mask.sum(1).astype(int).tolist()
        assert sum(lengths) == shape.positions
        assert smallest(lengths, shapes)[0] == shape
        assert (tokens < 60).all()


def test_without_shapes_the_golden_batches_are_those_of_before():
    assert golden_batches(60, 6).tokens.shape == (3, 4, 6)
    longer = golden_batches(60, 6, shapes=train_shapes(SIZE, 6, 4))
    for mine, theirs in zip(golden_batches(60, 6), longer):
        np.testing.assert_array_equal(mine, theirs[:3])


def test_a_comparison_cuts_batches_so_that_each_shape_trains():
    rng = np.random.default_rng(0)
    sentences = [rng.integers(4, 60, rng.integers(0, 24)) for _ in range(16 * 16)]
    whole = build_batches(sentences, batch_size=16, time=20)
    before = Batches(*(part.copy() for part in whole))
    cut = cut_to_fit(whole, SHAPES)
    for mine, theirs in zip(whole, before):
        np.testing.assert_array_equal(mine, theirs)  # the argument is left as it is
    chosen = []
    for step, batch in enumerate(zip(*cut)):
        lengths = batch[2].sum(1).astype(int).tolist()
        assert sum(lengths) > 0
        if step % (1 + len(SHAPES)):
            assert places(lengths, SHAPES[step % (1 + len(SHAPES)) - 1]) is not None
        else:
            np.testing.assert_array_equal(batch[0], whole.tokens[step])
        chosen.append(smallest(lengths, SHAPES))
    assert {found[0] for found in chosen if found} == set(SHAPES)
    assert (cut.tokens[cut.mask == 0] == 0).all()
    assert cut_to_fit(whole, ())[0].tolist() == whole.tokens.tolist()
