"""A run -> a phone bundle; and the TFF side of parity, which is handed to edge here."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

import numpy as np

from edge.errors import BundleError, ExportError
from edge.export import STATELESS_FILE, TRAIN_FILE, build_files
from edge.golden import golden_files
from edge.litert_client import TrainableModel
from edge.manifest import (
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
    read_manifest,
    signature_entries,
    to_json,
    weight_entries,
)
from edge.parity import PARITY_FILE, RATE, STEPS, Certificate, Reference, certify
from edge.phone_bundle import VOCABULARY_FILE, check_target, file_entries, read_file, write_bundle
from edge.signing import check_key
from models.batches import Batches, build_batches
from models.client_data import ClientData
from models.vocabulary import Vocabulary
from models.weights import WEIGHT_NAMES, ModelSize, Weights
from orchestrator.config import RunConfig
from orchestrator.errors import RunFolderError
from orchestrator.provenance import bundle_files
from orchestrator.round import ServerState, weights_digest
from orchestrator.run_data import load_client_data
from orchestrator.run_folder import RunFolder, RunIdentity
from orchestrator.run_functions import cut

_HELD_OUT_SENTENCES = 400


def export_run(
    folder: RunFolder,
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
      folder: the run.
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
    config, identity, state = folder.config(), folder.identity(), folder.load_checkpoint(round_num)
    folder.check_digest(state)
    require_exportable(config)
    weights, time = state.model, config.data.max_words
    size = ModelSize.of(weights)
    data = _text_of(folder, config, identity) if parity else None
    note("converting the model to TFLite")
    files = build_files(weights, time, config.client.clip_norm)
    files[VOCABULARY_FILE] = _vocabulary_bytes(folder.vocabulary(), size)
    files.update(golden_files(weights, time, config.client.clip_norm, config.client.learning_rate))
    certificate = None
    if data is not None:
        unproven = to_json(_manifest(config, identity, state, None, file_entries(files)))
        certificate = _certify(config, data, {**files, MANIFEST_FILE: unproven}, weights, note)
        _require_passed(certificate)
        files[PARITY_FILE] = to_json(certificate)
    files.update(bundle_files(folder, weights_digest(weights)))
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


def run_parity(folder: RunFolder, bundle: Path, note: Callable[[str], None] = lambda text: None) -> Certificate:
    """The certificate of a bundle, made anew with the text of the run it came from.

    Raises:
      BundleError: the bundle came from another run.
    """
    manifest, raw = read_manifest(bundle)
    config, identity = folder.config(), folder.identity()
    if manifest.run.config_sha256 != identity.config_sha256:
        raise BundleError(f"{bundle} was not exported from {folder.path}: name the run that it came from")
    files = {MANIFEST_FILE: raw, **{name: read_file(bundle, manifest, name) for name in manifest.files}}
    weights = TrainableModel(files[TRAIN_FILE]).get_weights()
    if weights_digest(weights) != manifest.run.weights_sha256:
        raise BundleError(f"{bundle / TRAIN_FILE} holds other weights than the manifest names: export the run again")
    return _certify(config, _text_of(folder, config, identity), files, weights, note)


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


def _require_passed(certificate: Certificate) -> None:
    if certificate.passed:
        return
    worst = max(certificate.runtimes, key=lambda name: certificate.runtimes[name].max_abs_diff)
    by_tensor = certificate.runtimes[worst].max_abs_diff_by_tensor
    tensor = max(WEIGHT_NAMES, key=lambda name: by_tensor[name])
    raise ExportError(
        f"after {certificate.steps} steps {worst} is {by_tensor[tensor]:.1e} off TFF in {tensor}, "
        f"{certificate.gate:.0e} is allowed (TFF is {certificate.reference_self_diff:.1e} off itself): "
        "nothing was written; --no-parity writes it, marked as unproven"
    )


def _text_of(folder: RunFolder, config: RunConfig, identity: RunIdentity) -> ClientData:
    corpus, data = load_client_data(config)
    if (corpus.digest, data.vocabulary.digest) != (identity.corpus_sha256, identity.vocabulary_sha256):
        raise RunFolderError(
            f"{folder.path} was trained on another text than {config.data.source} holds now: restore it, or add "
            "--no-parity"
        )
    return data


def _vocabulary_bytes(vocabulary: Vocabulary, size: ModelSize) -> bytes:
    """vocabulary.txt of the words that the model has rows for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / VOCABULARY_FILE
        vocabulary.truncate(size.vocabulary_size).write(path)
        return path.read_bytes()


