"""Federated rounds of a Keras model on people's arrays: TFF trains the clients, and the sums are those of every run."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Optional

import numpy as np

from edge.export.keras_digest import network_digest
from edge.export.keras_network import Network
from edge.export.keras_tflite import keras_signatures
from edge.export.keras_training import build_scoring, build_training
from edge.export.keras_weights import with_weights
from models.client_result import ClientResult
from models.corpus import ClientId
from models.examples import ExampleBatches, Examples, build_example_batches
from models.weights import Weights, WeightShapes
from orchestrator.errors import Diverged, PrivacyStop, RunFolderError
from orchestrator.privacy.ledger import epsilon_spent
from orchestrator.rounds.build import (
    build_adaptive_clip,
    build_aggregator,
    build_encoder,
    build_groups,
    client_weight,
    learning_rates,
    require_summable,
)
from orchestrator.rounds.cohort import everybody
from orchestrator.rounds.round import run_round
from orchestrator.rounds.server_optimizer import tff_optimizer
from orchestrator.rounds.types import Privacy, RoundFunctions, RoundReport, ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.run.keras_folder import (
    KerasIdentity,
    build_keras_identity,
    create_keras_folder,
    is_keras_folder,
    people_hmac,
    read_keras_folder,
)
from orchestrator.run.keras_results import KerasTraining, PeopleScores, people_scores
from orchestrator.run.lines import Round, line_of
from orchestrator.run.loop import WallClock, keeps_checkpoint, require_completed, run_rounds
from orchestrator.run.record import read_salt
from orchestrator.settings.run_config import RunConfig
from tff_pipelines.client_work import examples_type, map_training
from tff_pipelines.evaluation import map_scoring
from tff_pipelines.runtime import Runtime, borrow

if TYPE_CHECKING:
    from orchestrator.run.training import Observer

People = Mapping[ClientId, Examples]
_DTYPES: dict[str, type[np.generic]] = {"float32": np.float32, "int32": np.int32}


def train_keras(
    network: Network,
    source: str,
    people: People,
    test: People,
    config: RunConfig,
    observer: Observer,
    folder: Optional[RunFolder] = None,
    resume: bool = False,
    runtime: Optional[Runtime] = None,
) -> KerasTraining:
    """Trains a Keras model to its last round.

    Args:
      network: of the model.
      source: what its file is called.
      people: who trains, with their checked examples.
      test: who is scored, with theirs; may be empty.
      config: as orchestrator.settings.keras makes it, with a noise multiplier if there is noise.
      observer: is told how it goes.
      folder: keeps the rounds; None keeps nothing, which is for rounds without differential privacy.
      resume: go on with the rounds in the folder, if it holds some.
      runtime: the workers, which stay open; None starts some.

    Raises:
      ConfigError: cohorts of this size can't be summed.
      RunFolderError: the folder is not free, or its rounds are of another model, other settings, people or arrays.
      OrchestratorError, PipelineError: see there.
    """
    start = tuple(weight.start for weight in network.trainable)
    size = WeightShapes.of(start)
    require_summable(config, sum(weight.size for weight in start))
    names = [weight.name for weight in network.trainable]
    identity = build_keras_identity(
        config, source, network.loss.name, network.loss.num_classes, names, start, network_digest(network)
    )
    first_state, update_server = tff_optimizer(config.server, size)
    with contextlib.ExitStack() as stack:
        if runtime is None:
            observer.stage("starting the TFF workers")
        workers = stack.enter_context(borrow(runtime, config.runtime.workers))
        state = _open(folder, config, identity, ServerState(0, start, first_state()), people, resume)
        observer.stage("building the TFF computations")
        clients = _Clients(network, size, config, workers)
        functions = RoundFunctions(
            batches_of=lambda person, rng: clients.batches(people[person], rng),
            train_clients=clients.train,
            weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
            encoder=build_encoder(config, size),
            aggregator=build_aggregator(config.aggregation),
            update_server=update_server,
            average_decay=config.server.average_decay,
            privacy=_privacy(folder, config, len(people)),
            adaptive_clip=build_adaptive_clip(config.privacy, config.aggregation),
            groups=build_groups(config.aggregation),
        )
        rounds = _Rounds(config, functions, clients, tuple(people), test, folder, observer)
        observer.begin(state.round_num + 1, config.rounds.count)
        state = run_rounds(state, config.rounds.count, rounds.run_one)
        require_completed(rounds.lines)
        scores = rounds.scores or (clients.score(state.model, test) if test else None)
    epsilon = epsilon_spent(folder.path) if folder is not None else None  # abandoned rounds' charges count, too
    return KerasTraining(source, with_weights(network, state.model), tuple(rounds.lines), scores, epsilon)


def _open(
    folder: Optional[RunFolder],
    config: RunConfig,
    identity: KerasIdentity,
    first: ServerState,
    people: People,
    resume: bool,
) -> ServerState:
    """Returns the state to begin with: the folder's newest, or the first one, which it then keeps."""
    if folder is None:
        return first
    if not (resume and is_keras_folder(folder)):
        create_keras_folder(folder, config, identity, first, people)
        return first
    _, then = read_keras_folder(folder)
    if not then.same_model(identity):
        raise RunFolderError(f"{folder.path} holds the rounds of another model: name another folder")
    if then.config_sha256 != identity.config_sha256:
        raise RunFolderError(f"{folder.path} was begun with other settings: give the same to go on")
    if then.people_hmac != people_hmac(read_salt(folder.path), people):
        raise RunFolderError(f"{folder.path} was begun with other people or other arrays: give the same in their order")
    folder.lock()
    state = folder.load_to_go_on()
    folder.forget_rounds_after(state.round_num)
    return state


