"""A manifest that fits a model's size and some files, and says nothing else worth a test's reading."""

from __future__ import annotations

import msgspec

from edge.bundle.folder import file_entries
from edge.bundle.manifest import (
    SPECIAL_IDS,
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
from edge.export.tflite import signatures
from models.architectures import CIFG

_NO_RUN = RunEntry(1, "", "", "", "", "")


def small_manifest(files, size, time, learning_rate=0.1, clip_norm=0.0, batch_size=4, run=_NO_RUN, sums=()):
    """The manifest of a bundle of these files; `sums`: the aggregations of its tensors."""
    return Manifest(
        fedkeys_version="0",
        run=run,
        model=ModelEntry(
            size.vocabulary_size,
            size.embedding_size,
            size.num_cells,
            time,
            weight_entries(size.by_name.items()),
            msgspec.UNSET if size.kind == CIFG else size.kind,
        ),
        special_ids=SPECIAL_IDS,
        phase=(
            Phase(
                "training",
                TensorflowSpec("train.tflite", "train", "train_stateless.tflite"),
                IoRouter("batches", "update", dict(sums)),
                TrainingPlan(1, batch_size, learning_rate, clip_norm, 50, time),
            ),
        ),
        eligibility=Eligibility(),
        minimum_runtimes={},
        signatures=signature_entries(signatures(size, time, batch_size)),
        files=file_entries(files),
    )