def _certify(
    config: RunConfig, data: ClientData, files: Mapping[str, bytes], weights: Weights, note: Callable[[str], None]
) -> Certificate:
    """The certificate of files, on the text of the first training people; int8 on that of the dev people."""
    num_rows, time = ModelSize.of(weights).vocabulary_size, config.data.max_words
    batch_size, rate = config.client.batch_size, min(RATE, config.client.learning_rate)
    theirs = itertools.chain.from_iterable(cut(own, num_rows) for own in data.train.values())
    sentences = list(itertools.islice(theirs, STEPS * batch_size))
    sentences = list(itertools.islice(itertools.cycle(sentences), STEPS * batch_size))
    batches = build_batches(sentences, batch_size=batch_size, time=time)
    unseen = itertools.chain.from_iterable(cut(own, num_rows) for own in data.dev.values())
    held_out = [sentence[:time] for sentence in itertools.islice(unseen, _HELD_OUT_SENTENCES)]
    note(f"{STEPS} steps in TFF")
    reference = _train_in_tff(config, weights, batches, rate)
    note("the same steps in the exported files")
    return certify(files, weights, weights_digest(weights), batches, rate, reference, held_out)


def _train_in_tff(config: RunConfig, weights: Weights, batches: Batches, rate: float) -> Reference:
    """What the TFF client work makes of the batches: one client that has them all, and its losses step by step."""
    from tff_pipelines.client_work import build_client_work
    from tff_pipelines.runtime import Runtime

    client_work = build_client_work(ModelSize.of(weights), config.data.max_words, config.client.clip_norm)
    with Runtime("1") as runtime:

        def train(start: Weights, own: Batches) -> Mapping[str, Any]:
            return next(runtime.map_clients(client_work, (start, np.float32(rate), np.int32(0)), [own], 1))

        whole = train(weights, batches)
        turned = train(weights, Batches(*(np.ascontiguousarray(part[:, ::-1]) for part in batches)))
        losses, now = [], weights
        for step in range(len(batches.tokens)):
            one = train(now, Batches(*(part[step : step + 1] for part in batches)))
            losses.append(float(one["loss_sum"]) / max(1, int(one["num_tokens"])))
            now = tuple(before - delta for before, delta in zip(now, one["delta"]))
    return Reference(
        name=" ".join(f"{package} {metadata.version(package)}" for package in ("tensorflow-federated", "tensorflow")),
        delta=tuple(whole["delta"]),
        losses=losses,
        self_diff=max(float(np.abs(a - b).max()) for a, b in zip(whole["delta"], turned["delta"])),
    )


def _manifest(
    config: RunConfig,
    identity: RunIdentity,
    state: ServerState,
    certificate: Optional[Certificate],
    files: Mapping[str, FileEntry],
) -> Manifest:
    size, time, client = ModelSize.of(state.model), config.data.max_words, config.client
    aggregation = Aggregation(
        kind={"plain": "plain", "secagg": "secure", "encrypted": "encrypted"}[config.aggregation.aggregator],
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


def parity_figures(certificate: Certificate) -> dict[str, Any]:
    """The fields of `fedkeys parity --json`."""
    return {
        "steps": certificate.steps,
        "gate": certificate.gate,
        "passed": certificate.passed,
        "learning_rate": certificate.learning_rate,
        "reference": certificate.reference,
        "reference_self_diff": certificate.reference_self_diff,
        "runtimes": certificate.runtimes,
        "skipped": certificate.skipped,
        "int8": certificate.int8,
    }


def parity_lines(certificate: Certificate) -> Sequence[str]:
    """The same for people."""
    lines = [
        f"{certificate.steps} steps of {certificate.batch_size} sentences, learning rate {certificate.learning_rate:g}",
        f"{certificate.reference}, against itself with its sentences in another order: "
        f"{certificate.reference_self_diff:.1e}",
    ]
    for name, runtime in certificate.runtimes.items():
        ulp = runtime.ulp
        lines.append(
            f"{name:17} {runtime.version:7} largest difference {runtime.max_abs_diff:.1e}, "
            f"ULPs p50 {ulp.p50} p90 {ulp.p90} p99 {ulp.p99} max {runtime.max_ulp}, "
            f"loss drift {max(map(abs, runtime.loss_drift)):.1e} nats per token"
        )
        differences = "  ".join(f"{tensor} {diff:.1e}" for tensor, diff in runtime.max_abs_diff_by_tensor.items())
        lines.append(f"{'':17} {differences}")
    lines += [f"{name:17} left out: {reason}" for name, reason in certificate.skipped.items()]
    int8 = certificate.int8
    lines.append(
        f"int8 against float32 on {int8.positions} held-out positions: top-1 {int8.top1:.2%}, top-3 {int8.top3:.2%}"
    )
    return lines
