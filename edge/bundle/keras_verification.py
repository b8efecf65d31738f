"""Whether a Keras model's bundle is what was exported: signature, digests, ops, certificate, golden batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import numpy as np

from edge.bundle.golden import GOLDEN_BATCHES, GOLDEN_FILES
from edge.bundle.keras_golden import batch_entries, batches_of, check_keras_golden, weight_names
from edge.bundle.keras_manifest import KerasManifest, read_keras_manifest
from edge.bundle.keras_parity import read_keras_certificate
from edge.bundle.manifest import MANIFEST_FILE, weight_entries
from edge.bundle.parity import PARITY_FILE
from edge.bundle.verification import Check, Signer, check_comparison, check_contents, check_signatures
from edge.clients.keras_model import KerasModel
from edge.errors import BundleError
from edge.export.tflite import TRAIN_FILE


def verify_keras_bundle(
    bundle: Path, public_key: Optional[Path] = None, require_signature: bool = False, app: Optional[str] = None
) -> Iterator[Check]:
    """Yields what holds of a Keras model's bundle; arguments and end as edge.bundle.verification.verify_bundle.

    Raises:
      BundleError: what is wrong, and where.
    """
    bundle, signer = Path(bundle), Signer(public_key, require_signature, app)
    manifest, raw = read_keras_manifest(bundle)
    yield Check("manifest", True, f"schema {manifest.schema}, Keras model of {manifest.model.source}")
    key, contents = yield from check_contents(bundle, manifest, raw, signer, (TRAIN_FILE, *GOLDEN_FILES))
    yield Check("model", True, _check_model(manifest, contents))
    yield Check("parity", True, _check_parity(manifest, contents))
    yield Check("golden batch", True, check_keras_golden(manifest, contents))
    yield Check("inference", True, _check_inference(manifest, contents))
    yield from signer.remember(key)


def _check_model(manifest: KerasManifest, contents: Mapping[str, bytes]) -> str:
    batch_entries(manifest)
    check_signatures(manifest.signatures, contents)
    model = manifest.model
    outputs = [(entry.name, entry.shape) for entry in manifest.signatures[TRAIN_FILE]["get_weights"].outputs]
    expected = weight_entries([(entry.name, entry.shape) for entry in model.weights])
    if model.weights != expected or [shape for _, shape in outputs] != [entry.shape for entry in model.weights]:
        raise BundleError(f"{MANIFEST_FILE} describes other weights than {TRAIN_FILE} has: export the model again")
    return f"builtin ops only, {model.num_weights:,} weights train, {model.num_frozen:,} stay, loss {model.loss}"


def _check_parity(manifest: KerasManifest, contents: Mapping[str, bytes]) -> str:
    if PARITY_FILE not in contents:
        return "UNPROVEN: exported with --no-parity"
    certificate = read_keras_certificate(contents[PARITY_FILE])
    check_comparison(certificate, manifest.model.weights_sha256, "TensorFlow")
    failed = ", ".join(f"{rate.learning_rate:g}" for rate in certificate.failed_rates)
    return (
        f"{certificate.steps} steps at rate {certificate.learning_rate:g} within {certificate.max_abs_diff:.1e} of "
        f"{certificate.reference} in {', '.join(certificate.runtimes)}" + (f"; not at {failed}" if failed else "")
    )


def _check_inference(manifest: KerasManifest, contents: Mapping[str, bytes]) -> str:
    """Runs one example of the golden batch."""
    batch = batches_of(manifest, contents[GOLDEN_BATCHES])[0]
    inputs = {name: value[:1] for name, value in batch.items() if name not in ("targets", "mask")}
    try:
        outputs = KerasModel(contents[TRAIN_FILE], weight_names(manifest)).infer(inputs)
    except Exception as error:  # what LiteRT raises depends on where a file is broken
        raise BundleError(
            f"{TRAIN_FILE} can't be run ({' '.join(str(error).split())}): export the model again"
        ) from None
    if not np.isfinite(outputs).all():
        raise BundleError(f"{TRAIN_FILE} gives outputs that are not finite: export the model again")
    return f"an example gives {outputs.size} finite outputs"
