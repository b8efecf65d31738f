"""A client's result is one vector: the encoder takes its tensors as they lie, and others as well."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.weights import flatten
from orchestrator.encoding import Encoder, l2_norm

SHAPES = ((3, 4), (5,), ())


def _pieces_of(whole):
    """Views of a vector, one behind the other; the vector goes on behind them, as a client's result does."""
    ends = np.cumsum([math.prod(shape) for shape in SHAPES])
    return tuple(piece.reshape(shape) for piece, shape in zip(np.split(whole, ends), SHAPES))


def test_pieces_of_one_vector_are_encoded_as_they_lie_and_as_others_are():
    whole = np.float32(np.random.default_rng(5).standard_normal(18 + 4))
    whole.flags.writeable = False
    pieces = _pieces_of(whole)
    assert np.shares_memory(flatten(pieces), whole)
    copies = tuple(piece.copy() for piece in pieces)
    encoder = Encoder(clip_norm=2.0, num_clients=7, max_weight=100.0, shapes=SHAPES)
    norm = l2_norm(copies)
    expected = encoder.encode(copies, 7.0, np.random.default_rng(6))
    for delta in (pieces, copies):
        for known in (None, norm):
            found = encoder.encode(delta, 7.0, np.random.default_rng(6), known)
            assert np.array_equal(found, expected)
    assert np.array_equal(np.concatenate([piece.ravel() for piece in copies]), whole[:18])


@pytest.mark.parametrize("how", ["other order", "strided", "of two vectors", "with a gap", "of another type"])
def test_pieces_that_do_not_lie_behind_one_another_are_copied(how):
    whole = np.arange(40, dtype=np.float32)
    tensors = {
        "other order": lambda: (whole[4:8], whole[0:4]),
        "strided": lambda: (whole[0:8:2], whole[8:12]),
        "of two vectors": lambda: (whole[0:4], whole.copy()[4:8]),
        "with a gap": lambda: (whole[0:4], whole[5:9]),
        "of another type": lambda: (whole[0:4], whole[4:8].view(np.int32)),
    }[how]()
    assert np.array_equal(flatten(tensors), np.concatenate([np.float32(part) for part in tensors]))
