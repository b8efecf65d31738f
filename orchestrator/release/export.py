"""Exports a run as a phone bundle, with the certificate that the bundle trains as TFF does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import msgspec

from edge.bundle.folder import AUDITED_FILE, VOCABULARY_FILE, check_target, file_entries, write_bundle
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
from edge.bundle.own_entry import OwnEntry
from edge.bundle.parity import PARITY_FILE, Certificate
from edge.bundle.signing import check_key
from edge.bundle.vectors import VECTORS_FILE, vectors_bytes
from edge.errors import ExportError
from edge.export.shapes import train_shapes
from edge.export.tflite import STATELESS_FILE, TRAIN_FILE, build_files, signatures
from models.architectures import CIFG
from models.own_network import is_own
from models.segmentation import NO_SEGMENTER
from models.vocabulary import NUM_SPECIAL, Vocabulary
from models.weights import ModelSize
from orchestrator.release.parity import certify_in_tff, require_passed
from orchestrator.release.provenance import bundle_files
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.sums import SUMS
from orchestrator.rounds.types import ServerState
from orchestrator.run.loop import require_completed
from orchestrator.run.saved import Run
from orchestrator.settings.audit import what_is_hidden
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import ClientConfig

if TYPE_CHECKING:
    from tff_pipelines.runtime import Runtime


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
      round_num: whose checkpoint; None takes the newest.
      force: replace a bundle that is there.
      archive: also write the bundle as a .zip.
      parity: prove that the export trains as TFF does; False writes it marked as unproven.
      key: a private key to sign with; None leaves the bundle unsigned.
    """

    round_num: Optional[int] = None
    force: bool = False
    archive: bool = False
    parity: bool = True
    key: Optional[Path] = None


class ExportFigures(msgspec.Struct, frozen=True):
    """What `fedkeys export` prints; None in place of what an unproven bundle does not know."""

    files: Mapping[str, FileEntry]
    parity_max_abs_diff: Optional[float]
    int8_top1_agreement: Optional[float]
    int8_top3_agreement: Optional[float]
    signed: bool
    round_num: int


def export_run(
    run: Run,
    out: Path,
    options: ExportOptions = ExportOptions(),
    note: Callable[[str], None] = lambda text: None,
    runtime: Optional[Runtime] = None,
) -> ExportFigures:
    """Writes the phone bundle of a run, and returns what is in it.

    Args:
      run: the run.
      out: the bundle's folder.
      options: how.
      note: is told what begins.
      runtime: to compare with TFF in; None starts a worker for it.

    Raises:
      EdgeError, OrchestratorError: see there. Nothing is written then.
    """
    check_target(out, options.force)
    if options.key is not None:
        check_key(options.key)
    require_completed(run.rounds)
    state = run.newest if options.round_num is None else run.state_after(options.round_num)
    require_exportable(run.config.client)
    data = run.text.data if options.parity else None
    files = _model_files(run, state, note)
    if hidden := what_is_hidden(run.config.audit):
        files[AUDITED_FILE] = f"{hidden}\n".encode()
    certificate = None
    if data is not None:
        unproven = to_json(_manifest(run, state, None, file_entries(files)))
        files_to_prove = {**files, MANIFEST_FILE: unproven}
        certificate = certify_in_tff(run.config, data, files_to_prove, state.model, note, runtime)
        require_passed(certificate)
        files[PARITY_FILE] = to_json(certificate)
    files.update(bundle_files(run.path, weights_digest(state.model)))
    manifest = _manifest(run, state, certificate, file_entries(files))
    write_bundle(out, files, manifest, options.key, options.force, options.archive)
    return ExportFigures(
        files=manifest.files,
        parity_max_abs_diff=certificate.max_abs_diff if certificate else None,
        int8_top1_agreement=certificate.int8.top1 if certificate else None,
        int8_top3_agreement=certificate.int8.top3 if certificate else None,
        signed=options.key is not None,
        round_num=state.round_num,
    )


