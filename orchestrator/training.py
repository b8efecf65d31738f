"""The training loop: data, workers, rounds, evaluation, checkpoints, resume. The only module that reads the clock."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol

import numpy as np

from edge.litert_client import LiteRtClients, build_clients
from models.batches import Batches, build_batches
from models.client_data import ClientData, Sentences
from models.corpus import ClientId, Corpus, write_atomically
from models.metrics import ClientSums
from models.vocabulary import EOS
from models.weights import ModelSize, Weights
from orchestrator.aggregator import Aggregator
from orchestrator.audit.canary_clients import build_canaries, participants
from orchestrator.cohort import CohortSource, everybody
from orchestrator.config import RunConfig
from orchestrator.errors import BelowThreshold, Diverged, PrivacyStop, RunFolderError
from orchestrator.fedbuff import buffered_functions, remember
from orchestrator.fleet_source import FleetSource
from orchestrator.record import RECORD_FILE, Recorder, build_provenance
from orchestrator.round import (
    Privacy,
    RoundFunctions,
    RoundReport,
    ServerState,
    abandon_round,
    run_round,
    weights_digest,
)
from orchestrator.run_folder import RunFolder, RunIdentity, build_identity
from orchestrator.run_functions import (
    build_adaptive_clip,
    build_aggregator,
    build_encoder,
    client_weight,
    cut,
    draw_batches,
    first_weights,
    learning_rates,
    model_size,
)
from tff_pipelines.client_work import build_client_work
from tff_pipelines.evaluation import build_evaluation, build_word_counts
from tff_pipelines.runtime import Runtime
from tff_pipelines.server_update import build_server_optimizer, build_server_update

_EVALUATION_BATCH = 32
_MAX_ABANDONED = 10  # rounds in a row, after which a run is hopeless

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told how a training goes, to show it."""

    def stage(self, text: str) -> None:
        """Something that takes a while begins."""

    def begin(self, first_round: int, num_rounds: int) -> None:
        """The rounds begin."""

    def round_done(self, report: RoundReport, dev: Optional[Mapping[str, float]]) -> None:
        """A round is over; `dev` holds the evaluation's figures if there was one."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training comes to, with the figures of this process only."""

    state: ServerState
    rounds: int  # all rounds of the run
    wall_s: float  # of the rounds, evaluation and checkpoints included
    client_batches: int


class WallClock:
    """A Stopwatch on the real clock. A stage inside another takes its time from it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See orchestrator.round.Stopwatch."""
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """The seconds by stage since the last take."""
        taken, self.seconds = {k: round(v, 4) for k, v in self.seconds.items()}, {}
        return taken


def train(
    folder: RunFolder, config: RunConfig, corpus: Corpus, data: ClientData, observer: Observer, resume: bool = False
) -> TrainingResult:
    """Trains a run to its last round, from the beginning or from its newest checkpoint.

    Raises:
      RunFolderError: the folder holds a run and `resume` is False, or the text or the configuration has changed.
      OrchestratorError, ModelsError, PipelineError: see there.
    """
    size = model_size(config, data.vocabulary.size)
    aggregator = build_aggregator(config.aggregation)
    identity = build_identity(config, corpus, data.vocabulary, size.num_weights)
    fleet = _build_fleet(config, size, data)
    goes_on = resume and folder.exists()
    if goes_on:
        folder.lock()
        _check_same_run(folder, identity)
    observer.stage("starting the TFF workers")
    with contextlib.ExitStack() as stack:
        # Before anything is written: a wrong address leaves nothing behind.
        runtime = stack.enter_context(Runtime(config.runtime.workers))
        phones = _build_phones(stack, config, size, runtime, observer.stage)
        if goes_on:
            folder.write_config(config)
        else:
            folder.create(config, data.vocabulary, identity)
        if fleet is not None:
            write_atomically(folder.path / "fleet_devices.json", fleet.devices_json())
        observer.stage("building the TFF computations")
        privacy, noise_commitment = None, ""
        if config.privacy.mechanism != "none":
            from orchestrator.privacy import noise
            from orchestrator.privacy.mechanism import build_mechanism

            privacy = build_mechanism(config, folder.path, len(participants(config, data)))
            noise_commitment = noise.commitment(noise.read_seed(folder.path))
        trainer = _Trainer(config, data, size, aggregator, runtime, phones, privacy, fleet)
        if folder.checkpoints():
            state = folder.load_checkpoint()
            folder.forget_rounds_after(state.round_num)
        else:
            if config.model.start_from_word_counts:
                observer.stage("counting words by a federated sum")
            state = trainer.initial_state()
            folder.save_checkpoint(state, config.rounds.keep_checkpoints)
            folder.forget_rounds_after(0)
        recorder = open_record(folder, identity, noise_commitment, state)
        return _train_rounds(folder, config, trainer, state, observer, recorder)


