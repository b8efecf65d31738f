"""The operator's page of a server: what it does at the moment, on a port of its own, for whoever has the token.

The token stands in the path. Whoever asks for anything else gets 404, the same for each path, method and token. The
page can change nothing. The door looks at the run's Progress twice a second for each reader, and the rounds wait for
none of them. A reader that takes nothing for some seconds is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Optional

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from orchestrator.errors import OrchestratorError
from orchestrator.network.progress import UPLOADS, Progress
from orchestrator.network.web_listener import WebListener, headers_with

_PAGE = Path(__file__).parent / "operator_page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HANDSHAKE_S = 10.0
_MOST_CONNECTIONS = 64
_TOKEN_BYTES = 32
_MOST_ROUNDS = 200  # in one event


class OperatorLimits(msgspec.Struct, frozen=True):
    """What the operator's door allows; times are in seconds.

    Attributes:
      every_s: from one look at the run to the next.
      silence_s: after which it sends a line that says nothing, so that a lost connection is seen.
      write_s: for a reader to take what was sent to it.
      end_s: for all readers to take the last of it, when the server ends.
      most_readers: one more ends the oldest of them.
    """

    every_s: float = 0.5
    silence_s: float = 15.0
    write_s: float = 10.0
    end_s: float = 2.0
    most_readers: int = 8


@dataclass(frozen=True, eq=False)
class _Reader:
    """Whoever follows the events. is_replaced: set once others have its place; has_ended: once nothing more is sent."""

    request: web.Request
    is_replaced: asyncio.Event
    has_ended: asyncio.Event

    def drop(self) -> None:
        """Ends the connection without a word: what the reader has not taken is not waited for."""
        if self.request.transport is not None:
            self.request.transport.abort()


class OperatorDoor:
    """Shows a run's progress from its entering to its end; a context, whose block is the run.

    Args:
      progress: of the run; the end of the block is told to it, and then to the readers.
      colours: the palette of fedkeys' pages, as CSS.
      limits: what it allows.
    """

    def __init__(self, progress: Progress, colours: str, limits: OperatorLimits = OperatorLimits()):  # noqa: B008
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._progress, self._limits = progress, limits
        self._files = {path.name: path.read_bytes() for path in _PAGE.iterdir() if path.suffix in _TYPES}
        self._files["colours.css"] = colours.encode()
        self._listener = WebListener("operator's door")
        self._readers: list[_Reader] = []  # the oldest first
        self._is_over = False

    def __enter__(self) -> OperatorDoor:
        self._listener.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is None:
            self._progress.end("done")
        else:
            is_ours = isinstance(error, OrchestratorError)
            self._progress.end("abandoned", str(error) if is_ours else "the server was stopped")
        self._listener.stop_listening()
        self._listener.run(self._end())
        self._listener.close()

    def listen(self, address: str, tls: Optional[ssl.SSLContext]) -> int:
        """Begins to listen and returns the port.

        Args:
          address: HOST:PORT; port 0 takes a free one.
          tls: what it listens with; None for plain HTTP.

        Raises:
          PortInUse: it can't listen there, or would with plain HTTP for other machines.
        """
        app = web.Application(client_max_size=1, middlewares=[_for_holders_of(self.token)])
        app.on_response_prepare.append(headers_with(_POLICY))
        app.router.add_get("/{token}/", self._index)
        app.router.add_get("/{token}/events", self._events, allow_head=False)
        app.router.add_get("/{token}/{name}", self._file)
        return self._listener.listen(app, address, "--operator", tls, _MOST_CONNECTIONS, _HANDSHAKE_S)

    async def _index(self, _: web.Request) -> web.StreamResponse:
        return self._response("index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._response(request.match_info["name"])

    def _response(self, name: str) -> web.StreamResponse:
        if name not in self._files:
            raise web.HTTPNotFound()
        kind = _TYPES[Path(name).suffix]
        headers = {"Cache-Control": "no-store"}
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8", headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        while len(self._readers) >= self._limits.most_readers:
            self._readers.pop(0).is_replaced.set()
        reader = _Reader(request, asyncio.Event(), asyncio.Event())
        self._readers.append(reader)
        try:
            await asyncio.wait_for(response.prepare(request), self._limits.write_s)
            await self._tell(response, reader)
        except (asyncio.TimeoutError, ConnectionError):
            reader.drop()
        finally:
            if reader in self._readers:
                self._readers.remove(reader)
            reader.has_ended.set()
        return response

    async def _tell(self, response: web.StreamResponse, reader: _Reader) -> None:
        """Sends the moment whenever it has changed, and each round that is over, until the run or the view ends."""
        await self._send(response, "about", {"alone": {kind: own.alone for kind, own in UPLOADS.items()}})
        num_told, told, told_at = 0, b"", time.monotonic()
        while True:
            is_last = self._is_over  # looked at before the rounds are, so that none is missing
            while True:
                rounds = self._progress.rounds_after(num_told, _MOST_ROUNDS)
                if not rounds:
                    break
                await self._send(response, "rounds", {"first": num_told, "rounds": rounds})
                num_told += len(rounds)
            moment = msgspec.json.encode(self._progress.view())
            if moment != told:
                await self._send(response, "view", msgspec.Raw(moment))
                told, told_at = moment, time.monotonic()
            elif time.monotonic() - told_at > self._limits.silence_s:
                await self._write(response, b":\n\n")
                told_at = time.monotonic()
            if is_last:
                await self._send(response, "end", {})
                return
            if reader.is_replaced.is_set():  # it is told: a browser that is cut off comes back, and ends the next one
                await self._send(response, "replaced", {})
                return
            await asyncio.sleep(self._limits.every_s)

    async def _send(self, response: web.StreamResponse, name: str, content: object) -> None:
        await self._write(response, f"event: {name}\ndata: ".encode() + msgspec.json.encode(content) + b"\n\n")

    async def _write(self, response: web.StreamResponse, content: bytes) -> None:
        await asyncio.wait_for(response.write(content), self._limits.write_s)

    async def _end(self) -> None:
        """Lets the readers hear of the end, for some seconds at most."""
        self._is_over = True
        told = asyncio.gather(*(reader.has_ended.wait() for reader in self._readers))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(told, self._limits.end_s)
        for reader in self._readers:
            reader.drop()


def _for_holders_of(token: str) -> Middleware:
    """Answers 404 to whoever does not name the token first in the path, whatever they ask for."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.path[1:].partition("/")[0]
        if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
            raise web.HTTPNotFound()
        return await handler(request)

    return check
