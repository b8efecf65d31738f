"""Whether a bundle trains as the run did: TFF's side of the certificate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.bundle.folder import open_bundle, read_file
from edge.bundle.manifest import MANIFEST_FILE
from edge.bundle.parity import RATE, STEPS, Certificate, Int8Agreement, Reference, RuntimeParity, certify
from edge.clients.litert import TrainableModel
from edge.clients.packing import cut_to_fit
from edge.errors import BundleError, ExportError
from edge.export.tflite import TRAIN_FILE
from models.batches import Batches, build_batches
from models.client_data import ClientData, Sentences
from models.client_result import ClientResult
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize, Weights, largest_difference
from orchestrator.rounds.build import cut
from orchestrator.rounds.round import weights_digest
from orchestrator.run.saved import Run
from orchestrator.settings.run_config import RunConfig

if TYPE_CHECKING:
    from tff_pipelines.runtime import Runtime

_HELD_OUT_SENTENCES = 400


def run_parity(run: Run, bundle: Path, note: Callable[[str], None] = lambda text: None) -> Certificate:
    """Returns the certificate of a bundle, made anew with the text of the run it came from.

    Raises:
      BundleError: the bundle came from another run.
    """
    manifest, raw = open_bundle(bundle)
    if manifest.run.config_sha256 != run.identity.config_sha256:
        raise BundleError(f"{bundle} was not exported from {run.path}: name the run that it came from")
    files = {MANIFEST_FILE: raw, **{name: read_file(bundle, manifest, name) for name in manifest.files}}
    weights = TrainableModel(files[TRAIN_FILE], manifest.model.size.names).get_weights()
    if weights_digest(weights) != manifest.run.weights_sha256:
        raise BundleError(f"{bundle / TRAIN_FILE} holds other weights than the manifest names: export the run again")
    return certify_in_tff(run.config, run.text.data, files, weights, note, emulated=True)


def require_passed(certificate: Certificate) -> None:
    """Refuses to export what does not train as TFF does.

    Raises:
      ExportError: which runtime is off, in which tensor, and by how much.
    """
    if certificate.passed:
        return
    worst = max(certificate.runtimes, key=lambda name: certificate.runtimes[name].max_abs_diff)
    by_tensor = certificate.runtimes[worst].max_abs_diff_by_tensor
    tensor = max(by_tensor, key=lambda name: by_tensor[name])
    raise ExportError(
        f"after {certificate.steps} steps {worst} is {by_tensor[tensor]:.1e} off TFF in {tensor}, "
        f"{certificate.gate:.0e} is allowed (TFF is {certificate.reference_self_diff:.1e} off itself): "
        "nothing was written; --no-parity writes it, marked as unproven"
    )


def certify_in_tff(
    config: RunConfig,
    data: ClientData,
    files: Mapping[str, bytes],
    weights: Weights,
    note: Callable[[str], None],
    runtime: Optional[Runtime] = None,
    emulated: bool = False,
) -> Certificate:
    """Returns the certificate of files, on sentences_to_train_on; int8 on the text of the dev people.

    Batches are cut in turns to what each of the file's shapes holds, so that every train signature takes steps.

    Args:
      runtime: to train in; None starts a worker for it.
      emulated: whether emulated runtimes train, too, which takes minutes.
    """
    size, time = ModelSize.of(weights, config.model.kind), config.data.max_words
    num_rows = size.vocabulary_size
    batch_size, rate = config.client.batch_size, min(RATE, config.client.learning_rate)
    sentences = sentences_to_train_on(config, data.train.values(), STEPS * batch_size, num_rows)
    shapes = TrainableModel(files[TRAIN_FILE], size.names).shapes
    batches = cut_to_fit(build_batches(sentences, batch_size=batch_size, time=time), shapes)
    unseen = itertools.chain.from_iterable(cut(own, num_rows) for own in data.dev.values())
    held_out = [sentence[:time] for sentence in itertools.islice(unseen, _HELD_OUT_SENTENCES)]
    note(f"{STEPS} steps in TFF")
    reference = _train_in_tff(config, weights, batches, rate, runtime)
    note("the same steps in the exported files")
    return certify(files, size, weights, weights_digest(weights), batches, rate, reference, held_out, emulated)


def sentences_to_train_on(
    config: RunConfig, people: Iterable[Sentences], count: int, num_rows: int
) -> list[NDArray[np.int32]]:
    """Returns the sentences of the certificate's steps, int32 [words] each: the first that the training people typed.

    A bundle carries the certificate. A run with differential privacy therefore takes sentences that nobody typed: words
    of the model drawn evenly, since no noise covers what training on people's own text shows.
    """
    if config.privacy.traits.adds_noise:
        rng = np.random.default_rng(0)
        lengths = rng.integers(1, config.data.max_words + 1, count)
        return [rng.integers(NUM_SPECIAL, num_rows, length).astype(np.int32) for length in lengths]
    theirs = list(itertools.islice(itertools.chain.from_iterable(cut(own, num_rows) for own in people), count))
    return list(itertools.islice(itertools.cycle(theirs), count))


def _train_in_tff(
    config: RunConfig, weights: Weights, batches: Batches, rate: float, runtime: Optional[Runtime]
) -> Reference:
    """Trains one client that has all the batches by the TFF client work; returns its losses step by step, too."""
    from tff_pipelines.client_work import build_client_work
    from tff_pipelines.runtime import borrow

    client_work = build_client_work(
        ModelSize.of(weights, config.model.kind), config.data.max_words, config.client.clip_norm
    )
    with borrow(runtime, "1") as opened:

        def train(start: Weights, own: Batches) -> ClientResult:
            return next(opened.map_clients(client_work, (start, np.float32(rate), np.int32(0)), [own], 1))

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
        self_diff=largest_difference(whole["delta"], turned["delta"]),
    )


class ParityFigures(msgspec.Struct, frozen=True):
    """What `fedkeys parity` prints. See edge.bundle.parity.Certificate."""

    steps: int
    gate: float
    passed: bool
    learning_rate: float
    reference: str
    reference_self_diff: float
    runtimes: Mapping[str, RuntimeParity]
    skipped: Mapping[str, str]
    int8: Int8Agreement


def parity_figures(certificate: Certificate) -> ParityFigures:
    """Returns the figures of a certificate."""
    return ParityFigures(**{name: getattr(certificate, name) for name in ParityFigures.__struct_fields__})


def parity_lines(certificate: Certificate) -> Sequence[str]:
    """Returns a certificate's figures as lines for people."""
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
