"""Binds the steps of a round to one run: its text, workers, phones, aggregator, optimiser and noise."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Callable, Optional

import numpy as np

from edge.clients.litert import LiteRtClients, build_clients
from models.batches import Batches
from models.client_data import ClientData
from models.client_result import ClientResult
from models.vocabulary import EOS
from models.weights import ModelSize, Weights
from orchestrator.aggregator import Aggregator
from orchestrator.fleet.source import FleetSource
from orchestrator.rounds.build import (
    build_adaptive_clip,
    build_aggregator,
    build_encoder,
    build_groups,
    client_weight,
    cut,
    draw_batches,
    first_weights,
    learning_rates,
    model_size,
)
from orchestrator.rounds.cohort import CohortSource, everybody, without
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.rounds.fedbuff import buffered_functions, remember
from orchestrator.rounds.round import abandon_round, run_round
from orchestrator.rounds.server_optimizer import build_optimizer, steps_of
from orchestrator.rounds.types import Privacy, RoundFunctions, RoundReport, ServerState, Stopwatch
from orchestrator.run.canary_clients import build_canaries, drawn_people
from orchestrator.settings.kinds import CLIENT_RUNTIMES
from orchestrator.settings.run_config import RunConfig
from tff_pipelines.client_work import build_client_work
from tff_pipelines.evaluation import build_evaluation, build_word_counts
from tff_pipelines.runtime import Runtime
from tff_pipelines.server_update import ServerOptimizer


@contextlib.contextmanager
def bind_run(
    config: RunConfig,
    data: ClientData,
    privacy: Optional[Privacy],
    note: Callable[[str], None],
    first: Optional[Weights] = None,
) -> Iterator[BoundRun]:
    """Opens a context with what computes the rounds of an existing run, to replay them; it writes nothing."""
    size = model_size(config.model, data.vocabulary.size)
    with contextlib.ExitStack() as stack:
        note("starting the TFF workers")
        runtime = stack.enter_context(Runtime(config.runtime.workers))
        phones = build_phones(stack, config, size, runtime, note)
        fleet = build_fleet(config, size, data)
        aggregator, optimizer = build_aggregator(config.aggregation), build_optimizer(config.server)
        yield BoundRun(config, data, size, aggregator, optimizer, runtime, phones, privacy, fleet, first)


def build_fleet(config: RunConfig, size: ModelSize, data: ClientData) -> Optional[FleetSource]:
    """Returns the simulated fleet, which goes through its rounds from the first; None if the run has none."""
    return FleetSource(config, size, data.train) if config.fleet.kind.has_fleet else None


def build_phones(
    stack: contextlib.ExitStack, config: RunConfig, size: ModelSize, runtime: Runtime, note: Callable[[str], None]
) -> Optional[LiteRtClients]:
    """Returns the LiteRT clients if the configuration wants them, else None; the stack closes them."""
    if not CLIENT_RUNTIMES[config.client.runtime].is_exported:
        return None
    note("exporting the model for LiteRT")
    client, num_workers = config.client, len(runtime.workers)
    phones = build_clients(size, config.data.max_words, client.clip_norm, num_workers, client.batch_size)
    return stack.enter_context(phones)


class BoundRun:
    """The steps of a round, bound to a configuration, a text and workers."""

    def __init__(
        self,
        config: RunConfig,
        data: ClientData,
        size: ModelSize,
        aggregator: Aggregator,
        optimizer: ServerOptimizer,
        runtime: Runtime,
        phones: Optional[LiteRtClients] = None,
        privacy: Optional[Privacy] = None,
        plan: Optional[CohortSource] = None,
        first: Optional[Weights] = None,  # the weights before round 1 of a run that has a start
    ):
        self._config, self._size, self._runtime, self._first = config, size, runtime, first
        self._phones = phones
        self._sentences = {person: cut(own, size.vocabulary_size) for person, own in data.train.items()}
        server, time_steps = config.server, config.data.max_words
        self._first_optimizer_state, update_server = steps_of(optimizer, size)
        self._vocabulary_size = data.vocabulary.size
        self._plan = plan or without(everybody(config, drawn_people(config, data)), tuple(data.gone.values()))
        self._dev = evaluation_batches(data.dev, time_steps, config.evaluation.max_sentences)
        self._functions = RoundFunctions(
            batches_of=lambda person, rng: draw_batches(config, self._sentences[person], rng),
            train_clients=phones.train if phones else self._train_clients,
            weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
            encoder=build_encoder(config, size),
            aggregator=aggregator,
            update_server=update_server,
            average_decay=server.average_decay,
            privacy=privacy,
            adaptive_clip=build_adaptive_clip(config.privacy, config.aggregation),
            canaries=build_canaries(config, size),
            groups=build_groups(config.aggregation),
        )

    def initial_state(self) -> ServerState:
        """Returns the state before the first round. While the workers count words, what they do next is built."""
        if not self._config.model.counts_words:
            counts = None
        else:
            count = build_word_counts(self._size.vocabulary_size)
            with futures.ThreadPoolExecutor(1) as beside:
                counting = beside.submit(self._word_counts, count)
                self.build_client_work()
                counts = counting.result()
        weights = self._first or first_weights(self._config, self._size, counts)
        return ServerState(0, weights, self._first_optimizer_state())

    def build_client_work(self) -> None:
        """Builds what trains clients in TFF, unless it is built, or LiteRT trains them.

        It takes half a second, and else it is built in the first round.
        """
        if not self._phones:
            _ = self._client_work

    @functools.cached_property
    def _client_work(self) -> Callable:
        client, time_steps, frozen = self._config.client, self._config.data.max_words, self._config.model.frozen_names
        return build_client_work(self._size, time_steps, client.clip_norm, client.proximal, client.dropout, frozen)

    def run_round(self, state: ServerState, clock: Stopwatch) -> tuple[ServerState, RoundReport]:
        """Returns the state after the next round, and its report."""
        config, round_num = self._config, state.round_num + 1
        plan = self._plan(round_num)
        if plan.reason:
            after, report = abandon_round(state, plan.cohort, plan.reason)
            return remember(after, state, plan.versions_kept), dataclasses.replace(report, fleet=plan.fleet)
        client_learning_rate, server_learning_rate = learning_rates(config, round_num)
        functions = self._functions
        if config.fleet.kind.is_buffered:
            functions = buffered_functions(functions, plan.cohort, state, config.fleet.staleness_exponent)
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

    @functools.cached_property
    def _evaluation(self) -> Callable:
        """The computation of evaluate_dev, built when rounds are under way: the first one need not wait for it."""
        return build_evaluation(self._size, self._config.data.max_words, self._vocabulary_size)

    def evaluate_dev(self, weights: Weights) -> dict[str, float]:
        """Returns the pooled figures of the dev people, by federated evaluation."""
        sums = federated_sums(
            self._runtime, self._evaluation, weights, self._dev, self._config.runtime.clients_per_call
        )
        positions = max(1, int(sums.positions.sum()))
        return {
            "dev_top1": float(sums.hits1.sum() / positions),
            "dev_top3": float(sums.hits3.sum() / positions),
            "dev_loss": float(sums.nll_sum_nats.sum() / positions),
            "dev_people": float(np.count_nonzero(sums.positions)),
        }

    def _word_counts(self, count: Callable) -> np.ndarray:
        """Returns how often each id is a target, float64 [V]: a federated sum, in calls of many clients.

        count: from build_word_counts.
        """
        end = np.array([EOS], np.int32)
        targets = [
            np.concatenate([part for s in own for part in (s, end)], dtype=np.int32) for own in self._sentences.values()
        ]
        total = np.zeros(self._size.vocabulary_size, np.float64)
        for i in range(0, len(targets), 100):
            total += self._runtime.invoke(count, targets[i : i + 100])
        return total

    def _train_clients(
        self, weights: Weights, learning_rate: float, seed: int, batches: Iterable[Batches]
    ) -> Iterator[ClientResult]:
        server_args = (weights, np.float32(learning_rate), np.int32(seed))
        return self._runtime.map_clients(self._client_work, server_args, batches, self._config.runtime.clients_per_call)
