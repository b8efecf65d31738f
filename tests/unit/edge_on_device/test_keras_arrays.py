"""A person's .npz file that is damaged or hostile is told in one line."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.keras_examples import ExampleSpec
from edge.errors import DeviceDataError
from edge.on_device.keras_round import read_arrays

SPEC = ExampleSpec((), 0)


def npz(content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("y.npy", content)
    return bytearray(buffer.getvalue())


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def inverted(raw: bytearray, first: int, last: int) -> bytearray:
    for place in range(first, last):
        raw[place] ^= 0xFF
    return raw


def encrypted() -> bytearray:
    raw = npz(header("(1,)") + b"0000", zipfile.ZIP_STORED)
    raw[6] |= 1
    raw[raw.rfind(b"PK\x01\x02") + 8] |= 1
    return raw


def too_large() -> bytearray:
    raw = npz(header("(1,)") + b"0000")
    place = raw.rfind(b"PK\x01\x02") + 24
    raw[place : place + 4] = (2**32 - 2).to_bytes(4, "little")
    return raw


@pytest.mark.parametrize(
    "raw",
    [
        inverted(npz(header("(9000,)") + np.random.default_rng(0).bytes(36000)), 60, 120),
        inverted(npz(header("(9000,)") + np.random.default_rng(0).bytes(36000), zipfile.ZIP_LZMA), 60, 90),
        npz(header("(10**15,)")),
        npz(header("(1000000000000,)")),
        npz(header("(-5,)") + bytes(64)),
        npz(b"\x93NUMPY\x01\x00\x0a\x00((((((((\n\n"),
        npz(b"hello"),
        encrypted(),
        too_large(),
    ],
    ids=[
        "deflate",
        "lzma",
        "no number",
        "huge",
        "negative",
        "open brackets",
        "no array",
        "encrypted",
        "size that lies",
    ],
)
def test_it_is_refused_in_one_line(tmp_path: Path, raw: bytearray) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(raw)
    with pytest.raises(DeviceDataError, match=r"^.*own.npz is damaged or holds no plain arrays") as refused:
        read_arrays(path, SPEC)
    assert os.linesep not in str(refused.value)
