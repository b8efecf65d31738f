"""A client that takes part over the web door: a Python Participant behind aiohttp's WebSocket, as a browser is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from contextlib import contextmanager

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from loopback import NAMES, participant, stage_of

from orchestrator.network import messages
from orchestrator.network.certificates import read_identity, read_signed_roster
from orchestrator.network.hub import Hub
from orchestrator.network.lobby import enrolment_bytes
from orchestrator.network.web_door import WebDoor
from orchestrator.network.web_rounds import PROTOCOL, DoorLimits
from orchestrator.network.web_site import Site
from orchestrator.wire import encode

MAX_BYTES = 1 << 16  # of a client's message, in `rounds`


@contextmanager
def a_door(lobby=None, site=None, limits=None):
    """A web door on a free port, and its address."""
    with WebDoor(site or Site(None, None), lobby, limits or DoorLimits()) as door:
        yield door, f"http://localhost:{door.listen('localhost:0', None)}"


def ask(method, url, **options):
    """(status, headers, body) of one request."""

    async def once():
        async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
            return response.status, response.headers, await response.read()

    return asyncio.run(once())


@contextlib.asynccontextmanager
async def knock(url, **options):
    """A WebSocket to /rounds, and the nonce that the server sent."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/rounds", protocols=[PROTOCOL], max_msg_size=0, **options) as socket,
    ):
        yield socket, await socket.receive_bytes()


def join_message(nonce, client_id, identity):
    return encode(messages.Join(client_id, identity.sign(messages.proof_bytes(nonce, client_id))))


def enrolment(code, client_id, key=None, **changes):
    """The JSON by which a phone enrols."""
    key = key or Ed25519PrivateKey.generate()
    signature = key.sign(enrolment_bytes(code, client_id)).hex()
    public_key = key.public_key().public_bytes_raw().hex()
    return {"code": code, "client_id": client_id, "public_key": public_key, "signature": signature, **changes}


class WebPeer:
    """A client on a thread of its own; at the stage `leaves_at` it closes its connection instead of answering."""

    def __init__(self, keys, url, name, leaves_at=None, **changes):
        self._url, self._name, self._leaves_at = url, name, leaves_at
        self._identity, self._participant = read_identity(keys, name), participant(keys, name, **changes)
        self.stages, self.goodbye, self.error, self.close_code = [], None, None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self):
        self._thread.join(40)
        assert not self._thread.is_alive()
        return self

    def _run(self):
        try:
            asyncio.run(self._take_part())
        except Exception as error:  # handed to the test
            self.error = error
        finally:
            self._participant._journal.close()

    async def _take_part(self):
        async with knock(self._url) as (socket, nonce):
            await socket.send_bytes(join_message(nonce, self._name, self._identity))
            async for received in socket:
                stage = stage_of(received.data)
                self.stages.append(stage)
                if stage == self._leaves_at:
                    return
                answer = self._participant.answer(received.data)
                self.goodbye = self._participant.goodbye
                if self.goodbye is not None:
                    return
                if answer is not None:
                    await socket.send_bytes(answer)
            self.close_code = socket.close_code


@contextmanager
def rounds(keys, limits=None):
    """A hub behind a web door alone, and the door's address."""
    roster = read_signed_roster(keys)
    hub = Hub(roster.clients, b"setup", MAX_BYTES)
    with a_door(limits=limits) as (door, url):
        door.begin(hub, MAX_BYTES, roster)
        yield hub, url


async def ending(socket):
    """How the server ends a connection: its close code and reason."""
    async for _ in socket:
        pass
    return socket.close_code


async def enter(keys, socket, nonce, name=NAMES[0]):
    """Joins as that client."""
    await socket.send_bytes(join_message(nonce, name, read_identity(keys, name)))
    assert await socket.receive_bytes() == b"setup"


def joins(keys, url, name=NAMES[0]) -> bool:
    """Whether the client gets in."""

    async def once():
        async with knock(url) as (socket, nonce):
            await enter(keys, socket, nonce, name)
            return True

    return asyncio.run(once())
