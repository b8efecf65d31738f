"""What the page for browsers measured on a device and a person saved: the files of *Speed*, as types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Optional

import msgspec
from msgspec import Meta

from edge.bundle.reading import decode_json, read_regular
from edge.errors import BundleError, DeviceDataError

MAX_BYTES = 1 << 16  # of a file; the page writes 2 kB
_ADVICE = "save it on the phone again, or remove it"
_Ms = Annotated[float, Meta(ge=0, le=1e8)]
_Count = Annotated[int, Meta(ge=0, le=1 << 31)]
_Name = Annotated[str, Meta(max_length=100)]


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Wall-clock milliseconds, quantiles of n runs by nearest rank."""

    p50: _Ms
    p90: _Ms
    p99: _Ms
    n: _Count


class TrainStepTimes(Times, frozen=True, kw_only=True):
    """Train steps on a number of sentences; the batch has `rows` rows, and those that are left over are empty."""

    sentences: _Count
    rows: _Count


class KeyStrokeTimes(Times, frozen=True, kw_only=True):
    """Key strokes with one file of the bundle."""

    model: _Name


class LoadTimes(msgspec.Struct, frozen=True):
    """Milliseconds to load LiteRT and each of the files."""

    library: _Ms
    infer: _Ms
    train: _Ms


class Device(msgspec.Struct, frozen=True):
    """What a browser says of its device; empty or None where it says nothing."""

    user_agent: Annotated[str, Meta(max_length=1000)]
    model: _Name
    platform: _Name
    architecture: _Name
    processors: Optional[_Count] = None
    memory_gib: Optional[Annotated[float, Meta(ge=0, le=1e6)]] = None


class PhoneFigures(msgspec.Struct, frozen=True):
    """A file that the page saved. Nothing in it is proved: whoever sends it can write what they like."""

    format: Literal["fedkeys web benchmark 1"]
    runtime: _Name
    manifest_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}\\Z")]
    weights: _Count
    device: Device
    train_step_ms: Annotated[Sequence[TrainStepTimes], Meta(max_length=16)]
    key_stroke_ms: Annotated[Sequence[KeyStrokeTimes], Meta(max_length=16)]
    load_ms: LoadTimes


def read_phone_figures(path: Path) -> PhoneFigures:
    """Returns what a file of *Speed* holds.

    Raises:
      DeviceDataError: it can't be read, is no regular file, is larger than MAX_BYTES, or a field is missing or wrong.
    """
    try:
        content = read_regular(path.parent, path.name, MAX_BYTES, _ADVICE)
        return decode_json(content, PhoneFigures, str(path), _ADVICE)
    except BundleError as error:
        raise DeviceDataError(str(error)) from None
