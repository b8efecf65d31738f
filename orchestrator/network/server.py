"""The rounds of a server whose clients are other processes: the same road as orchestrator/rounds/round.py."""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from models.corpus import ClientId
from models.vocabulary import Vocabulary
from models.weights import ModelSize, Weights, weights_to_bytes
from orchestrator.aggregator import AggregateResult, Cohort, DropStage, StageCost, Vector
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic.aggregator import CiphertextAggregator
from orchestrator.homomorphic.errors import SpoiledSum
from orchestrator.network import messages
from orchestrator.network.hub import Connection
from orchestrator.network.session import Party, Session
from orchestrator.network.suspects import Suspects
from orchestrator.rounds.build import NoStopwatch, build_encoder, learning_rates
from orchestrator.rounds.round import RoundFunctions, RoundReport, ServerState, run_round
from orchestrator.rounds.sums import SUMS, secagg_policy
from orchestrator.run.folder import RunFolder
from orchestrator.secagg.errors import ClientRefused, RecoveryFailed, WeakParameters
from orchestrator.secagg.graph import Policy, graph_parameters
from orchestrator.secagg.server import Outbox
from orchestrator.secagg.server import Server as SecAggServer
from orchestrator.settings.run_config import RunConfig
from orchestrator.wire import encode

_MAX_ABANDONED = 10  # rounds in a row, after which a run is hopeless


def setup_message(config: RunConfig, vocabulary: Vocabulary) -> bytes:
    """What each client is sent first."""
    return encode(messages.Setup(msgspec.json.encode(config), list(vocabulary.words)))


def max_client_bytes(config: RunConfig, size: ModelSize) -> int:
    """The longest message that a client of the run may send."""
    num_slots = build_encoder(config, size).num_slots
    vector_bytes = SUMS[config.aggregation.aggregator].upload_bytes(config.aggregation, num_slots)
    return max(vector_bytes, 512 * config.rounds.cohort_size) + messages.ENVELOPE_BYTES


def serve_rounds(
    folder: RunFolder,
    config: RunConfig,
    state: ServerState,
    update_server: Callable[[Any, Weights, Weights, float], tuple[Any, Weights]],
    party: Party,
) -> ServerState:
    """Runs the rounds that are left, with whoever is connected; the state after the last one.

    Args:
      folder: of a run that was begun; each round is added to it.
      config: of the run.
      state: where it stands.
      update_server: as in orchestrator.rounds.round.RoundFunctions.
      party: connections, deadlines.

    Raises:
      BelowThreshold: round after round is abandoned.
    """
    rounds, encoder, num_abandoned = config.rounds, build_encoder(config, ModelSize.of(state.weights)), 0
    expected, suspects = rounds.cohort_size, Suspects()
    while state.round_num < rounds.count:
        round_num = state.round_num + 1
        connections, expected = _gather(config, party, round_num, expected, suspects)
        started = time.perf_counter()
        client_rate, server_rate = learning_rates(config, round_num)
        plan = messages.Plan(round_num, client_rate, memoryview(weights_to_bytes(state.weights)))
        session = Session(party, connections, round_num)
        aggregator = _NetworkSum(config, party, session, encode(plan), encoder.num_slots, suspects)
        functions = RoundFunctions(
            # The clients do these, in their own processes.
            batches_of=_elsewhere,
            train_clients=_elsewhere,
            weight_of=_elsewhere,
            encoder=encoder,
            aggregator=aggregator,
            update_server=update_server,
            average_decay=config.server.average_decay,
        )
        state, report = run_round(
            state,
            Cohort(round_num, tuple(session.members), config.aggregation.min_survivors),
            functions,
            seed=config.seed,
            client_learning_rate=client_rate,
            server_learning_rate=server_rate,
            stopwatch=NoStopwatch(),
        )
        report = _told_by_server(report, session)
        folder.append_round(report, wall_s=round(time.perf_counter() - started, 4))
        if round_num == rounds.count or round_num % rounds.checkpoint_every == 0:
            folder.save_checkpoint(state, rounds.keep_checkpoints)
        party.note(_summary(report, rounds.count, time.perf_counter() - started))
        num_abandoned = 0 if report.outcome == "completed" else num_abandoned + 1
        if num_abandoned == _MAX_ABANDONED:
            raise BelowThreshold(f"{num_abandoned} rounds in a row were abandoned, the last because: {report.reason}")
    return state


def _elsewhere(*_: Any) -> Any:
    raise AssertionError("clients train in their own processes")


def _gather(
    config: RunConfig, party: Party, round_num: int, expected: int, suspects: Suspects
) -> tuple[list[Connection], int]:
    """A cohort of those who are there, drawn by the operating system's randomness; waits for as many as expected.

    Beside it how many to wait for the next time: who was waited for in vain is not waited for again.
    """
    cohort_size = config.rounds.cohort_size
    least = max(SUMS[config.aggregation.aggregator].least_cohort, config.aggregation.min_survivors)
    while True:
        idle = party.hub.wait_for_clients(max(expected, least), least, party.deadlines.clients_s)
        names = suspects.candidates([connection.client_id for connection in idle], least)
        if len(names) >= least:
            allowed = [connection for connection in idle if connection.client_id in names]
            chosen = secrets.SystemRandom().sample(allowed, min(cohort_size, len(allowed)))
            return sorted(chosen, key=lambda connection: connection.client_id), min(cohort_size, len(idle))
        party.note(f"round {round_num} waits for clients: {least} are needed, {cohort_size} wanted")