def _model_files(run: Run, state: ServerState, note: Callable[[str], None]) -> dict[str, bytes]:
    """Returns {name: content} of the model's files, the words and the golden batch."""
    note("converting the model to TFLite")
    weights, time, client = state.model, run.config.data.max_words, run.config.client
    size = ModelSize.of(weights, run.config.model.kind)
    files = build_files(size, weights, time, client.clip_norm, client.batch_size)
    vocabulary = run.vocabulary.truncate(size.vocabulary_size)  # what the model has rows for
    files[VOCABULARY_FILE] = _vocabulary_bytes(vocabulary)
    files[VECTORS_FILE] = vectors_bytes(run.tokeniser, vocabulary)
    shapes = train_shapes(size, time, client.batch_size)
    golden = golden_files(size, weights, time, client.clip_norm, client.learning_rate, client.batch_size, shapes)
    files.update(golden)
    return files


def require_exportable(client: ClientConfig) -> None:
    """Refuses settings of clients whose training step the exported model does not have.

    Raises:
      ExportError: which setting, and what to change.
    """
    if client.proximal > 0:
        raise ExportError(
            f"client.proximal = {client.proximal}: the exported training step has no FedProx pull, so a phone "
            "would train otherwise than the run did; train with client.proximal = 0"
        )


def _vocabulary_bytes(vocabulary: Vocabulary) -> bytes:
    """Returns the content of vocabulary.txt."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / VOCABULARY_FILE
        vocabulary.write(path)
        return path.read_bytes()


def _manifest(
    run: Run,
    state: ServerState,
    certificate: Optional[Certificate],
    files: Mapping[str, FileEntry],
) -> Manifest:
    config, identity = run.config, run.identity
    size, time = ModelSize.of(state.model, config.model.kind), config.data.max_words
    return Manifest(
        fedkeys_version=metadata.version("fedkeys"),
        tokeniser=config.data.tokeniser,
        segmenter=msgspec.UNSET if config.data.segmenter == NO_SEGMENTER else config.data.segmenter,
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
            weights=weight_entries(size.by_name.items()),
            kind=msgspec.UNSET if size.kind == CIFG else size.kind,
            own=_own_entry(size),
        ),
        special_ids=SPECIAL_IDS,
        words=run.words.truncate(size.vocabulary_size - NUM_SPECIAL),
        phase=(_training_phase(run.config, size.names),),
        eligibility=Eligibility(),
        minimum_runtimes={name: r.version for name, r in certificate.runtimes.items()} if certificate else {},
        signatures=signature_entries(signatures(size, time, run.config.client.batch_size)),
        files=files,
    )


def _own_entry(size: ModelSize) -> Union[OwnEntry, msgspec.UnsetType]:
    """Returns what a bundle says of a network of somebody's own; it holds none of its code."""
    if not is_own(size.kind):
        return msgspec.UNSET
    row = size.architecture
    return OwnEntry(dict(size.state), row.embedding, row.output, row.output_bias)


def _training_phase(config: RunConfig, names: Iterable[str]) -> Phase:
    """Returns how a phone trains, and how its update is to be summed."""
    client = config.client
    aggregation = Aggregation(
        kind=SUMS[config.aggregation.aggregator].manifest_name,
        l2_norm_clip_over_all=config.aggregation.clip_norm,
    )
    return Phase(
        name="training",
        spec=TensorflowSpec(tflite_graph=TRAIN_FILE, signature="train", stateless_tflite_graph=STATELESS_FILE),
        io_router=IoRouter(
            input="token batches, FKBATCH1",
            output="update, FKUPDAT1: weights before minus weights after, float32",
            aggregations=dict.fromkeys(names, aggregation),
        ),
        plan=TrainingPlan(
            epochs=client.epochs,
            batch_size=client.batch_size,
            learning_rate=client.learning_rate,
            clip_norm=client.clip_norm,
            max_sentences=client.max_sentences,
            max_words=config.data.max_words,
        ),
    )
