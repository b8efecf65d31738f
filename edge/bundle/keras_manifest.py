"""manifest.json of a Keras model's bundle, as types: `kind` is "keras", which a next-word model's manifest has not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Optional, Union

import msgspec
from msgspec import Meta

from edge.bundle.manifest import (
    MANIFEST_FILE,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    MAX_WEIGHTS,
    SCHEMA,
    Eligibility,
    FileEntry,
    SignatureEntry,
    WeightEntry,
    check_names,
)
from edge.bundle.reading import decode_json, read_regular
from edge.errors import BundleError

KERAS_KIND = "keras"
_Whole = Annotated[int, Meta(ge=0, le=1 << 24)]
_Repeats = Annotated[int, Meta(ge=1, le=1 << 20)]
_MAX_OTHER_BYTES = 64 << 20
_MAX_BYTES_PER_WEIGHT = 16


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is in a manifest: an unknown field is an error, as is a missing one."""


class KerasModelEntry(_Struct, frozen=True, kw_only=True):
    """The model, and how its weights travel."""

    source: str  # the file's name
    weights_sha256: str  # of the weights that train, as they travel
    loss: str
    num_classes: _Whole  # 0 = a regressor, 1 = two classes in one output
    layers: Mapping[str, str]  # name -> Keras's class
    num_frozen: Annotated[int, Meta(ge=0, le=MAX_WEIGHTS)]  # values that stay, and don't travel
    lora_rank: _Whole  # 0 = no adapters
    weights: Annotated[tuple[WeightEntry, ...], Meta(min_length=1)]
    weights_layout: str = "raw little-endian float32, row-major, one weight after the other in this order, no header"
    mode: str = "inference: Dropout drops nothing, BatchNormalization keeps its moving averages"

    @property
    def num_weights(self) -> int:
        """Values that train and travel."""
        return sum(math.prod(weight.shape) for weight in self.weights)


class KerasPlan(_Struct, frozen=True):
    """What a device does in a round."""

    epochs: _Repeats
    batch_size: _Repeats  # examples; the file takes this size and no other
    learning_rate: Annotated[float, Meta(gt=0)]


class KerasManifest(_Struct, frozen=True, kw_only=True):
    """manifest.json."""

    schema: int = SCHEMA
    kind: Literal["keras"] = "keras"
    fedkeys_version: str
    model: KerasModelEntry
    plan: KerasPlan
    eligibility: Eligibility
    minimum_runtimes: Mapping[str, str]  # runtime -> the version that passed parity; empty = unproven
    signatures: Mapping[str, Mapping[str, SignatureEntry]]
    files: Annotated[Mapping[str, FileEntry], Meta(max_length=MAX_FILES)]


class _Kind(msgspec.Struct, frozen=True):
    """What is read of a manifest of any kind."""

    kind: Optional[str] = None
    schema: Union[int, str, None] = None


def is_keras_bundle(bundle: Path) -> bool:
    """Returns whether a folder says that it is the bundle of a Keras model; what is wrong with it is not looked at."""
    path = Path(bundle) / MANIFEST_FILE
    if not path.is_file() or path.is_symlink() or path.stat().st_size > MAX_MANIFEST_BYTES:
        return False
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kind).kind == KERAS_KIND
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError):
        return False


def read_keras_manifest(bundle: Path) -> tuple[KerasManifest, bytes]:
    """Returns the manifest of a Keras model's bundle, and its bytes.

    Raises:
      BundleError: it is damaged, of another schema, beyond its limits, or names a file outside.
    """
    path = Path(bundle) / MANIFEST_FILE
    raw = read_regular(bundle, MANIFEST_FILE, MAX_MANIFEST_BYTES)
    schema = decode_json(raw, _Kind, str(path), "export the model again").schema
    if schema != SCHEMA:
        raise BundleError(f"{path} has schema {schema!r}, this fedkeys reads {SCHEMA}: update fedkeys or export again")
    manifest = decode_json(raw, KerasManifest, str(path), "export the model again")
    check_names(manifest.files)
    num_weights = manifest.model.num_weights + manifest.model.num_frozen
    total = sum(entry.bytes for entry in manifest.files.values())
    if num_weights > MAX_WEIGHTS or total > _MAX_BYTES_PER_WEIGHT * num_weights + _MAX_OTHER_BYTES:
        raise BundleError(f"{path} describes {num_weights} weights in {total} bytes, too many: do not use it")
    return manifest, raw


def keras_weight_entries(names_and_shapes: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[WeightEntry, ...]:
    """Returns the places of weights in a file that holds one after the other.

    >>> keras_weight_entries([("a", (2, 3)), ("b", (4,))])[1].offset_bytes
    24
    """
    entries, offset = [], 0
    for name, shape in names_and_shapes:
        entries.append(WeightEntry(name=name, shape=tuple(shape), offset_bytes=offset))
        offset += 4 * math.prod(shape)
    return tuple(entries)
