"""manifest.json: what a phone bundle says of itself, as types.

The parts are named as in the plan of Google's Federated Compute Platform: a `phase` has a `spec` (what to run) and an
`io_router` (what goes in, and how each tensor that comes out is aggregated).
Source: google-parfait/federated-compute, fcp/protos/plan.proto, ClientOnlyPlan and ClientPhase.
"""

# Over 300 lines, since it is one schema, to be read as a whole.
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Optional, Union

import msgspec
from msgspec import Meta

from edge.bundle.own_entry import OwnEntry
from edge.bundle.reading import check_names, decode_json, read_regular
from edge.errors import BundleError
from edge.export.tflite import Signature
from models.architectures import ARCHITECTURES, CIFG
from models.errors import SegmenterError
from models.own_network import is_own
from models.segmentation import NO_SEGMENTER, SEGMENTERS
from models.tokeniser import TOKENISERS, Tokeniser, tokeniser_of
from models.vocabulary import BOS, EOS, NUM_SPECIAL, PAD, UNK, WordOrigin
from models.weights import ModelSize

SCHEMA = 1
MANIFEST_FILE = "manifest.json"
SPECIAL_IDS = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": UNK}

# Limits of the schema: far beyond what a phone trains, so that a bundle from anybody can't exhaust whoever reads it.
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 64
MAX_WEIGHTS = 1 << 26
_MAX_BYTES_PER_WEIGHT = 16  # all files together; four of them hold each weight, as float32 or int8
_MAX_OTHER_BYTES = 64 << 20
_Bytes = Annotated[int, Meta(ge=0, le=_MAX_BYTES_PER_WEIGHT * MAX_WEIGHTS + _MAX_OTHER_BYTES)]
_Dimension = Annotated[int, Meta(ge=1, le=1 << 24)]
_Positions = Annotated[int, Meta(ge=1, le=1 << 16)]
Repeats = Annotated[int, Meta(ge=1, le=1 << 20)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is in a manifest: an unknown field is an error, as is a missing one."""


class FileEntry(Entry, frozen=True):
    """One file of the bundle."""

    bytes: _Bytes
    sha256: str


class RunEntry(Entry, frozen=True):
    """Where the weights come from."""

    round_num: int
    weights_sha256: str
    config_sha256: str
    corpus_name: str
    corpus_sha256: str
    vocabulary_sha256: str  # of the run's vocabulary; the bundle's holds only the words that the model has rows for


class WeightEntry(Entry, frozen=True):
    """One weight. offset_bytes: where it begins in a file of all weights."""

    name: str
    shape: tuple[int, ...]
    offset_bytes: int


class ModelEntry(Entry, frozen=True):
    """The model's size and how its weights travel."""

    vocabulary_size: Annotated[int, Meta(gt=NUM_SPECIAL, le=1 << 24)]
    embedding_size: _Dimension
    num_cells: _Dimension
    max_words: _Positions  # of a sentence
    weights: tuple[WeightEntry, ...]
    kind: Union[str, msgspec.UnsetType] = msgspec.UNSET  # of the network; unset in bundles of a CIFG-LSTM
    own: Union[OwnEntry, msgspec.UnsetType] = msgspec.UNSET  # of a network of somebody's own
    weights_layout: str = "raw little-endian float32, row-major, one weight after the other in this order, no header"

    @property
    def size(self) -> ModelSize:
        """The same as a ModelSize.

        Raises:
          BundleError: nobody knows the kind of network, or it is described by what can't be.
        """
        kind = CIFG if self.kind is msgspec.UNSET else self.kind
        numbers = (self.vocabulary_size, self.embedding_size, self.num_cells)
        if is_own(kind) and self.own is not msgspec.UNSET:
            shapes = {weight.name: weight.shape for weight in self.weights}
            return ModelSize(*numbers, kind, self.own.row(kind, numbers, shapes))
        if kind not in ARCHITECTURES:
            raise BundleError(f"{MANIFEST_FILE} names the network {kind!r}: use the fedkeys that wrote it")
        return ModelSize(*numbers, kind)


class TrainingPlan(Entry, frozen=True):
    """What a device does in a round."""

    epochs: Repeats
    batch_size: Repeats  # sentences
    learning_rate: Annotated[float, Meta(gt=0)]  # of a round at full rate; the server may send a lower one
    clip_norm: Annotated[float, Meta(ge=0)]  # traced into the train signatures; 0 = none
    max_sentences: Repeats  # of a device in a round, drawn at random
    max_words: _Positions


class TensorflowSpec(Entry, frozen=True):
    """What a phase runs."""

    tflite_graph: str
    signature: str
    stateless_tflite_graph: str


class Aggregation(Entry, frozen=True):
    """How one tensor of the update is aggregated. kind: plain, secure or encrypted."""

    kind: str
    l2_norm_clip_over_all: float  # an update longer than this, over all tensors together, is scaled down to it


class IoRouter(Entry, frozen=True):
    """What goes into a phase and what comes out of it."""

    input: str
    output: str
    aggregations: Mapping[str, Aggregation]


class Phase(Entry, frozen=True):
    """One thing that the server asks of a device."""

    name: str
    spec: TensorflowSpec
    io_router: IoRouter
    plan: TrainingPlan


class Eligibility(Entry, frozen=True):
    """When a device may train. The app that carries the bundle reads and applies it; nothing in fedkeys does.

    Source: Hard et al. 2018, section 4 (idle, charging, unmetered, 2 GB of memory).
    """

    require_idle: bool = True
    require_charging: bool = True
    require_unmetered_network: bool = True
    min_ram_mib: int = 2048
    min_android_api: int = 26
    tested_on_a_phone: bool = False  # the last two are a policy, not a measurement


class TensorEntry(Entry, frozen=True):
    """One input or output of a signature; -1 in a shape is the free batch size."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    unit: str


class SignatureEntry(Entry, frozen=True):
    """One entry point of a file."""

    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]


class Manifest(Entry, frozen=True, kw_only=True):
    """manifest.json."""

    schema: int = SCHEMA
    fedkeys_version: str
    tokeniser: Annotated[int, msgspec.Meta(ge=1, le=max(TOKENISERS))] = 1  # 1 in bundles that do not say it
    segmenter: Union[str, msgspec.UnsetType] = msgspec.UNSET  # who cuts words of scripts without spaces
    run: RunEntry
    model: ModelEntry
    special_ids: Mapping[str, int]
    words: Optional[WordOrigin] = None  # where the bundle's words come from; not in older bundles
    phase: Annotated[tuple[Phase, ...], Meta(min_length=1)]
    eligibility: Eligibility
    minimum_runtimes: Mapping[str, str]  # runtime -> the version that passed parity; empty = unproven
    signatures: Mapping[str, Mapping[str, SignatureEntry]]
    files: Annotated[Mapping[str, FileEntry], Meta(max_length=MAX_FILES)]

    @property
    def text_rules(self) -> Tokeniser:
        """The tokeniser that the bundle's words were made with.

        Raises:
          BundleError: this machine can't cut words so.
        """
        segmenter = NO_SEGMENTER if self.segmenter is msgspec.UNSET else self.segmenter
        if segmenter not in SEGMENTERS:
            raise BundleError(f"{MANIFEST_FILE} names the segmenter {segmenter!r}: use the fedkeys that wrote it")
        try:
            return tokeniser_of(self.tokeniser, segmenter)
        except SegmenterError as error:
            raise BundleError(f"the bundle's text can't be read here: {error}") from None

    @property
    def plan(self) -> TrainingPlan:
        """The plan of the training phase."""
        return self.phase[0].plan


def weight_entries(names_and_shapes: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[WeightEntry, ...]:
    """Returns the weights' places in a file that holds one after the other, in this order.

    >>> weight_entries(ModelSize(5, 2, 3).by_name.items())[1]
    WeightEntry(name='kernel', shape=(4, 9), offset_bytes=40)
    """
    entries, offset = [], 0
    for name, shape in names_and_shapes:
        entries.append(WeightEntry(name=name, shape=shape, offset_bytes=offset))
        offset += 4 * math.prod(shape)  # exact, whatever a manifest says
    return tuple(entries)


def signature_entries(described: Mapping[str, Mapping[str, Signature]]) -> dict[str, dict[str, SignatureEntry]]:
    """Returns what edge.export.tflite.signatures describes as the manifest writes it."""
    return {
        file: {name: signature_entry(signature) for name, signature in by_name.items()}
        for file, by_name in described.items()
    }


def signature_entry(signature: Signature) -> SignatureEntry:
    """Returns a signature as the manifest writes it."""

    def entries(specs: tuple) -> tuple[TensorEntry, ...]:
        return tuple(TensorEntry(name=s.name, dtype=s.dtype, shape=s.shape, unit=s.unit) for s in specs)

    return SignatureEntry(inputs=entries(signature.inputs), outputs=entries(signature.outputs))


def to_json(value: object) -> bytes:
    """Returns a value as indented JSON; the same bytes for the same value."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


class _Header(msgspec.Struct, frozen=True):
    """What is read of a manifest of any schema and kind."""

    schema: Union[int, str, None] = None
    kind: Optional[str] = None  # of what is not a next-word model's


def read_manifest(bundle: Path) -> tuple[Manifest, bytes]:
    """Returns the manifest of a bundle, and its bytes. It checks neither signature nor files; open_bundle does.

    Raises:
      BundleError: there is none, it is damaged, of another schema, beyond the schema's limits, or names a file outside.
    """
    path, raw, kind = read_any_manifest(bundle)
    if kind is not None:
        raise BundleError(f"{bundle} holds a {kind} model, and this takes a next-word model's bundle")
    manifest = decode_json(raw, Manifest, str(path), "export the run again")
    check_files(path, manifest.files, manifest.model.size.num_weights)
    return manifest, raw


def read_any_manifest(bundle: Path) -> tuple[Path, bytes, Optional[str]]:
    """Returns the path and the bytes of a bundle's manifest, and the kind of bundle; None is a next-word model's.

    Raises:
      BundleError: there is none, it is damaged, or of another schema.
    """
    path = Path(bundle) / MANIFEST_FILE
    if not Path(bundle).is_dir():
        advice = "unpack it and name the folder" if Path(bundle).exists() else "write one with `fedkeys export`"
        raise BundleError(f"{bundle} is not a bundle's folder: {advice}")
    if not (path.exists() or path.is_symlink()):
        raise BundleError(f"{bundle} holds no {MANIFEST_FILE}: export the run again")
    raw = read_regular(bundle, MANIFEST_FILE, MAX_MANIFEST_BYTES)
    schema, kind = msgspec.structs.astuple(decode_json(raw, _Header, str(path), "export the run again"))
    if schema != SCHEMA:
        advice = "update fedkeys" if isinstance(schema, int) and schema > SCHEMA else "export the run again"
        raise BundleError(f"{path} has schema {schema!r}, this fedkeys reads {SCHEMA}: {advice}")
    return path, raw, kind


def check_files(path: Path, files: Mapping[str, FileEntry], num_weights: int) -> None:
    """Refuses files outside of the bundle's folder, and more weights or bytes than a phone trains.

    Raises:
      BundleError: which file, or which limit is passed.
    """
    check_names(files, MANIFEST_FILE)
    if num_weights > MAX_WEIGHTS:
        many = f"a model of {num_weights} weights, {MAX_WEIGHTS} are allowed"
        raise BundleError(f"{path} describes {many}: do not use it")
    total = sum(entry.bytes for entry in files.values())
    allowed = _MAX_BYTES_PER_WEIGHT * num_weights + _MAX_OTHER_BYTES
    if total > allowed:
        raise BundleError(
            f"{path} lists {total} bytes, a bundle of {num_weights} weights has {allowed} at most: do not use it"
        )
