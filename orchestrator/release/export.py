"""A run -> a phone bundle; and the TFF side of parity, which is handed to edge here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from edge.bundle.folder import VOCABULARY_FILE, check_target, file_entries, write_bundle
from edge.bundle.golden import golden_files
from edge.bundle.manifest import (
    MANIFEST_FILE,
    SPECIAL_IDS,
    Aggregation,
    Eligibility,
    FileEntry,
    IoRouter,
    Manifest,
    ModelEntry,
    Phase,
    RunEntry,
    TensorflowSpec,
    TrainingPlan,
    signature_entries,
    to_json,
    weight_entries,
)
from edge.bundle.parity import PARITY_FILE, Certificate
from edge.bundle.signing import check_key
from edge.errors import ExportError
from edge.export.tflite import STATELESS_FILE, TRAIN_FILE, build_files
from models.vocabulary import Vocabulary
from models.weights import WEIGHT_NAMES, ModelSize
from orchestrator.release.parity import _certify, _require_passed
from orchestrator.release.provenance import bundle_files
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.sums import SUMS
from orchestrator.rounds.types import ServerState
from orchestrator.run.folder import RunIdentity
from orchestrator.run.saved import Run
from orchestrator.settings.run_config import RunConfig


def export_run(
    run: Run,
    out: Path,
    *,
    round_num: Optional[int] = None,
    force: bool = False,
    archive: bool = False,
    parity: bool = True,
    key: Optional[Path] = None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The figures of `fedkeys export`; writes the bundle of a run's newest checkpoint, or of `round_num`'s.

    Args:
      run: the run.
      out: the bundle's folder.
      force: replace a bundle that is there.
      archive: also write `out`.zip.
      parity: prove that the export trains as TFF does; False writes it marked as unproven.
      key: a private key to sign with; None leaves the bundle unsigned.
      note: is told what begins.

    Raises:
      EdgeError, OrchestratorError: see there. Nothing is written then.
    """
    check_target(out, force)
    if key is not None:
        check_key(key)
    config, identity = run.config, run.identity
    state = run.newest if round_num is None else run.state_after(round_num)
    require_exportable(config)
    weights, time = state.model, config.data.max_words
    size = ModelSize.of(weights)
    data = run.text.data if parity else None
    note("converting the model to TFLite")
    files = build_files(weights, time, config.client.clip_norm)
    files[VOCABULARY_FILE] = _vocabulary_bytes(run.vocabulary, size)
    files.update(golden_files(weights, time, config.client.clip_norm, config.client.learning_rate))
    certificate = None
    if data is not None:
        unproven = to_json(_manifest(config, identity, state, None, file_entries(files)))
        certificate = _certify(config, data, {**files, MANIFEST_FILE: unproven}, weights, note)
        _require_passed(certificate)
        files[PARITY_FILE] = to_json(certificate)
    files.update(bundle_files(run.path, weights_digest(weights)))
    manifest = _manifest(config, identity, state, certificate, file_entries(files))
    write_bundle(out, files, manifest, key, force, archive)
    return {
        "files": {name: {"bytes": e.bytes, "sha256": e.sha256} for name, e in manifest.files.items()},
        "parity_max_abs_diff": certificate.max_abs_diff if certificate else None,
        "int8_top1_agreement": certificate.int8.top1 if certificate else None,
        "int8_top3_agreement": certificate.int8.top3 if certificate else None,
        "signed": key is not None,
        "round_num": state.round_num,
    }


def require_exportable(config: RunConfig) -> None:
    """Refuses a configuration whose training step the exported model does not have.

    Raises:
      ExportError: which setting, and what to change.
    """
    if config.client.proximal > 0:
        raise ExportError(
            f"client.proximal = {config.client.proximal}: the exported training step has no FedProx pull, so a phone "
            "would train otherwise than the run did; train with client.proximal = 0"
        )


def _vocabulary_bytes(vocabulary: Vocabulary, size: ModelSize) -> bytes:
    """vocabulary.txt of the words that the model has rows for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / VOCABULARY_FILE
        vocabulary.truncate(size.vocabulary_size).write(path)
        return path.read_bytes()


def _manifest(
    config: RunConfig,
    identity: RunIdentity,
    state: ServerState,
    certificate: Optional[Certificate],
    files: Mapping[str, FileEntry],
) -> Manifest:
    size, time, client = ModelSize.of(state.model), config.data.max_words, config.client
    aggregation = Aggregation(
        kind=SUMS[config.aggregation.aggregator].manifest_name,
        l2_norm_clip_over_all=config.aggregation.clip_norm,
    )
    return Manifest(
        fedkeys_version=metadata.version("fedkeys"),
        run=RunEntry(
            round_num=state.round_num,
            weights_sha256=weights_digest(state.model),
            config_sha256=identity.config_sha256,
            corpus_name=identity.corpus_name,
            corpus_sha256=identity.corpus_sha256,
            vocabulary_sha256=identity.vocabulary_sha256,
        ),
        model=ModelEntry(
            vocabulary_size=size.vocabulary_size,
            embedding_size=size.embedding_size,
            num_cells=size.num_cells,
            max_words=time,
            weights=weight_entries(size),
        ),
        special_ids=SPECIAL_IDS,
        phase=(
            Phase(
                name="training",
                spec=TensorflowSpec(tflite_graph=TRAIN_FILE, signature="train", stateless_tflite_graph=STATELESS_FILE),
                io_router=IoRouter(
                    input="token batches, FKBATCH1",
                    output="update, FKUPDAT1: weights before minus weights after, float32",
                    aggregations=dict.fromkeys(WEIGHT_NAMES, aggregation),
                ),
                plan=TrainingPlan(
                    epochs=client.epochs,
                    batch_size=client.batch_size,
                    learning_rate=client.learning_rate,
                    clip_norm=client.clip_norm,
                    max_sentences=client.max_sentences,
                    max_words=time,
                ),
            ),
        ),
        eligibility=Eligibility(),
        minimum_runtimes={name: r.version for name, r in certificate.runtimes.items()} if certificate else {},
        signatures=signature_entries(size, time),
        files=files,
    )