@contextlib.contextmanager
def open_trainer(
    config: RunConfig, data: ClientData, privacy: Optional[Privacy], note: Callable[[str], None]
) -> Iterator[_Trainer]:
    """What computes the rounds of a run that is there, to replay them; writes nothing."""
    size = model_size(config, data.vocabulary.size)
    with contextlib.ExitStack() as stack:
        note("starting the TFF workers")
        runtime = stack.enter_context(Runtime(config.runtime.workers))
        phones = _build_phones(stack, config, size, runtime, note)
        fleet = _build_fleet(config, size, data)
        yield _Trainer(config, data, size, build_aggregator(config.aggregation), runtime, phones, privacy, fleet)


def _build_fleet(config: RunConfig, size: ModelSize, data: ClientData) -> Optional[FleetSource]:
    """The simulated fleet, which goes through its rounds from the first; None if the run has none."""
    return None if config.fleet.policy == "off" else FleetSource(config, size, data.train)


def _build_phones(
    stack: contextlib.ExitStack, config: RunConfig, size: ModelSize, runtime: Runtime, note: Callable[[str], None]
) -> Optional[LiteRtClients]:
    """The LiteRT clients, if the configuration wants them; closed with the stack."""
    if config.client.runtime != "litert":
        return None
    note("exporting the model for LiteRT")
    clip_norm, num_workers = config.client.clip_norm, len(runtime.workers)
    return stack.enter_context(build_clients(size, config.data.max_words, clip_norm, num_workers))


def open_record(
    folder: RunFolder, identity: RunIdentity, noise_commitment: str, state: ServerState
) -> Optional[Recorder]:
    """The record, cut to the state's round; None for a run that was begun before runs had one."""
    if state.round_num and not (folder.path / RECORD_FILE).exists():
        _log.warning("%s was begun without a record: its rounds can't be replayed", folder.path)
        return None
    recorder = Recorder(folder.path, build_provenance(identity, noise_commitment), state.round_num)
    if state.round_num == 0:
        recorder.begin(weights_digest(state.model))
    return recorder


