"""A bundle says what a network of somebody's own is, without its code; what can't be is refused."""

from __future__ import annotations

import msgspec
import pytest

from edge.bundle.manifest import ModelEntry, signature_entries, weight_entries
from edge.bundle.own_entry import OwnEntry
from edge.errors import BundleError
from edge.export.tflite import signatures
from models.own_network import LENGTH, PREFIX

KIND = "mine.py:build@" + 64 * "0"
SHAPES = {"table": (9, 4), "output": (4, 9), "bias": (9,)}
OWN = OwnEntry(state={PREFIX: (1, 6), LENGTH: (1,)}, embedding="table", output_bias="bias")


def entry(**change):
    fields = {"weights": weight_entries(SHAPES.items()), "kind": KIND, "own": OWN, **change}
    return ModelEntry(vocabulary_size=9, embedding_size=4, num_cells=3, max_words=6, **fields)


def test_the_size_of_a_bundle_needs_no_code():
    size = entry().size
    assert size.by_name == SHAPES
    assert size.num_weights == 81
    assert size.state == {PREFIX: (1, 6), LENGTH: (1,)}
    assert size.role("output_bias") == "bias"
    written = msgspec.json.encode(entry())
    assert msgspec.json.decode(written, type=ModelEntry).size.by_name == SHAPES


def test_its_signatures_take_one_batch_size():
    train = signature_entries(signatures(entry().size, time=6, batch_size=5))["train.tflite"]["train"]
    assert {tensor.name: tensor.shape for tensor in train.inputs} == {
        "tokens": (5, 6),
        "targets": (5, 6),
        "mask": (5, 6),
        "learning_rate": (),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"own": msgspec.structs.replace(OWN, embedding="nothing")},
        {"own": msgspec.structs.replace(OWN, state={"all": (1 << 14, 1 << 14)})},
        {"weights": weight_entries({"table": (0, 4)}.items()), "own": OwnEntry(state={})},
        {"weights": weight_entries({"table": (-9, -4)}.items()), "own": OwnEntry(state={})},
    ],
)
def test_what_can_not_be_is_refused(change):
    with pytest.raises(BundleError, match="describes weights or a state that can't be"):
        _ = entry(**change).size


def test_a_kind_without_a_description_is_refused():
    with pytest.raises(BundleError, match="names the network"):
        _ = entry(own=msgspec.UNSET).size