def _told_by_server(report: RoundReport, session: Session) -> RoundReport:
    """The report without the figures that only clients know, with the times that only this server knows."""
    metrics = {name: value for name, value in report.metrics.items() if name == "update_norm"}
    return dataclasses.replace(report, metrics=metrics, stage_s=session.stage_s)


def _summary(report: RoundReport, num_rounds: int, wall_s: float) -> str:
    if report.outcome != "completed":
        return f"round {report.round_num} of {num_rounds} abandoned: {report.reason}"
    num, of = len(report.survivors), len(report.selected)
    return f"round {report.round_num} of {num_rounds}: sum of {num} of {of} clients, {wall_s:.1f} s"


class _NetworkSum:
    """The sum of one round, as an Aggregator whose vectors are made and masked by the clients."""

    def __init__(
        self,
        config: RunConfig,
        party: Party,
        session: Session,
        plan: bytes,
        num_slots: int,
        suspects: Suspects,
    ):
        self.name: str = config.aggregation.aggregator
        self._config, self._party, self._session = config, party, session
        self._plan, self._num_slots, self._suspects = plan, num_slots, suspects
        self._agreed = messages.agreed_digest(party.hub.setup, plan)

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """The sum of whoever stays to the end. `vectors` is not asked for one: no vector ever comes here."""
        trained = self._session.train(self._plan)
        return PROTOCOLS[self.name](self, trained, cohort)

    def _secagg(self, trained: Sequence[ClientId], cohort: Cohort) -> AggregateResult:
        policy, session = secagg_policy(self._config.aggregation), self._session
        members = trained[: largest_cohort(len(trained), policy)]
        if len(members) < cohort.min_survivors:
            raise BelowThreshold(f"round {cohort.round_num}: {len(trained)} clients trained, too few to hide in")
        identities, places = [self._party.roster[m] for m in members], {m: i for i, m in enumerate(members)}
        server = SecAggServer(
            identities,
            self._num_slots,
            policy,
            cohort.round_num,
            cohort.min_survivors,
            os.cpu_count() or 1,
            self._agreed,
        )

        def take(member: ClientId, body: bytes) -> None:
            server.receive(places[member], body)

        for stage, open_stage in (
            ("advertise", server.invitations),
            ("shares", server.rosters),
            ("upload", server.deliveries),
            ("consistency", server.survivors),
            ("unmask", server.requests),
        ):
            session.ask(stage, partial(_by_name, members, open_stage), take)
        try:
            with session.metered("unmask"):
                total, alive = server.total()
        except RecoveryFailed as error:  # a client's lie ends the round, not the run
            self._strike(members[error.owner], cohort.round_num, "deals shares that recover nothing")
            raise BelowThreshold(f"round {cohort.round_num}: {members[error.owner]}: {error}") from None
        return AggregateResult(total, tuple(members[index] for index in alive), session.ledger({}))

    def _encrypted(self, trained: Sequence[ClientId], cohort: Cohort) -> AggregateResult:
        decryptor, session = self._party.decryptor, self._session
        assert decryptor is not None
        terms = decryptor.open_round(cohort.round_num, self._num_slots)
        aggregator = CiphertextAggregator(terms, decryptor.identity, self._party.roster, self._agreed)

        def take(member: ClientId, body: bytes) -> None:
            upload = aggregator.check(body)
            if upload.contribution.client_id != member:
                raise ClientRefused(f"it sent an upload of {upload.contribution.client_id}")
            aggregator.add(upload)
            summed.add(member)

        summed: set[ClientId] = set()
        session.ask("encrypt", lambda: ((member, terms) for member in trained), take)
        with session.metered("encrypt"):
            total, transcript = aggregator.finish()
        try:
            vector = decryptor.decrypt(total, transcript)
        except SpoiledSum as error:  # a client's lie ends the round, not the run
            self._look_for_spoiler(sorted(summed), cohort.round_num)
            raise BelowThreshold(str(error)) from None
        self._suspects.summed(summed)
        bill = {
            "key": StageCost(bytes_up=len(terms)),
            "decrypt": StageCost(bytes_up=vector.nbytes, bytes_down=len(total) + len(transcript)),
        }
        return AggregateResult(vector, tuple(m for m in trained if m in summed), session.ledger(bill))

    def _look_for_spoiler(self, summed: Sequence[ClientId], round_num: int) -> None:
        known = set(self._suspects.struck)
        self._suspects.spoiled(summed)
        for client_id in self._suspects.struck - known:
            self._strike(client_id, round_num, "spoils every sum that it is in")

    def _strike(self, client_id: ClientId, round_num: int, reason: str) -> None:
        self._suspects.struck.add(client_id)
        self._party.note(f"round {round_num}: {client_id} {reason}: struck off from here on")


# The sums that clients can take part in from other machines.
PROTOCOLS = {"secagg": _NetworkSum._secagg, "encrypted": _NetworkSum._encrypted}


def _by_name(members: Sequence[ClientId], open_stage: Callable[[], Outbox]) -> Iterator[tuple[ClientId, bytes]]:
    """A stage's messages by the clients' names: in the protocol they have numbers."""
    return ((members[index], body) for index, body in open_stage())


def largest_cohort(num_clients: int, policy: Policy) -> int:
    """The most of so many clients that the policy can protect; 0 if none. It may be fewer: rounding has its steps.

    >>> [largest_cohort(n, Policy(dropout_share=0.3)) for n in (2, 3, 4, 5)]
    [0, 3, 3, 5]
    """
    for num in range(num_clients, 2, -1):
        try:
            graph_parameters(num, policy)
        except WeakParameters:
            continue
        return num
    return 0
