"""The golden batch of a Keras model's bundle: made-up batches, and what three steps on them must give.

golden/batches.bin holds, for each step, the inputs of the train signature in the manifest's order, all but
learning_rate, as raw little-endian values without headers. The other two files are as edge.bundle.golden describes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge.bundle.golden import (
    GOLDEN_BATCHES,
    GOLDEN_EXPECTED,
    GOLDEN_WEIGHTS,
    expected_bytes,
    parse_expected,
    within_tolerance,
)
from edge.bundle.keras_manifest import KerasManifest
from edge.bundle.manifest import TensorEntry
from edge.clients.keras_model import KerasModel
from edge.errors import BundleError
from edge.export.tflite import TRAIN_FILE

STEPS = 3
_DTYPES = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4")}


def golden_keras_files(
    batches: Sequence[Mapping[str, np.ndarray]],
    weights: Sequence[np.ndarray],
    losses: Sequence[float],
    learning_rate: float,
) -> dict[str, bytes]:
    """Returns the golden batch's files.

    Args:
      batches: by the names of the train signature, in the manifest's order.
      weights: that train, after all steps in TensorFlow.
      losses: of each step there.
      learning_rate: of the steps.
    """
    return {
        GOLDEN_BATCHES: b"".join(_raw(array) for batch in batches for array in batch.values()),
        GOLDEN_WEIGHTS: b"".join(_raw(weight) for weight in weights),
        GOLDEN_EXPECTED: expected_bytes(learning_rate, losses),
    }


def _raw(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, _DTYPES[array.dtype.name]).tobytes()


def batches_of(manifest: KerasManifest, content: bytes) -> list[dict[str, np.ndarray]]:
    """Returns the batches in golden/batches.bin.

    Raises:
      BundleError: it does not hold whole batches.
    """
    entries = batch_entries(manifest)
    size = sum(4 * math.prod(entry.shape) for entry in entries)
    if not content or len(content) % size:
        raise BundleError(f"{GOLDEN_BATCHES} has {len(content)} bytes, a batch has {size}: export the model again")
    batches, at = [], 0
    while at < len(content):
        batch = {}
        for entry in entries:
            count = math.prod(entry.shape)
            batch[entry.name] = np.frombuffer(content, _DTYPES[entry.dtype], count, at).reshape(entry.shape)
            at += 4 * count
        batches.append(batch)
    return batches


def batch_entries(manifest: KerasManifest) -> list[TensorEntry]:
    """Returns the inputs of the train signature, all but learning_rate.

    Raises:
      BundleError: the manifest describes no such signature.
    """
    train = manifest.signatures.get(TRAIN_FILE, {}).get("train")
    entries = [entry for entry in train.inputs if entry.name != "learning_rate"] if train is not None else []
    if not entries or any(entry.dtype not in _DTYPES or min(entry.shape, default=1) < 1 for entry in entries):
        raise BundleError("manifest.json describes no train signature of fixed shapes: export the model again")
    return entries


def check_keras_golden(manifest: KerasManifest, contents: Mapping[str, bytes]) -> str:
    """Trains on the golden batch in LiteRT, and returns how far the result is off.

    Raises:
      BundleError: it came to something else than TensorFlow's result.
    """
    expected = parse_expected(contents[GOLDEN_EXPECTED])
    batches = batches_of(manifest, contents[GOLDEN_BATCHES])
    if len(expected["loss"]) != len(batches):
        raise BundleError(f"{GOLDEN_EXPECTED} does not fit {GOLDEN_BATCHES}: export the model again")
    after = np.frombuffer(contents[GOLDEN_WEIGHTS], "<f4")
    if len(contents[GOLDEN_WEIGHTS]) != 4 * manifest.model.num_weights:
        raise BundleError(f"{GOLDEN_WEIGHTS} has {len(contents[GOLDEN_WEIGHTS])} bytes, not those of the weights")
    try:
        model = KerasModel(contents[TRAIN_FILE], weight_names(manifest))
        losses = [model.train_step(batch, expected["learning_rate"][0]) for batch in batches]
        mine = np.concatenate([weight.ravel() for weight in model.get_weights()])
    except Exception as error:  # what LiteRT raises depends on where a file is broken
        raise BundleError(
            f"{TRAIN_FILE} can't be run ({' '.join(str(error).split())}): export the model again"
        ) from None
    return within_tolerance(float(np.max(np.abs(mine - after))), losses, expected)


def weight_names(manifest: KerasManifest) -> list[str]:
    """Returns the names of the weights that train in the signatures, in the order in which they travel."""
    return [entry.name for entry in manifest.signatures[TRAIN_FILE]["get_weights"].outputs]
