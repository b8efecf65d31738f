"""Carries rounds over WebSockets: the hub's bytes, message for message, in another envelope than gRPC's.

    server: a nonce
    client: Join
    server: Setup, then what the hub asks; each message is one binary frame
    client: an answer to each question, and nothing else

No thread waits for a caller that has not proved who it is. A client that has holds one, as over gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Optional

from aiohttp import WSCloseCode, WSMsgType, web

from models.corpus import ClientId
from orchestrator.network import messages
from orchestrator.network.errors import WireError
from orchestrator.network.hub import Connection, Hub
from orchestrator.network.places import Guest, network_of

PROTOCOL = "fedkeys.v1"
NOT_LET_IN, REPLACED = 4401, 4409  # close codes of ours
_JOIN_BYTES = 1024  # a Join has a name of 128 letters at most; what frames and pings add is less than the rest
_SLOWEST_BITS_PER_S = 1e6  # of a connection that is not taken for dead while it loads a model


@dataclass(frozen=True)
class DoorLimits:
    """What the web door allows; times are in seconds.

    Attributes:
      join_s: from the nonce to the Join; also for TLS before that, and for a request to enrol.
      most_waiting: callers of one address that have not proved who they are yet; one more ends the oldest of them.
      most_waiting_in_all: likewise, of all addresses; one more ends the oldest of the address that has most.
      close_s: for the other side to agree that a connection ends.
      pong_s: for the answer to a ping, when no message is on its way.
      most_connections: of any kind, in all; half as many of one network. A quarter of the files that the process may
        open is the most, whatever stands here: each connection takes two at times.
    """

    join_s: float = 10.0
    most_waiting: int = 16
    most_waiting_in_all: int = 64
    close_s: float = 2.0
    pong_s: float = 20.0
    most_connections: int = 4096


class WebRounds:
    """Takes browsers in as clients of a hub; its coroutines run in one event loop.

    Args:
      hub: decides who is let in, asks and collects.
      max_bytes: the most bytes of a client's message.
      most_clients: as many can be connected at a time.
      limits: of the door.
    """

    def __init__(self, hub: Hub, max_bytes: int, most_clients: int, limits: DoorLimits):
        self._hub, self._max_bytes, self._limits = hub, max_bytes, limits
        self._doorstep, self._callers = _Doorstep(limits), set[_Caller]()
        self._threads = futures.ThreadPoolExecutor(most_clients + 4, thread_name_prefix="web")

    async def take_in(self, request: web.Request) -> web.StreamResponse:
        """Answers a request for /rounds, and returns when the client is gone.

        Raises:
          HTTPBadRequest: it asks for no WebSocket, or not for this subprotocol.
        """
        offered = request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")
        if PROTOCOL not in offered:  # aiohttp would go on, and fill the log
            raise web.HTTPBadRequest(text=f"/rounds is a WebSocket of the subprotocol {PROTOCOL}\n")
        pong_s = self._limits.pong_s + 8 * self._max_bytes / _SLOWEST_BITS_PER_S
        socket = web.WebSocketResponse(
            protocols=(PROTOCOL,),
            compress=False,
            max_msg_size=self._max_bytes,
            heartbeat=2 * pong_s,  # aiohttp waits half as long for the pong
            timeout=self._limits.close_s,
        )
        if request.transport is None:
            return web.Response()  # to nobody
        guest = Guest.of(request.transport)
        guest.allow(_JOIN_BYTES)
        try:
            await socket.prepare(request)
        except web.HTTPException:  # it asks for no WebSocket, and may go on to ask for files
            guest.allow(math.inf)
            raise
        except ConnectionError:
            return web.Response()  # to nobody: aiohttp can't end a socket that is half made
        if request.transport is None:
            return socket
        caller = _Caller(socket, request.transport, self._limits.close_s)
        self._callers.add(caller)
        try:
            with self._doorstep.waiting(request.remote or "", caller):
                client_id = await self._proved(socket)
            guest.allow(math.inf)
            if client_id is None:
                await caller.end(NOT_LET_IN, "this client is not enrolled with this key")
            else:
                await self._carry(caller, client_id)
        finally:
            self._callers.discard(caller)
        return socket

    async def end_all(self, reason: str) -> None:
        """Ends all connections."""
        await asyncio.gather(*(caller.end(WSCloseCode.GOING_AWAY, reason) for caller in tuple(self._callers)))

    def wait(self) -> None:
        """Returns once the threads of all connections have ended; not in the event loop, which they may wait for."""
        self._threads.shutdown()

    async def _proved(self, socket: web.WebSocketResponse) -> Optional[ClientId]:
        """The enrolled client that the other side proves to be. None for whatever reason: a stranger learns none."""
        nonce = self._hub.challenge()
        try:
            await socket.send_bytes(nonce)
            received = await asyncio.wait_for(socket.receive(), self._limits.join_s)  # pings don't begin it again
            if received.type is not WSMsgType.BINARY:
                return None
            join = messages.decode(received.data, messages.JOINING)
        except (asyncio.TimeoutError, ConnectionError, WireError):
            return None
        client_id = ClientId(join.client_id)
        is_proved = self._hub.has_signed(client_id, nonce, join.signature) and self._hub.take(nonce, client_id)
        return client_id if is_proved else None

    async def _carry(self, caller: _Caller, client_id: ClientId) -> None:
        """Carries messages both ways until one side is gone."""
        loop, socket = asyncio.get_running_loop(), caller.socket
        connection = self._hub.admit(client_id, lambda: loop.call_soon_threadsafe(caller.end_soon))
        answers: queue.Queue[Optional[bytes]] = queue.Queue(1)
        talking = None
        try:
            await socket.send_bytes(self._hub.setup)
            talking = loop.run_in_executor(self._threads, _talk, socket, loop, connection, answers)
            async for received in socket:
                if received.type is not WSMsgType.BINARY or connection.is_idle or answers.full():
                    await caller.end(WSCloseCode.POLICY_VIOLATION, "one answer to each question, as bytes")
                    break
                answers.put_nowait(received.data)
        except ConnectionError:
            pass  # the client is gone
        finally:
            connection.close()
            with contextlib.suppress(queue.Full):  # then its thread does not wait for an answer
                answers.put_nowait(None)
        if talking is not None:
            await talking


class _Caller:
    """Whoever is at the other end of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport, close_s: float):
        self.socket = socket
        self._transport, self._close_s = transport, close_s
        self._ending: Optional[asyncio.Task[None]] = None

    async def end(self, code: int, reason: str) -> None:
        """Ends the connection and says why, unless it has ended; does not wait long for the other side."""
        try:
            await asyncio.wait_for(self.socket.close(code=code, message=reason.encode()), 2 * self._close_s)
        except asyncio.TimeoutError:  # the other side reads nothing
            self.drop()

    def end_soon(self) -> None:
        """Ends the connection of a client that has a newer one."""
        self._ending = asyncio.ensure_future(self.end(REPLACED, "this client has connected once more"))

    def drop(self) -> None:
        """Ends the connection without a word."""
        self._transport.abort()


