"""The files that pass between server and device: what is written is read back, and what is damaged is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from edge.clients import files as device_files
from edge.errors import DeviceDataError
from models.batches import Batches, build_batches
from models.weights import ModelSize

SIZE = ModelSize(vocabulary_size=11, embedding_size=2, num_cells=3)
TIME = 4


@pytest.fixture
def batches() -> Batches:
    rng = np.random.default_rng(0)
    return build_batches([rng.integers(4, 11, n) for n in (1, 2, 3, 4, 6)], batch_size=2, time=TIME)


@pytest.fixture
def weights():
    rng = np.random.default_rng(1)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in SIZE.shapes)


def result_of(weights, **changes):
    delta = tuple(np.full_like(w, 0.25) for w in weights)
    return {"delta": delta, "loss_sum": 12.5, "num_tokens": 7, "num_examples": 3, **changes}


def test_batches_are_read_back(batches):
    raw = device_files.batches_to_bytes(batches, 11)
    for mine, theirs in zip(device_files.batches_from_bytes(raw, 11, TIME, "file"), batches):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype


def with_int(raw: bytes, place: int, value: int) -> bytes:
    return raw[:place] + struct.pack("<i", value) + raw[place + 4 :]


FIRST_TOKEN, FIRST_TARGET, FIRST_MASK = 24, 24 + 4 * 2 * TIME, 24 + 8 * 2 * TIME


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"FKBATCH2" + raw[8:], "must begin with FKBATCH1"),
        (lambda raw: raw[:20], "must begin with FKBATCH1"),
        (lambda raw: raw[:-1], "is cut off"),
        (lambda raw: raw + b"\0", "goes on after its last batch"),
        (lambda raw: with_int(raw, 8, 0), "0 batches of 2"),
        (lambda raw: with_int(raw, 8, -3), "-3 batches of 2"),
        (lambda raw: with_int(raw, 8, 2**31 - 1), "is cut off"),
        (lambda raw: with_int(raw, 16, TIME + 1), "5 positions and 11 words, the model has 4 and 11"),
        (lambda raw: with_int(raw, 20, 12), "4 positions and 12 words"),
        (lambda raw: with_int(raw, FIRST_TOKEN, 11), "token id 11: ids go from 0 to 10"),
        (lambda raw: with_int(raw, FIRST_TARGET, -1), "target id -1"),
        (lambda raw: raw[:FIRST_MASK] + struct.pack("<f", 0.5) + raw[FIRST_MASK + 4 :], "neither 0 nor 1"),
        (lambda raw: raw[:FIRST_MASK] + struct.pack("<f", np.nan) + raw[FIRST_MASK + 4 :], "neither 0 nor 1"),
        (lambda raw: raw[:FIRST_MASK] + struct.pack("<f", 0.0) + raw[FIRST_MASK + 4 :], "a 1 after a 0"),
    ],
)
def test_damaged_batches_are_refused(batches, damage, message):
    with pytest.raises(DeviceDataError, match=message) as refusal:
        device_files.batches_from_bytes(damage(device_files.batches_to_bytes(batches, 11)), 11, TIME, "some file")
    assert "some file" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_told(weights, tmp_path):
    with pytest.raises(DeviceDataError, match="No such file"):
        device_files.read_update(tmp_path / "nothing", weights)


def test_an_update_is_read_back(weights, tmp_path):
    path = tmp_path / "update"
    device_files.write_update(path, result_of(weights), weights)
    got = device_files.read_update(path, weights)
    assert list(got) == ["delta", "loss_sum", "num_tokens", "num_examples", "is_finite"]
    assert (got["loss_sum"], got["num_tokens"], got["num_examples"], got["is_finite"]) == (12.5, 7, 3, True)
    for delta, weight in zip(got["delta"], weights):
        np.testing.assert_array_equal(delta, np.full_like(weight, 0.25))


def test_an_update_that_is_not_finite_says_so(weights, tmp_path):
    path = tmp_path / "update"
    delta = tuple(np.full_like(w, np.nan) for w in weights)
    device_files.write_update(path, result_of(weights, delta=delta), weights)
    assert device_files.read_update(path, weights)["is_finite"] is False


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"FKBATCH1" + raw[8:], "must begin with FKUPDAT1"),
        (lambda raw: raw[:31], "must begin with FKUPDAT1"),
        (lambda raw: raw[:-4], "bytes instead of"),
        (lambda raw: raw + b"1234", "bytes instead of"),
        (lambda raw: with_int(raw, 12, 5), "update of 5 weights"),
        (lambda raw: with_int(raw, 16, -1), "-1 examples"),
        (lambda raw: with_int(raw, 8, 1), "began at other weights"),
    ],
)
def test_damaged_updates_are_refused(weights, tmp_path, damage, message):
    path = tmp_path / "update"
    path.write_bytes(damage(device_files.update_to_bytes(result_of(weights), weights)))
    with pytest.raises(DeviceDataError, match=message):
        device_files.read_update(path, weights)


def test_an_update_of_other_weights_is_refused(weights, tmp_path):
    path = tmp_path / "update"
    device_files.write_update(path, result_of(weights), weights)
    others = (weights[0] + 1e-6, *weights[1:])
    with pytest.raises(DeviceDataError, match="began at other weights"):
        device_files.read_update(path, others)
