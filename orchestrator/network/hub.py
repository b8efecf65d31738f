"""Keeps the server's connections: knows who is there and who answered in time.

The threads of gRPC and of the web door only carry messages. All decisions are made in the server's one thread, which
asks connections and collects their answers from one queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Callable, Optional, Union

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.signatures import is_signed
from models.corpus import ClientId
from orchestrator.network import messages
from orchestrator.network.certificates import CLIENT
from orchestrator.network.challenges import Challenges
from orchestrator.network.errors import WireError
from orchestrator.network.listening import add_handlers, build_server, listen
from orchestrator.network.tls import Tls, is_caller
from orchestrator.wire import encode

Ticket = tuple[int, str]  # (round, stage) that a question belongs to
Reply = Union[messages.Answer, messages.Decline]


class Traffic:
    """Counts the bytes of one client's messages, over all of its connections. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up = self._down = 0

    def add(self, up: int = 0, down: int = 0) -> None:
        """Adds bytes that came from the client, and bytes that went to it."""
        with self._lock:
            self._up, self._down = self._up + up, self._down + down

    @property
    def total(self) -> tuple[int, int]:
        """The bytes so far, up and down."""
        with self._lock:
            return self._up, self._down


class Connection:
    """One client's stream, over gRPC or WebSocket. The client has one question to answer at a time."""

    def __init__(self, client_id: ClientId, inbox: queue.Queue, hang_up: Callable[[], object], traffic: Traffic):
        self.client_id = client_id
        self._hang_up, self._traffic = hang_up, traffic
        self._inbox = inbox
        self._questions: queue.SimpleQueue[Optional[tuple[Ticket, bytes]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_open, self._is_busy = True, False

    def __repr__(self) -> str:
        return f"Connection({self.client_id!r})"

    @property
    def is_open(self) -> bool:
        """Whether the client is there."""
        return self._is_open

    @property
    def is_idle(self) -> bool:
        """Whether it can be asked: it is open, and every earlier question was answered, in time or late."""
        return self._is_open and not self._is_busy

    def ask(self, ticket: Ticket, message: bytes) -> bool:
        """Sends a message that wants an answer; False if the client is gone or owes an answer."""
        with self._lock:
            if not self.is_idle:
                return False
            self._is_busy = True
            self._questions.put((ticket, message))
            return True

    def close(self) -> None:
        """Marks the client as gone and ends its thread."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._questions.put(None)
                if self._is_busy:  # somebody waits for its answer; else a client that comes and goes would fill memory
                    self._inbox.put((self, None, b""))
                self._hang_up()

    def talk(self, answers: Iterator[bytes]) -> Iterator[bytes]:
        """Sends each question, waits for its answer and hands it over; runs in a thread of the transport's."""
        while True:
            question = self._questions.get()
            if question is None:
                return
            ticket, message = question
            self._traffic.add(down=len(message))
            yield message
            del message, question  # the thread may wait for long: a model is large
            try:
                answer = next(answers)
            except (StopIteration, grpc.RpcError):
                return
            self._traffic.add(up=len(answer))
            self._is_busy = False
            self._inbox.put((self, ticket, answer))


class Hub:
    """Listens, lets enrolled clients in, and keeps their connections, whichever way they came.

    Args:
      roster: the clients that may connect, with their public keys.
      setup: the bytes that each client receives first.
      max_bytes: the most bytes of a client's message.
      challenges: the nonces that clients sign.
    """

    def __init__(
        self,
        roster: Mapping[ClientId, bytes],
        setup: bytes,
        max_bytes: int,
        challenges: Optional[Challenges] = None,
    ):
        self.setup = setup
        self.newest_round = 0  # that clients were asked about
        self.traffic: Mapping[ClientId, Traffic] = {client_id: Traffic() for client_id in roster}
        self._roster = roster
        self._nobody = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        self._inbox: queue.Queue[tuple[Connection, Optional[Ticket], bytes]] = queue.Queue()
        self._connections: dict[ClientId, Connection] = {}
        self._changed = threading.Condition()
        self._challenges = challenges or Challenges()
        # Each stream keeps a thread; the roster bounds their number.
        self._server = build_server(len(roster) + 4, max_bytes)
        handlers = {
            # As a stream of requests that nobody reads: no thread waits for a caller that sends none.
            messages.CHALLENGE: grpc.stream_unary_rpc_method_handler(self._challenge),
            messages.JOIN: grpc.stream_stream_rpc_method_handler(self._join),
        }
        add_handlers(self._server, handlers)

    def listen(self, address: str, tls: Tls) -> int:
        """Begins to listen and returns the port.

        Raises:
          PortInUse: it can't listen there.
          KeysError: a file of `tls` can't be read.
        """
        return listen(self._server, address, tls)

    def wait_for_clients(self, wanted: int, least: int, timeout_s: float) -> list[Connection]:
        """Returns the idle connections once `wanted` are there; after the timeout, at least `least` of them or none."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                idle = [connection for connection in self._connections.values() if connection.is_idle]
                left = deadline - time.monotonic()
                if len(idle) >= wanted or left <= 0:
                    return idle if len(idle) >= least else []
                self._changed.wait(min(left, 1.0))  # a connection that turns idle does not notify

    def connected(self) -> set[ClientId]:
        """Returns the clients that are there now."""
        with self._changed:
            return {client_id for client_id, connection in self._connections.items() if connection.is_open}

    def collect(
        self, asked: Collection[Connection], ticket: Ticket, timeout_s: float
    ) -> Iterator[tuple[ClientId, Reply]]:
        """Yields the answers as they come; ends when all have answered or are gone, or at the deadline."""
        deadline, waiting = time.monotonic() + timeout_s, set(asked)
        self.newest_round = max(self.newest_round, ticket[0])
        while waiting:
            try:
                connection, found, message = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return
            if connection not in waiting or found not in (ticket, None):
                continue  # the late answer to an earlier question
            waiting.remove(connection)
            if found is None:
                continue
            try:
                reply = messages.decode(message, messages.TO_SERVER)
            except WireError:
                continue  # as good as silent
            if (reply.round_num, reply.stage) == ticket:
                yield connection.client_id, reply

    def stop(self, reason: str) -> None:
        """Says goodbye to all clients and closes the port."""
        goodbye = encode(messages.Goodbye(reason))
        with self._changed:
            asked = [c for c in self._connections.values() if c.ask((0, "goodbye"), goodbye)]
        for _ in self.collect(asked, (0, "goodbye"), 5.0):
            pass
        self._server.stop(1.0).wait()

    def challenge(self) -> bytes:
        """Returns a nonce for a client to sign."""
        return self._challenges.make()

    def has_signed(self, client_id: ClientId, nonce: bytes, signature: bytes) -> bool:
        """Returns whether the signature is the enrolled client's, over this nonce.

        Args:
          client_id: whom the caller says that it is.
          nonce: from challenge.
          signature: over proof_bytes of the nonce and the name.
        """
        # A stranger must not learn who is enrolled: a name that nobody has is checked against a key that nobody has.
        public_key = self._roster.get(client_id, self._nobody)
        return is_signed(signature, public_key, messages.proof_bytes(nonce, client_id))

    def take(self, nonce: bytes, client_id: ClientId) -> bool:
        """Returns whether the nonce is fresh, and takes it; has_signed comes first."""
        with self._changed:
            return self._challenges.take(nonce, client_id)

    def admit(self, client_id: ClientId, hang_up: Callable[[], object]) -> Connection:
        """Returns the new connection of a client that proved itself, which takes the place of an earlier one.

        Whoever carries it sends the setup, then runs Connection.talk, and closes the connection when the client has
        gone.

        Args:
          client_id: the client.
          hang_up: called when the connection is closed; it must not wait.
        """
        traffic = self.traffic[client_id]
        traffic.add(down=len(self.setup))
        connection = Connection(client_id, self._inbox, hang_up, traffic)
        with self._changed:
            before = self._connections.get(client_id)
            self._connections[client_id] = connection
            self._changed.notify_all()
        if before is not None:
            before.close()  # a client that lost its connection is back before the loss was seen
        return connection

    def _challenge(self, _: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return self.challenge()

    def _join(self, answers: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        connection = self.admit(self._authenticated(context), context.cancel)
        if not context.add_callback(connection.close):
            connection.close()
        yield self.setup
        yield from connection.talk(answers)

    def _authenticated(self, context: grpc.ServicerContext) -> ClientId:
        headers = dict(context.invocation_metadata())
        client_id = ClientId(str(headers.get(messages.CLIENT_HEADER, "")))
        nonce, signature = headers.get(messages.NONCE_HEADER, b""), headers.get(messages.SIGNATURE_HEADER, b"")
        if not (self.has_signed(client_id, nonce, signature) and is_caller(context, CLIENT, client_id)):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"client {client_id!r} is not enrolled with this key")
        if not self.take(nonce, client_id):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"client {client_id!r} answered an old challenge")
        return client_id