class _Doorstep:
    """Those who have not proved who they are. Whoever comes when it is full ends one that has waited longest."""

    def __init__(self, limits: DoorLimits):
        self._limits = limits
        self._waiting: dict[str, dict[_Caller, None]] = defaultdict(dict)  # by address, the oldest first

    @contextlib.contextmanager
    def waiting(self, remote: str, caller: _Caller) -> Iterator[None]:
        """Keeps a caller here while the block lasts."""
        address = network_of(remote)
        if len(self._waiting[address]) >= self._limits.most_waiting:
            self._end_oldest(address)
        elif sum(map(len, self._waiting.values())) >= self._limits.most_waiting_in_all:
            self._end_oldest(max(self._waiting, key=lambda own: len(self._waiting[own])))
        self._waiting[address][caller] = None
        try:
            yield
        finally:
            self._waiting[address].pop(caller, None)
            if not self._waiting[address]:
                del self._waiting[address]

    def _end_oldest(self, address: str) -> None:
        oldest = next(iter(self._waiting[address]))
        del self._waiting[address][oldest]
        oldest.drop()


def _talk(
    socket: web.WebSocketResponse,
    loop: asyncio.AbstractEventLoop,
    connection: Connection,
    answers: queue.Queue[Optional[bytes]],
) -> None:
    """Sends the hub's questions and takes the answers, until the connection is closed; runs in a thread of its own."""
    try:
        for message in connection.talk(iter(answers.get, None)):
            asyncio.run_coroutine_threadsafe(socket.send_bytes(message), loop).result()
    except ConnectionError:  # while it was sent to
        connection.close()
