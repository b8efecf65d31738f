"""Runs the rounds of a server whose clients are other processes, by orchestrator/rounds/round.py."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from models.vocabulary import Vocabulary
from models.weights import ModelSize, Weights, weights_to_bytes
from orchestrator.aggregator import Cohort, CostLedger
from orchestrator.errors import RunFolderError
from orchestrator.network import messages
from orchestrator.network.hub import Connection
from orchestrator.network.network_sum import NetworkSum
from orchestrator.network.session import Note, Party, Session
from orchestrator.network.suspects import Suspects
from orchestrator.rounds.build import NoStopwatch, build_encoder, build_groups, learning_rates
from orchestrator.rounds.round import run_round, weights_digest
from orchestrator.rounds.sums import SUMS
from orchestrator.rounds.types import RoundFunctions, RoundReport, ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.run.loop import run_rounds
from orchestrator.settings.run_config import RunConfig
from orchestrator.wire import encode

UpdateServer = Callable[[Any, Weights, Weights, float], tuple[Any, Weights]]  # as in RoundFunctions


def setup_message(config: RunConfig, vocabulary: Vocabulary) -> bytes:
    """Returns the bytes of the Setup, which each client receives first."""
    return encode(messages.Setup(msgspec.json.encode(config), list(vocabulary.words)))


def max_client_bytes(config: RunConfig, size: ModelSize) -> int:
    """Returns the most bytes that a client of the run may send in one message."""
    num_slots = build_encoder(config, size).num_slots
    vector_bytes = SUMS[config.aggregation.aggregator].upload_bytes(config.aggregation, num_slots)
    return max(vector_bytes, 512 * config.rounds.cohort_size) + messages.ENVELOPE_BYTES


def serve_rounds(
    folder: RunFolder,
    config: RunConfig,
    state: ServerState,
    update_server: UpdateServer,
    party: Party,
) -> ServerState:
    """Runs the rounds that are left, with the clients that are connected, and returns the state after the last one.

    Args:
      folder: the folder of a run that was begun; each round is added to it.
      config: the run's configuration.
      state: the state after the last round that was done.
      update_server: as in orchestrator.rounds.types.RoundFunctions.
      party: the connections, the deadlines, the decryptor and the helpers.

    Raises:
      BelowThreshold: round after round is abandoned.
    """
    return run_rounds(state, config.rounds.count, _Rounds(folder, config, state, update_server, party).run_one)


class _Rounds:
    """Runs rounds one by one with the clients who are connected, and keeps what each leaves."""

    def __init__(
        self, folder: RunFolder, config: RunConfig, state: ServerState, update_server: UpdateServer, party: Party
    ):
        self._folder, self._config, self._party, self._update_server = folder, config, party, update_server
        self._encoder = build_encoder(config, ModelSize.of(state.weights, config.model.kind))
        party.progress.resume(folder.rounds())
        self._suspects = Suspects(folder.suspects_path)
        if self._suspects.struck:
            party.note(f"{folder.suspects_path} has struck off {', '.join(sorted(self._suspects.struck))}")
        self._expected = config.rounds.cohort_size  # how many clients the next round waits for

    def run_one(self, state: ServerState) -> tuple[ServerState, RoundReport]:
        """Returns the state after the next round, and its report."""
        config, party, round_num = self._config, self._party, state.round_num + 1
        connections, self._expected = _gather(config, party, round_num, self._expected, self._suspects)
        started = time.perf_counter()
        client_rate, server_rate = learning_rates(config, round_num)
        self._folder.begin_round(round_num)
        plan = messages.Plan(round_num, client_rate, memoryview(weights_to_bytes(state.weights)))
        session = Session(party, connections, round_num)
        encoder = self._encoder
        aggregator = NetworkSum(
            config.aggregation, party, session, plan, encoder.num_slots, encoder.check_sum, self._suspects
        )
        state, report = run_round(
            state,
            Cohort(round_num, tuple(session.members), config.aggregation.min_survivors),
            RoundFunctions(
                # The clients do these, in their own processes.
                batches_of=_elsewhere,
                train_clients=_elsewhere,
                weight_of=_elsewhere,
                encoder=encoder,
                aggregator=aggregator,
                update_server=self._update_server,
                average_decay=config.server.average_decay,
                groups=build_groups(config.aggregation),
            ),
            seed=config.seed,
            client_learning_rate=client_rate,
            server_learning_rate=server_rate,
            stopwatch=NoStopwatch(),
        )
        report = _as_server_sees(report, session)
        line = self._folder.append_round(report, wall_s=round(time.perf_counter() - started, 4))
        self._folder.save_checkpoint(state, config.rounds.keep_checkpoints)  # a round can't be done again
        party.progress.end_round(line)
        party.note(_summary(report, config.rounds.count, time.perf_counter() - started))
        return state, report


def void_unfinished(folder: RunFolder, config: RunConfig, state: ServerState, note: Note) -> ServerState:
    """Returns the state with which a resumed run goes on: after all rounds that clients have heard of.

    A round that was begun and has no checkpoint may have been summed before the server stopped. It is void: its number
    is never asked for again, and its line says so.

    Args:
      folder: of the run; lines after the state's round are replaced.
      config: the run's configuration.
      state: of the newest checkpoint.
      note: called with a line for each void round.

    Raises:
      RunFolderError: the folder says that a round was begun which the run has not.
    """
    begun, last = folder.last_begun(), state.round_num
    if begun > config.rounds.count:
        raise RunFolderError(
            f"{folder.path / 'begun.txt'} names round {begun} of a run of {config.rounds.count}: restore it, or write "
            "into it the last round that was begun"
        )
    folder.forget_rounds_after(last)
    why = "the server stopped before it had kept the round: its updates are void"
    for round_num in range(last + 1, begun + 1):
        state = dataclasses.replace(state, round_num=round_num)
        digest, reason = weights_digest(state.model), f"round {round_num}: {why}"
        report = RoundReport(round_num, "abandoned", (), (), {}, {}, CostLedger(), digest, reason)
        folder.append_round(report, wall_s=0.0)
        note(_summary(report, config.rounds.count, 0.0))
    if state.round_num > last:
        folder.save_checkpoint(state, config.rounds.keep_checkpoints)
    return state


def _elsewhere(*_: object) -> NoReturn:
    raise AssertionError("clients train in their own processes")


def _gather(
    config: RunConfig, party: Party, round_num: int, expected: int, suspects: Suspects
) -> tuple[list[Connection], int]:
    """Waits for clients; returns a cohort of them, and how many to wait for the next time.

    The operating system's randomness draws the cohort. The next round does not wait for clients that this round waited
    for in vain.
    """
    party.progress.wait(round_num)
    cohort_size = config.rounds.cohort_size
    least = max(SUMS[config.aggregation.aggregator].least_cohort, config.aggregation.min_survivors)
    least *= config.aggregation.groups
    while True:
        idle = party.hub.wait_for_clients(max(expected, least), least, party.deadlines.clients_s)
        names = suspects.candidates([connection.client_id for connection in idle], least)
        if len(names) >= least:
            allowed = [connection for connection in idle if connection.client_id in names]
            chosen = secrets.SystemRandom().sample(allowed, min(cohort_size, len(allowed)))
            return sorted(chosen, key=lambda connection: connection.client_id), min(cohort_size, len(idle))
        party.note(f"round {round_num} waits for clients: {least} are needed, {cohort_size} wanted")


def _as_server_sees(report: RoundReport, session: Session) -> RoundReport:
    """Returns the report without the figures that only clients know, and with the times that only this server knows."""
    metrics = {name: value for name, value in report.metrics.items() if name == "update_norm"}
    return dataclasses.replace(report, metrics=metrics, stage_s=session.stage_s)


def _summary(report: RoundReport, num_rounds: int, wall_s: float) -> str:
    if report.outcome != "completed":
        return f"round {report.round_num} of {num_rounds} abandoned: {report.reason}"
    num, of = len(report.survivors), len(report.selected)
    return f"round {report.round_num} of {num_rounds}: sum of {num} of {of} clients, {wall_s:.1f} s"
