"""manifest.json of a Keras model's bundle, as types: `kind` is "keras", which a next-word model's manifest has not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edge.bundle.folder import check_folder
from edge.bundle.manifest import (
    MAX_FILES,
    MAX_WEIGHTS,
    SCHEMA,
    Eligibility,
    Entry,
    FileEntry,
    Repeats,
    SignatureEntry,
    WeightEntry,
    check_files,
    read_any_manifest,
)
from edge.bundle.reading import decode_json
from edge.bundle.signing import check_signature
from edge.errors import BundleError

KERAS_KIND = "keras"
_Whole = Annotated[int, Meta(ge=0, le=1 << 24)]


class KerasModelEntry(Entry, frozen=True, kw_only=True):
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


class KerasPlan(Entry, frozen=True):
    """What a device does in a round."""

    epochs: Repeats
    batch_size: Repeats  # examples; the file takes this size and no other
    learning_rate: Annotated[float, Meta(gt=0)]
    max_examples: Repeats = 200  # of a device in a round, drawn at random


class KerasManifest(Entry, frozen=True, kw_only=True):
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


def open_keras_bundle(bundle: Path) -> KerasManifest:
    """Returns the manifest of a bundle that is to be used, after it has checked signature and folder.

    Each file's digest is checked where it is read. Whose signature it is is not checked: see `fedkeys verify`.

    Raises:
      BundleError: read_keras_manifest, check_signature or check_folder refuses it.
    """
    manifest, raw = read_keras_manifest(bundle)
    check_signature(bundle, raw)
    check_folder(bundle, manifest)
    return manifest


def is_keras_bundle(bundle: Path) -> bool:
    """Returns whether a folder says that it is the bundle of a Keras model; what is wrong with it is not looked at."""
    try:
        return read_any_manifest(bundle)[2] == KERAS_KIND
    except BundleError:
        return False


def read_keras_manifest(bundle: Path) -> tuple[KerasManifest, bytes]:
    """Returns the manifest of a Keras model's bundle, and its bytes.

    Raises:
      BundleError: it is damaged, of another schema, beyond its limits, or names a file outside.
    """
    path, raw, kind = read_any_manifest(bundle)
    if kind != KERAS_KIND:
        raise BundleError(f"{bundle} holds no Keras model: this takes a bundle of `fedkeys export --keras`")
    manifest = decode_json(raw, KerasManifest, str(path), "export the model again")
    check_files(path, manifest.files, manifest.model.num_weights + manifest.model.num_frozen)
    return manifest, raw
