"""Holds the server's conversations with its clients in one round."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, Protocol

from models.corpus import ClientId
from orchestrator.aggregator import CostLedger, StageCost, Vector
from orchestrator.homomorphic.errors import HomomorphicError
from orchestrator.network import messages
from orchestrator.network.hub import Connection, Hub
from orchestrator.network.progress import Progress
from orchestrator.secagg.errors import ClientRefused, SecAggError
from orchestrator.split.errors import SplitError
from orchestrator.wire import as_one_line, encode

Take = Callable[[ClientId, bytes], None]  # takes a client's answer, or raises an error of its protocol
_NOTHING: Mapping[str, StageCost] = {}
Note = Callable[[str], None]


@dataclass(frozen=True)
class Deadlines:
    """How long the server waits, in seconds. A client that is later has dropped out of the round, not of the run."""

    clients_s: float = 60.0  # for a full cohort; then a round begins with those who are there, if they are enough
    train_s: float = 600.0
    stage_s: float = 30.0  # of each message of the protocol


class Decryptor(Protocol):
    """The third party of the encrypted sum; orchestrator.network.decryptor reaches it in another process."""

    identity: bytes  # Ed25519 public key

    def open_round(self, round_num: int, num_slots: int) -> bytes:
        """See orchestrator.homomorphic.decryptor.SumDecryptor."""
        ...

    def decrypt(self, total: bytes, transcript: bytes) -> Vector:
        """See orchestrator.homomorphic.decryptor.SumDecryptor."""
        ...


class Helper(Protocol):
    """A holder of mask seeds in the split sum; orchestrator.network.helper reaches it in another process."""

    def open(self, request: bytes) -> bytes:
        """See orchestrator.split.helper.MaskHelper."""
        ...


@dataclass(frozen=True)
class Helpers:
    """The other parties of the split sum.

    Attributes:
      run: 32 bytes that name the run to them and to the clients, from orchestrator.run.identity.run_digest.
      public: their public keys, in their order.
      remotes: themselves, likewise.
    """

    run: bytes
    public: Sequence[bytes]
    remotes: Sequence[Helper]


@dataclass(frozen=True)
class Party:
    """What the server needs besides a run: connections, roster, deadlines, a log, and the decryptor or the helpers.

    progress: what its operator may see meanwhile.
    """

    hub: Hub
    roster: Mapping[ClientId, bytes]
    deadlines: Deadlines
    note: Note
    decryptor: Optional[Decryptor] = None
    helpers: Optional[Helpers] = None
    progress: Progress = field(default_factory=Progress)


class Session:
    """One round's conversations: asks clients, collects answers until the deadline, and meters both.

    Its costs hold what this process can see: the clients' bytes, not their CPU seconds.
    """

    def __init__(self, party: Party, connections: Sequence[Connection], round_num: int):
        self._party, self._round_num = party, round_num
        self.members = {connection.client_id: connection for connection in connections}
        party.progress.begin_round(self.members)
        self.stage_s: dict[str, float] = {}
        self._cpu_s: dict[str, float] = defaultdict(float)
        self._per_client: dict[str, StageCost] = {}
        self._server: dict[str, StageCost] = {}

    def train(self, plan: bytes, members: Iterable[ClientId], take: Optional[Take] = None) -> list[ClientId]:
        """Has members train and returns those that did, in the cohort's order.

        Args:
          plan: the bytes of the Plan.
          members: some of the session's.
          take: takes the uploads, if clients answer the plan with them.
        """
        timeout_s = self._party.deadlines.train_s
        with self.metered("train"):
            trained, received = self._exchange("train", dict.fromkeys(members, plan), take, timeout_s)
        if take is not None:
            self._per_client["upload"] = StageCost(received / max(1, len(trained)))
            self._server["upload"] = StageCost(bytes_down=received)
            self._cpu_s["upload"] = self._cpu_s.pop("train")
        return trained

    def ask(
        self,
        stage: str,
        open_stage: Callable[[], Iterable[tuple[ClientId, bytes]]],
        take: Take,
    ) -> None:
        """Sends each client its message of a stage and takes the answers, until the deadline."""
        with self.metered(stage):
            bodies = dict(open_stage())
            steps = {m: messages.Step(self._round_num, stage, memoryview(body)) for m, body in bodies.items()}
            answered, received = self._exchange(
                stage, {m: encode(step) for m, step in steps.items()}, take, self._party.deadlines.stage_s
            )
        num, sent = max(1, len(answered)), sum(map(len, bodies.values()))
        self._per_client[stage] = StageCost(received / num, sum(len(bodies[m]) for m in answered) / num)
        self._server[stage] = StageCost(sent, received)

    @contextlib.contextmanager
    def metered(self, stage: str) -> Iterator[None]:
        """Adds the time of its block to a stage."""
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.stage_s[stage] = round(self.stage_s.get(stage, 0.0) + time.perf_counter() - started, 4)
            self._cpu_s[stage] += time.process_time() - cpu_started

    def ledger(
        self, decryptor: Mapping[str, StageCost] = _NOTHING, helpers: Mapping[str, StageCost] = _NOTHING
    ) -> CostLedger:
        """Returns the costs since the last call, which are those of one sum.

        Those of the decryptor and of the helpers are given.
        """
        per_client, self._per_client = self._per_client, {}
        server, self._server = self._server, {}
        bill = {stage: dataclasses.replace(cost, cpu_s=self._cpu_s.pop(stage)) for stage, cost in server.items()}
        return CostLedger(per_client, bill, decryptor, helpers)

    def _exchange(
        self, stage: str, sent: Mapping[ClientId, bytes], take: Optional[Take], timeout_s: float
    ) -> tuple[list[ClientId], int]:
        """Returns (the clients whose answers were taken, in the cohort's order; the bytes that they sent)."""
        ticket, received = (self._round_num, stage), 0
        answered, refused = set(), set()
        progress = self._party.progress
        progress.ask(stage, sent)
        asked = [self.members[m] for m, message in sent.items() if self.members[m].ask(ticket, message)]
        for member, reply in self._party.hub.collect(asked, ticket, timeout_s):
            try:
                if isinstance(reply, messages.Decline):
                    raise ClientRefused(f"it declines: {as_one_line(reply.reason)}")
                if take is not None:
                    take(member, bytes(reply.body))
            except (SecAggError, HomomorphicError, SplitError) as error:
                self._party.note(f"round {self._round_num}, {stage}: without {member}: {error}")
                refused.add(member)
                progress.refused(member)
                continue
            received += len(reply.body)
            answered.add(member)
            progress.answered(stage, member, reply.body)
        silent = sorted(set(sent) - answered - refused)
        if silent:
            progress.silent(silent)
            self._party.note(f"round {self._round_num}, {stage}: no answer from {', '.join(silent)}")
        return [member for member in self.members if member in answered], received
