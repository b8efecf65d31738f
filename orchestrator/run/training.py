"""Trains a run: data, workers and the settings' parts are bound, then rounds, evaluations and checkpoints follow."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Protocol

import msgspec

from models.client_data import ClientData
from models.files import write_atomically
from models.weights import ModelSize
from orchestrator.aggregator import Aggregator
from orchestrator.errors import PrivacyStop, RunFolderError
from orchestrator.fleet.results import DEVICES_FILE
from orchestrator.rounds.build import build_aggregator, model_size
from orchestrator.rounds.server_optimizer import build_optimizer
from orchestrator.rounds.types import Privacy, RoundReport, ServerState
from orchestrator.run.bound import BoundRun, build_fleet, build_phones
from orchestrator.run.canary_clients import participants
from orchestrator.run.data import Text
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import RunIdentity, build_identity
from orchestrator.run.loop import WallClock, keeps_checkpoint, require_completed, run_rounds
from orchestrator.run.record import Recorder, open_record
from orchestrator.run.start import FirstWeights, build_first_weights, read_first_weights
from orchestrator.settings.run_config import RunConfig
from tff_pipelines.runtime import Runtime, borrow
from tff_pipelines.server_update import ServerOptimizer

if TYPE_CHECKING:
    import tensorflow as tf

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Shows how a training goes; the training calls it."""

    def stage(self, text: str) -> None:
        """Is told that something which takes a while begins."""

    def begin(self, first_round: int, num_rounds: int) -> None:
        """Is told that the rounds begin."""

    def round_done(self, report: RoundReport, dev: Optional[Mapping[str, float]]) -> None:
        """Is told that a round is over; `dev` holds the evaluation's figures if there was one."""


@dataclass(frozen=True)
class Parts:
    """What a caller puts in place of what the settings name; None takes the settings' own.

    The run's folder does not remember them: whoever resumes the run gives them again, and a replay computes its rounds
    with what the settings name.

    Attributes:
      aggregator: sums the encoded updates.
      server_optimizer: makes the server's step along the mean update, at the learning rate of the settings.
      runtime: the workers; they stay open.
    """

    aggregator: Optional[Aggregator] = None
    server_optimizer: Optional[ServerOptimizer] = None
    runtime: Optional[Runtime] = None


@dataclass(frozen=True)
class TrainingResult:
    """What a training comes to, with the figures of this process only."""

    state: ServerState
    rounds: int  # all rounds of the run
    wall_s: float  # of the rounds, evaluation and checkpoints included
    client_batches: int


def train(
    folder: RunFolder,
    config: RunConfig,
    text: Text,
    observer: Observer,
    resume: bool = False,
    parts: Parts = Parts(),
) -> TrainingResult:
    """Trains a run to its last round, from the beginning or from its newest checkpoint.

    Args:
      folder: a free one, or with `resume` that of the run.
      config: the settings, with a noise multiplier if there is noise (orchestrator.privacy.calibration).
      text: of the people; orchestrator.run.data reads it, or makes it of a corpus.
      observer: is told how it goes.
      resume: go on with the run that is there, if one is.
      parts: one's own, in place of the settings'.

    Raises:
      RunFolderError: the folder holds a run and `resume` is False, or the text or the configuration has changed.
      OrchestratorError, ModelsError, PipelineError: see there.
    """
    data = text.data
    size = model_size(config.model, data.vocabulary.size)
    aggregator = parts.aggregator or build_aggregator(config.aggregation)
    goes_on = resume and folder.exists()
    first = _kept_first(folder, config, size) if goes_on else build_first_weights(config, data.vocabulary)
    weights, start = first or (None, None)
    identity = build_identity(config, text.corpus, data.vocabulary, size.num_weights, data.origin, start)
    fleet = build_fleet(config, size, data)
    if goes_on:
        folder.lock()
        _check_same_run(folder, identity)
    with contextlib.ExitStack() as stack:
        if parts.runtime is None:
            observer.stage("starting the TFF workers")
        # Before anything is written: a wrong address leaves nothing behind.
        runtime = stack.enter_context(borrow(parts.runtime, config.runtime.workers))
        phones = build_phones(stack, config, size, runtime, observer.stage)
        if goes_on:
            folder.write_config(config)
        else:
            folder.create(config, data.vocabulary, identity, weights)
        if fleet is not None:
            write_atomically(folder.path / DEVICES_FILE, fleet.devices_json(), private=True)
        observer.stage("building the TFF computations")
        privacy, noise_commitment = _open_privacy(folder.path, config, data)
        optimizer = parts.server_optimizer or build_optimizer(config.server)
        bound = BoundRun(config, data, size, aggregator, optimizer, runtime, phones, privacy, fleet, weights)
        state = _start_state(folder, config, bound, observer)
        bound.build_client_work()
        recorder = open_record(folder.path, identity, noise_commitment, state)
        return _train_rounds(folder, config, bound, state, observer, recorder)