def _train_rounds(
    folder: RunFolder,
    config: RunConfig,
    trainer: _Trainer,
    state: ServerState,
    observer: Observer,
    recorder: Optional[Recorder],
) -> TrainingResult:
    import tensorflow as tf

    rounds, clock = config.rounds, WallClock()
    client_batches, num_abandoned, started = 0.0, 0, time.perf_counter()
    observer.begin(state.round_num + 1, rounds.count)
    scalars = tf.summary.create_file_writer(str(folder.tensorboard_path))
    while state.round_num < rounds.count:
        round_started = time.perf_counter()
        try:
            state, report = trainer.run_round(state, clock)
        except PrivacyStop:
            folder.save_checkpoint(state, rounds.keep_checkpoints)  # the last model that may be used
            raise
        is_last = state.round_num == rounds.count
        dev = None
        if is_last or state.round_num % config.evaluation.every == 0:
            with clock.stage("evaluate"):
                dev = trainer.evaluate_dev(state.model)
        report = dataclasses.replace(report, stage_s=clock.take(), metrics={**report.metrics, **(dev or {})})
        keeps = is_last or state.round_num % rounds.checkpoint_every == 0
        if recorder is not None:
            recorder.append(report, sync=keeps)  # before the report: a record that ends too early was cut
        folder.append_round(report, wall_s=round(time.perf_counter() - round_started, 4))
        if keeps:
            # After its line: a resume drops lines beyond the newest checkpoint, but could not write a missing one.
            with clock.stage("checkpoint"):
                folder.save_checkpoint(state, rounds.keep_checkpoints)
        with scalars.as_default(step=report.round_num):
            for name, value in report.metrics.items():
                tf.summary.scalar(name, value)
        client_batches += report.metrics["client_batches"]
        observer.round_done(report, dev)
        num_abandoned = 0 if report.outcome == "completed" else num_abandoned + 1
        if num_abandoned == _MAX_ABANDONED:
            raise BelowThreshold(f"{num_abandoned} rounds in a row were abandoned, the last because: {report.reason}")
    scalars.close()
    return TrainingResult(state, rounds.count, time.perf_counter() - started, int(client_batches))


def _check_same_run(folder: RunFolder, now: RunIdentity) -> None:
    """Refuses to resume a run that would not go on as it began."""
    then = folder.identity()
    for name, advice in (
        ("config_sha256", "leave the flags and the config file out to use the run's own"),
        ("corpus_sha256", "the text has changed: give the same --data"),
        ("vocabulary_sha256", "the vocabulary has changed"),
    ):
        if getattr(then, name) != getattr(now, name):
            raise RunFolderError(f"{folder.path} was begun with another {name.rsplit('_', 1)[0]}: {advice}")
    changed = [f"{p} {then.versions.get(p)} -> {v}" for p, v in now.versions.items() if then.versions.get(p) != v]
    if changed:
        _log.warning(
            "other versions than at the start (%s): the weights may differ in the last bits", ", ".join(changed)
        )


