"""What the doors for browsers share: an event loop on a thread of its own, where aiohttp listens, and whom it answers.

On this machine alone HTTP is enough, and browsers take it for secure. For other machines a door listens with TLS.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Optional, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from orchestrator.network.certificates import LOOPBACK
from orchestrator.network.errors import PortInUse
from orchestrator.network.listening import allow_many_connections, bind, host_of, most_files
from orchestrator.network.places import Places

T = TypeVar("T")
_HEADERS = {
    # The three that give the page memory which its threads share, and nobody else a window on it.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Server": "fedkeys",
}
_KEEPALIVE_S = 15.0  # for the next request of a connection, and for its first


class _OwnFaults(logging.Filter):
    """Keeps out of the log what strangers send that is no HTTP: they would fill it, a dozen lines a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_LOG = logging.getLogger(__name__)
_LOG.addFilter(_OwnFaults())


class WebListener:
    """Runs an event loop for a door, and listens in it once the door says where.

    Args:
      name: of its thread.
    """

    def __init__(self, name: str):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._runner: Optional[web.AppRunner] = None
        self._listening: list[asyncio.Server] = []

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Returns what a coroutine returns that runs in the loop; another thread than the loop's calls it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def listen(
        self,
        app: web.Application,
        address: str,
        option: str,
        tls: Optional[ssl.SSLContext],
        most_connections: int,
        handshake_s: float,
    ) -> int:
        """Begins to listen and returns the port.

        Args:
          app: what answers.
          address: HOST:PORT; port 0 takes a free one.
          option: the one that named the address.
          tls: what it listens with; None for plain HTTP.
          most_connections: of any kind, in all; at most a quarter of the files that the process may open.
          handshake_s: seconds that TLS may take.

        Raises:
          PortInUse: it can't listen there, or would with plain HTTP for other machines.
        """
        if tls is None:
            if not is_loopback(address):
                raise PortInUse(f"{option} {address}: for other machines it listens with TLS only")
            app.middlewares.append(_for_this_host)
        sockets = bind(address, option)
        allow_many_connections()
        most = min(most_connections, most_files() // 4)
        self.run(self._open(app, sockets, tls, most, handshake_s))
        return int(sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Takes no new connection."""
        self.run(self._stop_listening())

    def end_connections(self) -> None:
        """Ends all connections; what is under way has a second."""
        self.run(self._end_connections())

    def close(self) -> None:
        """Ends everything, and the thread."""
        self.stop_listening()
        self.end_connections()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _open(
        self,
        app: web.Application,
        sockets: Sequence[socket.socket],
        tls: Optional[ssl.SSLContext],
        most: int,
        handshake_s: float,
    ) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, logger=_LOG, keepalive_timeout=_KEEPALIVE_S, shutdown_timeout=1.0
        )
        await self._runner.setup()
        assert self._runner.server is not None  # it is set up
        places = Places(self._runner.server, most)
        for own in sockets:
            listening = await self.loop.create_server(
                places, sock=own, ssl=tls, ssl_handshake_timeout=handshake_s if tls else None
            )
            self._listening.append(listening)

    async def _stop_listening(self) -> None:
        for listening in self._listening:
            for own in listening.sockets:
                self.loop.remove_reader(own.fileno())
        await asyncio.sleep(0)  # what was accepted just now is handed over: a server that is closed would leave it open
        for listening in self._listening:
            listening.close()

    async def _end_connections(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


@web.middleware
async def _for_this_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what was sent to another name: some site's whose name was made to mean this machine."""
    if not is_loopback(request.host):
        raise web.HTTPMisdirectedRequest(text="this server answers as localhost only\n")
    return await handler(request)


def headers_with(policy: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Returns what adds to each response of an application what the browser must hold its page to.

    Args:
      policy: the Content Security Policy of responses that have none of their own.
    """

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Cache-Control", "no-cache")  # asked again, and answered by 304 if nothing changed
        if request.secure and not is_loopback(request.host):  # a browser would hold every port of localhost to it
            response.headers["Strict-Transport-Security"] = "max-age=31536000"

    return add


def is_loopback(address: str) -> bool:
    """Returns whether the host of HOST:PORT or of HOST is this machine, by a name that browsers know as that.

    >>> is_loopback("localhost:8080"), is_loopback("[::1]"), is_loopback("localhost.example:8080")
    (True, True, False)
    """
    return host_of(address) in LOOPBACK
