"""The server's door for browsers: the page, the bundle, enrolment by code, and the rounds over WebSocket.

It runs in an event loop on a thread of its own, beside gRPC or without it. A browser has no certificate of the run's
CA: who a client is shows its signature over a nonce, as over gRPC, and whom a browser talks to shows the server's
certificate. On this machine alone HTTP is enough, and browsers take it for secure.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Optional

import msgspec
from aiohttp import web

from orchestrator.network.errors import EnrolmentRefused
from orchestrator.network.hub import Hub
from orchestrator.network.lobby import MAX_REQUEST_BYTES, Lobby
from orchestrator.network.roster import Roster
from orchestrator.network.web_listener import WebListener, headers_with
from orchestrator.network.web_rounds import DoorLimits, WebRounds
from orchestrator.network.web_site import POLICY, Site, require_same_origin


class _Status(msgspec.Struct):
    """What /status says; the page polls it until the rounds begin."""

    phase: str  # lobby, rounds or done
    enrolled: int
    wanted: int
    round: Optional[int]  # the newest that clients were asked about
    bundle: bool
    aggregator: Optional[str]  # the sum of the rounds, once they have begun


@dataclass(frozen=True)
class _Rounds:
    """What the door serves once the roster is complete."""

    hub: Hub
    sockets: WebRounds
    roster: bytes  # as a file holds it
    aggregator: str


class WebDoor:
    """Listens for browsers from its entering to its end; a context.

    Args:
      site: the files that it hands out.
      lobby: enrols phones before the first round; None enrols nobody.
      limits: what it allows.
    """

    def __init__(self, site: Site, lobby: Optional[Lobby] = None, limits: DoorLimits = DoorLimits()):  # noqa: B008
        self.site, self.lobby, self._limits = site, lobby, limits
        self._listener = WebListener("web door")
        self._rounds: Optional[_Rounds] = None
        self._is_done = False

    def __enter__(self) -> WebDoor:
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.stop_listening()
        if self._rounds is not None:
            self._listener.run(self._rounds.sockets.end_all("the server was stopped"))
        self._listener.end_connections()
        if self._rounds is not None:
            self._rounds.sockets.wait()
        self._listener.close()

    def listen(self, address: str, tls: Optional[ssl.SSLContext]) -> int:
        """Begins to listen and returns the port.

        Args:
          address: HOST:PORT; port 0 takes a free one.
          tls: what it listens with; None for plain HTTP.

        Raises:
          PortInUse: it can't listen there, or would with plain HTTP for other machines.
        """
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.on_response_prepare.append(headers_with(POLICY))
        app.router.add_get("/rounds", self._take_in)
        app.router.add_get("/status", self._status)
        app.router.add_get("/roster.json", self._roster)
        app.router.add_post("/enrol", self._enrol)
        self.site.add_routes(app.router)
        limits = self._limits
        return self._listener.listen(app, address, "--web", tls, limits.most_connections, limits.join_s)

    def begin(self, hub: Hub, max_bytes: int, roster: Roster, aggregator: str = "secagg") -> None:
        """Lets clients in from here on.

        Args:
          hub: keeps their connections.
          max_bytes: the most bytes of a client's message.
          roster: who may take part, with the operator's signature, by which clients know it.
          aggregator: how the updates are summed, as a person is told who decides whether to take part.
        """
        sockets = WebRounds(hub, max_bytes, len(roster.clients), self._limits)
        self._rounds = _Rounds(hub, sockets, roster.to_json(), aggregator)

    def end_rounds(self, reason: str) -> None:
        """Lets nobody in any more and ends the connections that are left; the page stays."""
        self._is_done = True
        rounds = self._rounds
        if rounds is not None:
            self._listener.run(rounds.sockets.end_all(reason))
            rounds.sockets.wait()

    async def _take_in(self, request: web.Request) -> web.StreamResponse:
        require_same_origin(request)
        if self._is_done:
            raise web.HTTPGone(text="the rounds are over\n")
        if self._rounds is None:
            raise web.HTTPServiceUnavailable(text="the rounds have not begun: /status says when they have\n")
        return await self._rounds.sockets.take_in(request)

    async def _status(self, _: web.Request) -> web.StreamResponse:
        rounds, lobby = self._rounds, self.lobby
        phase = "lobby" if rounds is None else "done" if self._is_done else "rounds"
        enrolled, wanted = (lobby.enrolled, lobby.wanted) if lobby is not None else (0, 0)
        newest = rounds.hub.newest_round if rounds is not None else 0
        aggregator = rounds.aggregator if rounds is not None else None
        return _as_json(_Status(phase, enrolled, wanted, newest or None, self.site.bundle is not None, aggregator))

    async def _roster(self, _: web.Request) -> web.StreamResponse:
        if self._rounds is None:
            return _as_json({"error": "the roster is not complete yet: /status says when it is"}, 409)
        return web.Response(body=self._rounds.roster, content_type="application/json")

    async def _enrol(self, request: web.Request) -> web.StreamResponse:
        require_same_origin(request)
        try:
            body = await asyncio.wait_for(request.read(), self._limits.join_s)
        except asyncio.TimeoutError:
            raise web.HTTPRequestTimeout(text="the request did not come to its end\n") from None
        try:
            if self.lobby is None or self._is_done:
                raise EnrolmentRefused("nobody can enrol here now: ask the operator when the lobby opens")
            client_id = self.lobby.enrol(body)
        except EnrolmentRefused as error:
            return _as_json({"error": str(error)}, 403)
        operator = self.lobby.operator
        signer = {} if operator is None else {"operator": operator.key.hex(), "roster_id": operator.roster_id.hex()}
        return _as_json({"client_id": client_id, **signer})


def _as_json(found: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(found), status=status, content_type="application/json")
