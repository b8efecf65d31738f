"""A bundle whose models are stand-ins: what is checked of it comes before anything is loaded."""

from __future__ import annotations

from edge.bundle.folder import file_entries
from edge.bundle.manifest import (
    SPECIAL_IDS,
    Aggregation,
    Eligibility,
    IoRouter,
    Manifest,
    ModelEntry,
    Phase,
    RunEntry,
    TensorflowSpec,
    TrainingPlan,
    signature_entries,
    weight_entries,
)
from edge.bundle.verification import verify_bundle
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
    return Manifest(
        fedkeys_version="1",
        run=RunEntry(3, "w", "c", "people", "t", "v"),
        model=ModelEntry(SIZE.vocabulary_size, SIZE.embedding_size, SIZE.num_cells, TIME, weight_entries(SIZE)),
        special_ids=SPECIAL_IDS,
        phase=(
            Phase(
                "training",
                TensorflowSpec("train.tflite", "train", "train_stateless.tflite"),
                IoRouter("batches", "update", {"embedding": Aggregation("secure", 30.0)}),
                TrainingPlan(1, 16, 0.5, 1.0, 50, TIME),
            ),
        ),
        eligibility=Eligibility(),
        minimum_runtimes={},
        signatures=signature_entries(SIZE, TIME),
        files=file_entries(files),
    )


def checks_before_loading(bundle, public_key=None, **options) -> list[str]:
    """Names of the checks that pass before a model is loaded; raises what they raise."""
    passed = []
    for check in verify_bundle(bundle, public_key, **options):
        passed.append(check.name)
        if check.name == "digests":
            break
    return passed
