"""Exports a Keras model as a phone bundle, with the certificate that it trains there as TensorFlow does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import msgspec
import numpy as np

from edge.bundle.folder import check_target, file_entries, write_bundle
from edge.bundle.keras_golden import STEPS as GOLDEN_STEPS
from edge.bundle.keras_golden import golden_keras_files
from edge.bundle.keras_manifest import KerasManifest, KerasModelEntry, KerasPlan
from edge.bundle.keras_parity import KerasCertificate, certify_keras
from edge.bundle.manifest import Eligibility, FileEntry, signature_entry, to_json, weight_entries
from edge.bundle.parity import GATE, PARITY_FILE, STEPS
from edge.bundle.signing import check_key
from edge.errors import ExportError
from edge.export.tflite import TRAIN_FILE

if TYPE_CHECKING:
    from edge.export.keras_network import Network


@dataclass(frozen=True)
class KerasOptions:
    """How to export a Keras model.

    Attributes:
      loss: Keras's name of it; None takes what the model was compiled with.
      trainable: shell patterns of the weights that train; none trains what Keras would train.
      lora_rank: of adapters in place of Dense and Embedding weights; 0 = none.
      batch_size: of train and eval, which take no other.
      learning_rate: of the plan.
      max_examples: of the plan: a device draws at most this many in a round.
      weights: raw float32 to begin at, as `fedkeys aggregate --save-weights` writes them; None takes the file's own.
      force: replace a bundle that is there.
      archive: also write the bundle as a .zip.
      parity: prove that the export trains as TensorFlow does; False writes it marked as unproven.
      key: a private key to sign with; None leaves the bundle unsigned.
    """

    loss: Optional[str] = None
    trainable: Sequence[str] = ()
    lora_rank: int = 0
    batch_size: int = 16
    learning_rate: float = 0.01
    max_examples: int = 200
    weights: Optional[Path] = None
    force: bool = False
    archive: bool = False
    parity: bool = True
    key: Optional[Path] = None


class KerasExportFigures(msgspec.Struct, frozen=True):
    """What `fedkeys export --keras` prints; None in place of what an unproven bundle does not know."""

    files: Mapping[str, FileEntry]
    parity_max_abs_diff: Optional[float]
    parity_learning_rate: Optional[float]
    parity_failed_rates: Optional[Sequence[float]]  # tried before
    signed: bool
    num_weights: int  # that train and travel
    num_frozen: int
    loss: str


def export_keras(
    source: Path,
    out: Path,
    options: KerasOptions = KerasOptions(),
    note: Callable[[str], None] = lambda text: None,
) -> KerasExportFigures:
    """Writes the phone bundle of a Keras model, and returns what is in it.

    Args:
      source: a .keras file, an .h5 file or a SavedModel's folder, of TensorFlow 2.14; none of its code runs.
      out: the bundle's folder.
      options: how.
      note: is told what begins.

    Raises:
      EdgeError: see there. Nothing is written then.
    """
    check_target(out, options.force)
    if options.key is not None:
        check_key(options.key)
    note("reading the model")
    from edge.export.keras_network import read_network

    source = Path(source)
    network = read_network(source, options.loss, options.trainable, options.lora_rank, options.batch_size)
    if options.weights is not None:
        from edge.export.keras_weights import with_weights
        from edge.on_device.round import read_weights

        shapes = [weight.start.shape for weight in network.trainable]
        network = with_weights(network, read_weights(options.weights, shapes))
    return export_network(network, source.name, out, options, note)


def export_network(
    network: Network,
    source: str,
    out: Path,
    options: KerasOptions = KerasOptions(),
    note: Callable[[str], None] = lambda text: None,
) -> KerasExportFigures:
    """Writes the phone bundle of a network, and returns what is in it.

    Args:
      network: its weights are where devices begin.
      source: what the model's file is called.
      out, options, note: as export_keras; loss, trainable, lora_rank and weights are the network's.

    Raises:
      EdgeError: see there. Nothing is written then.
    """
    check_target(out, options.force)
    from edge.export.keras_tflite import build_keras_file

    note("converting the model to TFLite")
    content = build_keras_file(network, options.batch_size)
    files = {TRAIN_FILE: content, **_golden(network, options)}
    start = [weight.start for weight in network.trainable]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(w, "<f4").tobytes() for w in start)).hexdigest()
    certificate = None
    if options.parity:
        note(f"training {STEPS} steps in TensorFlow and in the exported file")
        certificate = _certify(network, content, digest, options.batch_size)
        files[PARITY_FILE] = to_json(certificate)
    manifest = _manifest(source, network, digest, certificate, options, files)
    write_bundle(out, files, manifest, options.key, options.force, options.archive)
    return KerasExportFigures(
        files=manifest.files,
        parity_max_abs_diff=certificate.max_abs_diff if certificate else None,
        parity_learning_rate=certificate.learning_rate if certificate else None,
        parity_failed_rates=[failed.learning_rate for failed in certificate.failed_rates] if certificate else None,
        signed=options.key is not None,
        num_weights=manifest.model.num_weights,
        num_frozen=manifest.model.num_frozen,
        loss=manifest.model.loss,
    )


def _golden(network: Network, options: KerasOptions) -> dict[str, bytes]:
    from edge.export.keras_reference import made_up_batches, train_in_tensorflow

    batches = made_up_batches(network, options.batch_size, GOLDEN_STEPS, seed=1)
    rate = min(options.learning_rate, 0.01)
    weights, losses = train_in_tensorflow(network, batches, rate)
    return golden_keras_files(batches, weights, losses, rate)


def _certify(network: Network, content: bytes, digest: str, batch_size: int) -> KerasCertificate:
    """Returns the certificate.

    Raises:
      ExportError: the file trains otherwise than TensorFlow does.
    """
    import tensorflow as tf

    from edge.export.keras_reference import made_up_batches, train_in_tensorflow

    batches = made_up_batches(network, batch_size, STEPS)
    certificate = certify_keras(
        content,
        [weight.tensor for weight in network.trainable],
        [weight.start for weight in network.trainable],
        digest,
        batches,
        lambda rate, reverse: train_in_tensorflow(network, batches, rate, reverse),
        f"TensorFlow {tf.__version__}, Keras's own layers",
    )
    if not certificate.passed:
        raise ExportError(
            f"after {certificate.steps} steps at rate {certificate.learning_rate:g} the exported file is "
            f"{certificate.max_abs_diff:.1e} off TensorFlow's, whose weights moved by {certificate.moved:.1e}; "
            f"{GATE:.0e} is allowed, and larger rates failed, too: nothing was written; --no-parity writes it as "
            "unproven"
        )
    return certificate


def _manifest(
    source: str,
    network: Network,
    digest: str,
    certificate: Optional[KerasCertificate],
    options: KerasOptions,
    files: Mapping[str, bytes],
) -> KerasManifest:
    from edge.export.keras_tflite import keras_signatures

    signatures = keras_signatures(network, options.batch_size)
    return KerasManifest(
        fedkeys_version=metadata.version("fedkeys"),
        model=KerasModelEntry(
            source=source,
            weights_sha256=digest,
            loss=network.loss.name,
            num_classes=network.loss.num_classes,
            layers={layer.name: type(layer).__name__ for layer in network.model.layers},
            num_frozen=sum(variable.shape.num_elements() for variable in network.frozen),
            lora_rank=options.lora_rank,
            weights=weight_entries([(weight.name, weight.start.shape) for weight in network.trainable]),
        ),
        plan=KerasPlan(1, options.batch_size, options.learning_rate, options.max_examples),
        eligibility=Eligibility(),
        minimum_runtimes={name: r.version for name, r in certificate.runtimes.items()} if certificate else {},
        signatures={TRAIN_FILE: {name: signature_entry(own) for name, own in signatures.items()}},
        files=file_entries(files),
    )
