"""Files that devices wrote: each is read once, so that what is recorded is what is summed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from edge.clients.files import update_to_bytes, write_update
from edge.errors import DeviceDataError
from models.weights import ModelSize
from orchestrator.run.devices import read_device_updates

SIZE = ModelSize(6, 2, 3)
WEIGHTS = tuple(np.zeros(shape, np.float32) for shape in SIZE.shapes)


def content(value):
    """An update of all weights by `value`."""
    delta = tuple(np.full(shape, value, np.float32) for shape in SIZE.shapes)
    return update_to_bytes({"delta": delta, "num_examples": 3, "num_tokens": 9, "loss_sum": 2.5}, WEIGHTS)


class Changing(type(Path())):
    """A file that holds another update as soon as it was read."""

    def read_bytes(self):
        read = super().read_bytes()
        self.write_bytes(content(2.0))
        return read


def test_a_file_that_changes_after_it_was_read_is_named_by_what_is_summed(tmp_path):
    path = Changing(tmp_path / "update")
    path.write_bytes(content(1.0))
    (update,) = read_device_updates([path], WEIGHTS)
    assert (tmp_path / "update").read_bytes() == content(2.0)  # it did change
    assert update.client_id == f"device-{hashlib.sha256(content(1.0)).hexdigest()[:16]}"
    assert all((part == 1.0).all() for part in update.result["delta"])


def test_the_order_of_updates_follows_from_their_content(tmp_path):
    paths = [tmp_path / str(number) for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(content(float(number)))
    updates = read_device_updates(paths, WEIGHTS)
    assert [u.client_id for u in updates] == sorted(u.client_id for u in updates)
    assert [u.client_id for u in read_device_updates(paths[::-1], WEIGHTS)] == [u.client_id for u in updates]


def test_what_is_no_update_of_this_round_is_refused(tmp_path):
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        path.write_bytes(content(1.0))
    with pytest.raises(DeviceDataError, match=r"two holds the same update as .*one"):
        read_device_updates(paths, WEIGHTS)
    with pytest.raises(DeviceDataError, match="began at other weights"):
        read_device_updates(paths[:1], tuple(w + 1 for w in WEIGHTS))
    lost = {"delta": WEIGHTS, "num_examples": 3, "num_tokens": 9, "loss_sum": float("nan")}
    paths[1].write_bytes(update_to_bytes(lost, WEIGHTS))
    with pytest.raises(DeviceDataError, match="two claims a loss of nan"):
        read_device_updates(paths[1:], WEIGHTS)
    with pytest.raises(DeviceDataError, match="zero is no file of an update"):  # whose end is never read
        read_device_updates([Path("/dev/zero")], WEIGHTS)
    paths[1].write_bytes(b"")
    os.truncate(paths[1], 1 << 40)  # takes no room on the disk, and more memory than there is
    with pytest.raises(DeviceDataError, match="two is no file of an update: it has at most"):
        read_device_updates(paths[1:], WEIGHTS)
    with pytest.raises(DeviceDataError, match="three: can't be read"):
        read_device_updates([tmp_path / "three"], WEIGHTS)


def test_two_devices_that_typed_the_same_are_two_and_a_copied_file_is_one(tmp_path):
    delta = tuple(np.ones(shape, np.float32) for shape in SIZE.shapes)
    result = {"delta": delta, "num_examples": 3, "num_tokens": 9, "loss_sum": 2.5}
    paths = [tmp_path / name for name in ("one", "two", "copy")]
    for path in paths[:2]:
        write_update(path, result, WEIGHTS)
    first, second = read_device_updates(paths[:2], WEIGHTS)
    assert first.client_id != second.client_id
    assert all(map(np.array_equal, first.result["delta"], second.result["delta"]))
    paths[2].write_bytes(paths[0].read_bytes())
    with pytest.raises(DeviceDataError, match=r"copy holds the same update as .*one"):
        read_device_updates(paths, WEIGHTS)