class _Trainer:
    """The arrows of the road, bound to a configuration, a text and workers."""

    def __init__(
        self,
        config: RunConfig,
        data: ClientData,
        size: ModelSize,
        aggregator: Aggregator,
        runtime: Runtime,
        phones: Optional[LiteRtClients] = None,
        privacy: Optional[Privacy] = None,
        plan: Optional[CohortSource] = None,
    ):
        self._config, self._data, self._size, self._runtime = config, data, size, runtime
        self._sentences = {person: cut(own, size.vocabulary_size) for person, own in data.train.items()}
        client, server, time_steps = config.client, config.server, config.data.max_words
        self._client_work = build_client_work(size, time_steps, client.clip_norm, client.proximal, client.dropout)
        self._server = build_server_update(
            size, build_server_optimizer(server.algorithm, server.momentum, server.beta_2, server.epsilon)
        )
        self._evaluation = build_evaluation(size, time_steps, data.vocabulary.size)
        self._plan = plan or everybody(config, participants(config, data))
        self._dev = evaluation_batches(data.dev, time_steps, config.evaluation.max_sentences)
        self._functions = RoundFunctions(
            batches_of=lambda person, rng: draw_batches(config, self._sentences[person], rng),
            train_clients=phones.train if phones else self._train_clients,
            weight_of=lambda update: client_weight(config, update.num_tokens, update.num_examples),
            encoder=build_encoder(config, size),
            aggregator=aggregator,
            update_server=self._update_server,
            average_decay=server.average_decay,
            privacy=privacy,
            adaptive_clip=build_adaptive_clip(config),
            canaries=build_canaries(config, size),
        )

    def initial_state(self) -> ServerState:
        """The state before the first round."""
        counts = self._word_counts() if self._config.model.start_from_word_counts else None
        weights = first_weights(self._config, self._size, counts)
        return ServerState(0, weights, self._runtime.invoke(self._server.initialize))

    def run_round(self, state: ServerState, clock: WallClock) -> tuple[ServerState, RoundReport]:
        """One round down the road."""
        config, round_num = self._config, state.round_num + 1
        plan = self._plan(round_num)
        if plan.reason:
            after, report = abandon_round(state, plan.cohort, plan.reason)
            return remember(after, state, plan.versions_kept), dataclasses.replace(report, fleet=plan.fleet)
        client_learning_rate, server_learning_rate = learning_rates(config, round_num)
        functions = self._functions
        if config.fleet.policy == "fedbuff":
            functions = buffered_functions(functions, plan, state, config.fleet.staleness_exponent)
        after, report = run_round(
            state,
            plan.cohort,
            functions,
            seed=config.seed,
            client_learning_rate=client_learning_rate,
            server_learning_rate=server_learning_rate,
            stopwatch=clock,
            drops=plan.drops,
        )
        return remember(after, state, plan.versions_kept), dataclasses.replace(report, fleet=plan.fleet)

    def evaluate_dev(self, weights: Weights) -> dict[str, float]:
        """Pooled figures of the dev people, by federated evaluation."""
        sums = federated_sums(self._runtime, self._evaluation, weights, self._dev, self._config)
        positions = max(1, int(sums.positions.sum()))
        return {
            "dev_top1": float(sums.hits1.sum() / positions),
            "dev_top3": float(sums.hits3.sum() / positions),
            "dev_loss": float(sums.nll_sum_nats.sum() / positions),
        }

    def _word_counts(self) -> np.ndarray:
        """How often each id is a target, float64 [V]: a federated sum, in calls of many clients."""
        size = self._size.vocabulary_size
        count = build_word_counts(size)
        targets = [
            np.concatenate([np.append(s, EOS) for s in own]).astype(np.int32) for own in self._sentences.values()
        ]
        total = np.zeros(size, np.float64)
        for i in range(0, len(targets), 100):
            total += self._runtime.invoke(count, targets[i : i + 100])
        return total

    def _train_clients(
        self, weights: Weights, learning_rate: float, seed: int, batches: Iterable[Batches]
    ) -> Iterator[Mapping[str, Any]]:
        server_args = (weights, np.float32(learning_rate), np.int32(seed))
        return self._runtime.map_clients(self._client_work, server_args, batches, self._config.runtime.clients_per_call)

    def _update_server(
        self, optimizer_state: Any, weights: Weights, mean_delta: Weights, learning_rate: float
    ) -> tuple[Any, Weights]:
        return self._runtime.invoke(self._server.next, optimizer_state, weights, mean_delta, np.float32(learning_rate))


def evaluation_batches(
    people: Mapping[ClientId, Sentences], time_steps: int, max_sentences: Optional[int] = None
) -> list[Batches]:
    """Each person's sentences in their order, batched for scoring; ids are the vocabulary's, not the model's."""
    return [
        build_batches(own, batch_size=_EVALUATION_BATCH, time=time_steps, max_sentences=max_sentences)
        for own in people.values()
    ]


def federated_sums(
    runtime: Runtime, evaluation: Callable, weights: Weights, batches: Iterable[Batches], config: RunConfig
) -> ClientSums:
    """Sums per person, by federated evaluation."""
    results = list(runtime.map_clients(evaluation, (weights,), batches, 10 * config.runtime.clients_per_call))
    sums = client_sums(results)
    if not np.isfinite(sums.nll_sum_nats).all():
        raise Diverged("the model's weights are no longer finite: lower client.learning_rate or server.learning_rate")
    return sums


def client_sums(results: Sequence[Mapping[str, Any]]) -> ClientSums:
    """The metric's sums from what the TFF evaluation gives for each client."""
    return ClientSums(
        hits1=np.array([r["hits1"] for r in results], np.int64),
        hits3=np.array([r["hits3"] for r in results], np.int64),
        nll_sum_nats=np.array([r["nll_sum"] for r in results], np.float64),
        positions=np.array([r["positions"] for r in results], np.int64),
        oov=np.array([r["oov"] for r in results], np.int64),
    )
