"""The training loop: data, workers, rounds, evaluation, checkpoints, resume. The only module that reads the clock."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional, Protocol

from models.client_data import ClientData
from models.corpus import Corpus
from models.files import write_atomically
from orchestrator.errors import BelowThreshold, PrivacyStop, RunFolderError
from orchestrator.fleet.results import DEVICES_FILE
from orchestrator.rounds.build import build_aggregator, model_size
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.canary_clients import participants
from orchestrator.run.folder import RunFolder, RunIdentity, build_identity
from orchestrator.run.record import RECORD_FILE, Recorder, build_provenance
from orchestrator.run.trainer import Trainer, build_fleet, build_phones
from orchestrator.settings.run_config import RunConfig
from tff_pipelines.runtime import Runtime

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
        """See orchestrator.rounds.types.Stopwatch."""
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
    size = model_size(config.model, data.vocabulary.size)
    aggregator = build_aggregator(config.aggregation)
    identity = build_identity(config, corpus, data.vocabulary, size.num_weights)
    fleet = build_fleet(config, size, data)
    goes_on = resume and folder.exists()
    if goes_on:
        folder.lock()
        _check_same_run(folder, identity)
    observer.stage("starting the TFF workers")
    with contextlib.ExitStack() as stack:
        # Before anything is written: a wrong address leaves nothing behind.
        runtime = stack.enter_context(Runtime(config.runtime.workers))
        phones = build_phones(stack, config, size, runtime, observer.stage)
        if goes_on:
            folder.write_config(config)
        else:
            folder.create(config, data.vocabulary, identity)
        if fleet is not None:
            write_atomically(folder.path / DEVICES_FILE, fleet.devices_json())
        observer.stage("building the TFF computations")
        privacy, noise_commitment = None, ""
        if config.privacy.traits.adds_noise:
            from orchestrator.privacy import noise
            from orchestrator.privacy.mechanism import build_mechanism

            privacy = build_mechanism(config, folder.path, len(participants(config, data)))
            noise_commitment = noise.commitment(noise.read_seed(folder.path))
        trainer = Trainer(config, data, size, aggregator, runtime, phones, privacy, fleet)
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
    trainer: Trainer,
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