def _privacy(folder: Optional[RunFolder], config: RunConfig, num_people: int) -> Optional[Privacy]:
    """Returns the mechanism with its ledger; None without differential privacy."""
    if not config.privacy.traits.adds_noise:
        return None
    assert folder is not None, "noise without a ledger"
    from orchestrator.privacy.mechanism import build_mechanism

    return build_mechanism(config, folder.path, num_people)


class _Clients:
    """What clients compute in TFF's workers: training and scoring."""

    def __init__(self, network: Network, size: WeightShapes, config: RunConfig, runtime: Runtime):
        self._config, self._runtime = config, runtime
        batch = keras_signatures(network, config.client.batch_size)["train"].inputs[:-1]  # without the learning rate
        self._names = tuple(spec.name for spec in batch)
        data_type = examples_type({spec.name: (_DTYPES[spec.dtype], spec.shape) for spec in batch})
        self._training = map_training(build_training(network), size, data_type)
        self._scoring = map_scoring(build_scoring(network), size, data_type)

    def batches(self, examples: Examples, rng: Optional[np.random.Generator]) -> ExampleBatches:
        """Returns a client's batches of one round; without a generator, those to score it on."""
        client = self._config.client
        return build_example_batches(
            examples,
            batch_size=client.batch_size,
            max_examples=None if rng is None else client.max_sentences,
            epochs=1 if rng is None else client.epochs,
            rng=rng,
        )

    def train(
        self, weights: Weights, learning_rate: float, seed: int, batches: Iterable[ExampleBatches]
    ) -> Iterator[ClientResult]:
        """See orchestrator.rounds.types.RoundFunctions.train_clients."""
        server_args = (weights, np.float32(learning_rate), np.int32(seed))
        per_call = self._config.runtime.clients_per_call
        return self._runtime.map_clients(self._training, server_args, map(self._in_order, batches), per_call)

    def score(self, weights: Weights, people: People) -> PeopleScores:
        """Returns how well the weights do for some people, by federated evaluation."""
        batches = (self._in_order(self.batches(own, None)) for own in people.values())
        per_call = 10 * self._config.runtime.clients_per_call
        return people_scores(
            tuple(people), list(self._runtime.map_clients(self._scoring, (weights,), batches, per_call))
        )

    def _in_order(self, batches: ExampleBatches) -> collections.OrderedDict[str, np.ndarray]:
        return collections.OrderedDict((name, batches.arrays[name]) for name in self._names)


class _Rounds:
    """Runs rounds one by one, and keeps what each leaves."""

    def __init__(
        self,
        config: RunConfig,
        functions: RoundFunctions[ExampleBatches],
        clients: _Clients,
        people: Sequence[ClientId],
        test: People,
        folder: Optional[RunFolder],
        observer: Observer,
    ):
        self._config, self._functions, self._clients = config, functions, clients
        self._plan, self._test = everybody(config, people), test
        self._folder, self._observer, self._clock = folder, observer, WallClock()
        self.scores: Optional[PeopleScores] = None  # of the last round
        self.lines: list[Round] = list(folder.rounds()) if folder is not None else []

    def run_one(self, state: ServerState) -> tuple[ServerState, RoundReport]:
        """Computes the next round, and returns the state after it and its report."""
        config, round_num, started = self._config, state.round_num + 1, time.perf_counter()
        plan = self._plan(round_num)
        client_rate, server_rate = learning_rates(config, round_num)
        try:
            after, report = run_round(
                state,
                plan.cohort,
                self._functions,
                seed=config.seed,
                client_learning_rate=client_rate,
                server_learning_rate=server_rate,
                stopwatch=self._clock,
                drops=plan.drops,
            )
        except PrivacyStop:
            if self._folder is not None:
                self._folder.save_checkpoint(state, config.rounds.keep_checkpoints)  # the last that may be used
            raise
        if not all(np.isfinite(tensor).all() for tensor in after.weights):
            raise Diverged(f"round {round_num} leads to weights that are not finite: lower server.learning_rate")
        scored = self._evaluate(after)
        report = dataclasses.replace(report, stage_s=self._clock.take(), metrics={**report.metrics, **(scored or {})})
        self._keep(after, report, round(time.perf_counter() - started, 4))
        self._observer.round_done(report, scored)
        return after, report

    def _keep(self, state: ServerState, report: RoundReport, wall_s: float) -> None:
        if self._folder is None:
            self.lines.append(line_of(report, wall_s))
            return
        self.lines.append(self._folder.append_round(report, wall_s))
        if keeps_checkpoint(self._config.rounds, state.round_num):
            self._folder.save_checkpoint(state, self._config.rounds.keep_checkpoints)

    def _evaluate(self, state: ServerState) -> Optional[Mapping[str, float]]:
        """Returns the test people's figures, if they are due after this round."""
        every, last = self._config.evaluation.every, self._config.rounds.count
        if not self._test or (state.round_num != last and state.round_num % every):
            return None
        with self._clock.stage("evaluate"):
            self.scores = self._clients.score(state.model, self._test)
        return {f"test_{self.scores.name}": self.scores.pooled, "test_loss": self.scores.loss}
