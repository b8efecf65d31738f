"""A bundle whose models are stand-ins: what is checked of it comes before anything is loaded."""

from __future__ import annotations

import pytest
from small_manifest import small_manifest

from edge.bundle.manifest import Aggregation, Manifest, RunEntry
from edge.bundle.verification import verify_bundle
from edge.errors import BundleError
from models.weights import ModelSize

FILES = {
    "train.tflite": b"train" * 100,
    "train_stateless.tflite": b"stateless" * 100,
    "infer.tflite": b"infer" * 100,
    "vocabulary.txt": b"words\n",
    "golden/batches.bin": b"\0\1\2\3",
    "golden/weights_after.bin": b"\0" * 8,
    "golden/expected.txt": b"tolerance 1e-05\n",
}
SIZE, TIME = ModelSize(9, 2, 3), 4


def manifest_of(files) -> Manifest:
    run, sums = RunEntry(3, "w", "c", "people", "t", "v"), {"embedding": Aggregation("secure", 30.0)}
    return small_manifest(files, SIZE, TIME, learning_rate=0.5, clip_norm=1.0, batch_size=16, run=run, sums=sums)


def checks_before_loading(bundle, public_key=None, **options) -> list[str]:
    """Names of the checks that pass before a model is loaded; raises what they raise."""
    passed = []
    for check in verify_bundle(bundle, public_key, **options):
        passed.append(check.name)
        if check.name == "digests":
            break
    return passed


def refusal(do) -> str:
    """The one line with which `do` refuses a bundle."""
    with pytest.raises(BundleError) as refused:
        do()
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400
    assert refused.value.exit_code == 2
    return str(refused.value)
