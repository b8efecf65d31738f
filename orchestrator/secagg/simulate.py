"""Runs secure aggregation of a whole cohort in one process: the aggregator that training uses.

The clients and the server are those of client.py and server.py, and every message passes between them as bytes, so the
sum, the refusals and the costs are those of a run over a network. Vectors are masked and handed over one at a time:
each client adds only its keys and shares to the memory in use.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Optional, TypeVar, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.aggregator import (
    AggregateResult,
    Cohort,
    CostLedger,
    DropStage,
    StageCost,
    Vector,
    require_survivors,
)
from orchestrator.masks import Mask, add_masks
from orchestrator.secagg import keys
from orchestrator.secagg.client import Client
from orchestrator.secagg.errors import TooFewPeers
from orchestrator.secagg.graph import Policy
from orchestrator.secagg.messages import STAGES
from orchestrator.secagg.server import Outbox, Server

Observer = Callable[[str, ClientId, bytes], None]  # (stage, client, message that the server received)
Answer = Callable[[Client, bytes], bytes]
R = TypeVar("R")


class SecAgg:
    """Sums vectors so that the server learns the sum only.

    A client that drops out BEFORE_SHARES has advertised its keys; BEFORE_UPLOAD it has also shared its secrets;
    BEFORE_UNMASK its vector has arrived and counts.

    Args:
      policy: the policy of the server and of all clients; None takes the defaults.
      num_threads: the threads that add and remove masks; None takes one for each CPU.
      observer: called with every message that the server receives.
    """

    name = "secagg"

    def __init__(
        self, policy: Optional[Policy] = None, num_threads: Optional[int] = None, observer: Optional[Observer] = None
    ):
        self._policy = policy or Policy()
        self._num_threads = num_threads or os.cpu_count() or 1
        self._observer = observer
        self._identities: dict[ClientId, Ed25519PrivateKey] = {}  # a device keeps its own from round to round
        self._seen_sessions: dict[ClientId, set[bytes]] = defaultdict(set)

    def __repr__(self) -> str:
        return f"SecAgg({self._policy})"

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """Returns the sum over the survivors; see orchestrator.aggregator.Aggregator.

        Raises:
          BelowThreshold: fewer clients are left than the cohort's minimum or the policy's threshold.
          WeakParameters: the cohort is too small for the policy.
        """
        remaining = iter(vectors)
        first = next(remaining, None)  # asked for before the session opens, since its length is bound into it
        if first is None:
            require_survivors((), cohort)
        assert first is not None
        num_slots, vectors = first[1].size, chain(iter([first]), remaining)
        del first  # nor does chain hold it once it is past: one vector at a time
        return _Round(self, cohort, drops, num_slots).run(vectors)


class _Round:
    """One session: the server, its clients and the meter."""

    def __init__(self, owner: SecAgg, cohort: Cohort, drops: Mapping[ClientId, DropStage], num_slots: int):
        self._members = cohort.members
        self._drops = drops
        self._observer = owner._observer
        for member in cohort.members:
            if member not in owner._identities:
                owner._identities[member] = Ed25519PrivateKey.generate()
        identities = [owner._identities[member] for member in cohort.members]
        public = [identity.public_key().public_bytes_raw() for identity in identities]
        self._meter = _Meter(_SharedOperations(owner._num_threads))
        enrolled, operations = frozenset(public), self._meter.operations
        self._clients = [
            Client(identity, enrolled, owner._policy, owner._seen_sessions[member], operations=operations)
            for member, identity in zip(cohort.members, identities)
        ]
        self._server = Server(
            public, num_slots, owner._policy, cohort.round_num, cohort.min_survivors, owner._num_threads
        )

    def run(self, vectors: Iterable[tuple[ClientId, Vector]]) -> AggregateResult:
        server = self._server
        self._exchange("advertise", server.invitations, Client.advertise)
        self._exchange("shares", server.rosters, Client.share, vanishing=DropStage.BEFORE_SHARES)
        self._upload(vectors)
        self._exchange("consistency", server.survivors, Client.consent, vanishing=DropStage.BEFORE_UNMASK)
        self._exchange("unmask", server.requests, Client.unmask)
        with self._meter.server("unmask"):
            total, alive = server.total()
        survivors = tuple(self._members[index] for index in alive)
        return AggregateResult(total, survivors, self._meter.ledger())

    def _exchange(
        self,
        stage: str,
        open_stage: Callable[[], Outbox],
        answer: Answer,
        vanishing: Optional[DropStage] = None,
    ) -> None:
        """Gives each client of the stage one message, and takes its answer unless it has vanished by then."""
        for index, wire in self._outgoing(stage, open_stage):
            if vanishing is None or self._drops.get(self._members[index]) is not vanishing:
                self._answer(stage, index, wire, answer)

    def _upload(self, vectors: Iterable[tuple[ClientId, Vector]]) -> None:
        """Runs the stage in which each client, in the cohort's order, masks its vector and hands it over.

        The deliveries wait meanwhile, since a vector may come late; they hold shares, not vectors.
        """
        deliveries = dict(self._outgoing("upload", self._server.deliveries))
        places = {member: index for index, member in enumerate(self._members)}
        for member, vector in vectors:
            wire = deliveries.pop(places[member], None)
            if wire is not None and self._drops.get(member) is not DropStage.BEFORE_UPLOAD:
                self._answer("upload", places[member], wire, partial(Client.mask, vector=vector))

    def _outgoing(self, stage: str, open_stage: Callable[[], Outbox]) -> Iterator[tuple[int, bytes]]:
        with self._meter.server(stage):
            outbox = open_stage()
        while True:
            with self._meter.server(stage):
                message = next(outbox, None)
            if message is None:
                return
            self._meter.sent(stage, message[1])
            yield message

    def _answer(self, stage: str, index: int, wire: bytes, answer: Answer) -> None:
        try:
            with self._meter.client(stage):
                reply = answer(self._clients[index], wire)
        except TooFewPeers:  # too many have dropped out around this client, so it stops as well
            return
        if self._observer is not None:
            self._observer(stage, self._members[index], reply)
        with self._meter.server(stage):
            self._server.receive(index, reply)
        self._meter.answered(stage, reply, wire)


class _SharedOperations(keys.Operations):
    """Computes once what several clients of a session compute, and masks on all cores.

    A result is found by all the bytes that it depends on, so that a client for which one byte differs gets its own.

    Attributes:
      spared_s: seconds of CPU that a client working alone would have spent and this thread did not, to be charged to
        the client that asked: for results that were at hand, and of the threads that masked with it.
    """

    def __init__(self, num_threads: int = 1) -> None:
        self.spared_s = 0.0
        self._num_threads = num_threads
        self._public: dict[X25519PrivateKey, bytes] = {}  # of each private key its other half
        self._known: dict[Hashable, tuple[object, float]] = {}  # (result, seconds of CPU) of an operation

    def is_signed(
        self, signature: bytes, identity: bytes, purpose: bytes, session: bytes, sender: int, body: bytes
    ) -> bool:
        signed = (signature, identity, purpose, session, sender, body)
        return self._once(signed, lambda: keys.is_signed(*signed))

    def exchange(self, private: X25519PrivateKey, public: bytes) -> bytes:
        if private not in self._public:
            self._public[private] = private.public_key().public_bytes_raw()
        return self._once(frozenset((self._public[private], public)), lambda: keys.exchange(private, public))

    def add_masks(self, vector: NDArray[np.uint32], masks: Iterable[Mask]) -> None:
        self.spared_s += add_masks(vector, masks, self._num_threads)

    def _once(self, what: Hashable, compute: Callable[[], R]) -> R:
        if what in self._known:
            result, cpu_s = self._known[what]
            self.spared_s += cpu_s
            return cast(R, result)
        started = time.thread_time()
        result = compute()
        self._known[what] = result, time.thread_time() - started
        return result


class _Meter:
    """Counts bytes and CPU seconds by stage and role."""

    def __init__(self, operations: _SharedOperations) -> None:
        self._num_clients: dict[str, int] = defaultdict(int)
        self._bytes_up: dict[str, int] = defaultdict(int)
        self._bytes_down: dict[str, int] = defaultdict(int)
        self._sent_bytes: dict[str, int] = defaultdict(int)
        self._client_cpu_s: dict[str, float] = defaultdict(float)
        self._server_cpu_s: dict[str, float] = defaultdict(float)
        self.operations = operations

    @contextmanager
    def client(self, stage: str) -> Iterator[None]:
        started, spared = time.thread_time(), self.operations.spared_s
        yield
        self._client_cpu_s[stage] += time.thread_time() - started + self.operations.spared_s - spared

    @contextmanager
    def server(self, stage: str) -> Iterator[None]:
        started = time.process_time()  # of all threads: the server uses several
        yield
        self._server_cpu_s[stage] += time.process_time() - started

    def sent(self, stage: str, wire: bytes) -> None:
        """Counts a message that left the server, whether or not the client is still there."""
        self._sent_bytes[stage] += len(wire)

    def answered(self, stage: str, reply: bytes, wire: bytes) -> None:
        """Counts the message `wire` that a client took, and its answer."""
        self._num_clients[stage] += 1
        self._bytes_up[stage] += len(reply)
        self._bytes_down[stage] += len(wire)

    def ledger(self) -> CostLedger:
        """Returns the costs: a client's are the mean over those that answered in the stage, the server's the total."""
        per_client, server = {}, {}
        for stage in STAGES:
            count = self._num_clients[stage]
            per_client[stage] = StageCost(
                bytes_up=self._bytes_up[stage] / count,
                bytes_down=self._bytes_down[stage] / count,
                cpu_s=self._client_cpu_s[stage] / count,
            )
            server[stage] = StageCost(
                bytes_up=self._sent_bytes[stage],
                bytes_down=self._bytes_up[stage],
                cpu_s=self._server_cpu_s[stage],
            )
        return CostLedger(per_client=per_client, server=server)