def _kept_first(folder: RunFolder, config: RunConfig, size: ModelSize) -> Optional[FirstWeights]:
    """Returns the weights before round 1 of a run that goes on; None if it has no start.

    Raises:
      RunFolderError: they are not there any more, or the settings name another start.
    """
    start = folder.identity().start
    if start is msgspec.UNSET:
        return None
    if config.model.start != (began_with := folder.config().model.start):
        raise RunFolderError(f"{folder.path} began with model.start = {began_with}: leave model.start out to go on")
    weights = read_first_weights(folder.path, start, size)
    return None if weights is None else FirstWeights(weights, start)


def _open_privacy(path: Path, config: RunConfig, data: ClientData) -> tuple[Optional[Privacy], str]:
    """Returns (the mechanism with its ledger, the commitment to its noise); (None, "") without differential privacy."""
    if not config.privacy.traits.adds_noise:
        return None, ""
    from orchestrator.privacy import noise
    from orchestrator.privacy.mechanism import build_mechanism

    mechanism = build_mechanism(config, path, len(participants(config, data)))
    return mechanism, noise.commitment(noise.read_seed(path))


def _start_state(folder: RunFolder, config: RunConfig, bound: BoundRun, observer: Observer) -> ServerState:
    """Returns the newest checkpoint's state, or the initial one, which is kept.

    Later lines of rounds.jsonl are dropped.
    """
    if folder.checkpoints():
        state = folder.load_to_go_on()
    else:
        if config.model.counts_words:
            observer.stage("counting words by a federated sum; beside it, building what clients train")
        state = bound.initial_state()
        folder.save_checkpoint(state, config.rounds.keep_checkpoints)
    folder.forget_rounds_after(state.round_num)
    return state


def _train_rounds(
    folder: RunFolder,
    config: RunConfig,
    bound: BoundRun,
    state: ServerState,
    observer: Observer,
    recorder: Optional[Recorder],
) -> TrainingResult:
    import tensorflow as tf

    observer.begin(state.round_num + 1, config.rounds.count)
    started = time.perf_counter()
    with contextlib.closing(tf.summary.create_file_writer(str(folder.tensorboard_path))) as scalars:
        rounds = _Rounds(folder, config, bound, observer, recorder, scalars)
        state = run_rounds(state, config.rounds.count, rounds.run_one)
    require_completed(folder.rounds())
    return TrainingResult(state, config.rounds.count, time.perf_counter() - started, int(rounds.client_batches))


class _Rounds:
    """Runs rounds one by one, and keeps what each leaves."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        bound: BoundRun,
        observer: Observer,
        recorder: Optional[Recorder],
        scalars: tf.summary.SummaryWriter,
    ):
        self._folder, self._config, self._bound, self._observer = folder, config, bound, observer
        self._recorder, self._scalars, self._clock = recorder, scalars, WallClock()
        self.client_batches = 0.0  # of the rounds up to here

    def run_one(self, state: ServerState) -> tuple[ServerState, RoundReport]:
        """Computes the next round, and returns the state after it and its report.

        The report has the round's times, and the dev people's figures if it has any.
        """
        rounds, started = self._config.rounds, time.perf_counter()
        try:
            state, report = self._bound.run_round(state, self._clock)
        except PrivacyStop:
            self._folder.save_checkpoint(state, rounds.keep_checkpoints)  # the last model that may be used
            raise
        dev = self._evaluate(state)
        report = dataclasses.replace(report, stage_s=self._clock.take(), metrics={**report.metrics, **(dev or {})})
        keeps = keeps_checkpoint(rounds, state.round_num)
        if self._recorder is not None:
            self._recorder.append(report, sync=keeps)  # before the report: a record that ends too early was cut
        self._folder.append_round(report, wall_s=round(time.perf_counter() - started, 4))
        if keeps:
            # After its line: a resume drops lines beyond the newest checkpoint, but could not write a missing one.
            with self._clock.stage("checkpoint"):
                self._folder.save_checkpoint(state, rounds.keep_checkpoints)
        self._draw(report)
        self.client_batches += report.metrics["client_batches"]
        self._observer.round_done(report, dev)
        return state, report

    def _evaluate(self, state: ServerState) -> Optional[Mapping[str, float]]:
        """Returns the dev people's figures, if they are due after this round."""
        if state.round_num != self._config.rounds.count and state.round_num % self._config.evaluation.every:
            return None
        with self._clock.stage("evaluate"):
            return self._bound.evaluate_dev(state.model)

    def _draw(self, report: RoundReport) -> None:
        import tensorflow as tf

        with self._scalars.as_default(step=report.round_num):
            for name, value in report.metrics.items():
                tf.summary.scalar(scalar_tag(name), value)
            if report.epsilon is not None:
                tf.summary.scalar("privacy/epsilon", report.epsilon)


def scalar_tag(metric: str) -> str:
    """Returns the name of a round's metric in TensorBoard, which draws those before a slash together.

    >>> [scalar_tag(name) for name in ("train_loss", "dev_top1", "num_tokens", "clip_norm")]
    ['train/loss', 'dev/top1', 'train/num_tokens', 'privacy/clip_norm']
    """
    group, _, rest = metric.partition("_")
    if group in ("train", "dev"):
        return f"{group}/{rest}"
    return f"{'privacy' if metric == 'clip_norm' else 'train'}/{metric}"


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
