"""What the web door lets in, and what it answers to everybody else."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from loopback import NAMES, wait_until
from web_peer import MAX_BYTES, a_door, ask, ending, enter, join_message, joins, knock, rounds

from orchestrator.network import messages
from orchestrator.network.certificates import read_identity, read_signed_roster
from orchestrator.network.hub import Hub
from orchestrator.network.lobby import Lobby, make_codes
from orchestrator.network.web_rounds import NOT_LET_IN, REPLACED, DoorLimits
from orchestrator.wire import encode

pytestmark = pytest.mark.timeout(60)
POLICY_VIOLATION = 1008


def test_an_enrolled_client_is_let_in_and_its_leaving_is_seen(keys):
    with rounds(keys) as (hub, url):
        assert joins(keys, url)
        wait_until(lambda: not hub.wait_for_clients(1, 1, 0.0))
        assert hub._inbox.qsize() == 0


def refused_joins(keys):
    mine, strangers = read_identity(keys, NAMES[0]), Ed25519PrivateKey.generate()
    foreign = bytes(messages.NONCE_BYTES)
    return {
        "another key": lambda nonce: join_message(nonce, NAMES[0], strangers),
        "unknown name": lambda nonce: join_message(nonce, "nobody", strangers),
        "another client's key": lambda nonce: join_message(nonce, NAMES[1], mine),
        "another nonce": lambda nonce: join_message(foreign, NAMES[0], mine),
        "no message": lambda nonce: b"\xc1",
        "short signature": lambda nonce: encode(messages.Join(NAMES[0], b"short")),
        "another message": lambda nonce: encode(messages.Goodbye("no join")),
    }


def test_whoever_is_not_let_in_learns_nothing_of_why(keys):
    """One close code and one text, for a name that is enrolled as for one that is not."""

    async def answer_to(url, make):
        async with knock(url) as (socket, nonce):
            await socket.send_bytes(make(nonce))
            closed = await socket.receive()
            return closed.data, closed.extra

    with rounds(keys) as (hub, url):
        answers = {what: asyncio.run(answer_to(url, make)) for what, make in refused_joins(keys).items()}
        assert set(answers.values()) == {(NOT_LET_IN, "this client is not enrolled with this key")}, answers
        assert hub._connections == {}


def test_a_join_can_t_be_played_again_on_another_connection(keys):
    async def replay(url):
        async with knock(url) as (first, nonce), knock(url) as (second, _):
            message = join_message(nonce, NAMES[0], read_identity(keys, NAMES[0]))
            await first.send_bytes(message)
            assert await first.receive_bytes() == b"setup"
            await second.send_bytes(message)
            return await ending(second)

    with rounds(keys) as (_, url):
        assert asyncio.run(replay(url)) == NOT_LET_IN


def test_a_newer_connection_takes_the_place_of_the_one_before(keys):
    async def twice(url):
        async with knock(url) as (first, nonce), knock(url) as (second, later):
            await enter(keys, first, nonce)
            await enter(keys, second, later)
            assert await ending(first) == REPLACED
            (connection,) = hub.wait_for_clients(1, 1, 5.0)
            assert connection.ask((1, "train"), b"question")
            return await second.receive_bytes()

    with rounds(keys) as (hub, url):
        assert asyncio.run(twice(url)) == b"question"


@pytest.mark.parametrize("is_in", [False, True], ids=["stranger", "client"])
def test_a_frame_that_is_too_large_ends_the_connection(keys, is_in):
    async def send(url):
        async with knock(url) as (socket, nonce):
            if is_in:
                await enter(keys, socket, nonce)
            await socket.send_bytes(bytes(MAX_BYTES + 1))
            return await ending(socket)

    with rounds(keys) as (hub, url):
        assert asyncio.run(send(url)) == (1009 if is_in else 1006)  # a stranger's is not taken in, and not told why
        assert joins(keys, url)
        assert hub._inbox.qsize() == 0


def test_answers_that_nobody_asked_for_end_the_connection_and_fill_no_memory(keys):
    async def send(url):
        async with knock(url) as (socket, nonce):
            await enter(keys, socket, nonce)
            await socket.send_bytes(b"unasked")
            return await ending(socket)

    with rounds(keys) as (hub, url):
        assert asyncio.run(send(url)) == POLICY_VIOLATION
        assert hub._inbox.qsize() == 0


def test_text_is_no_answer(keys):
    async def send(url):
        async with knock(url) as (socket, nonce):
            await enter(keys, socket, nonce)
            (connection,) = hub.wait_for_clients(1, 1, 5.0)
            assert connection.ask((1, "train"), b"question")
            assert await socket.receive_bytes() == b"question"
            await socket.send_str("answer")
            return await ending(socket), connection

    with rounds(keys) as (hub, url):
        code, connection = asyncio.run(send(url))
        assert code == POLICY_VIOLATION
        assert list(hub.collect([connection], (1, "train"), 20.0)) == []  # it is known to be gone


def test_another_site_s_page_can_neither_join_nor_enrol(keys):
    with a_door(Lobby(keys, make_codes(1))) as (door, url):
        roster = read_signed_roster(keys)
        hub = Hub(roster.clients, b"setup", MAX_BYTES)
        door.begin(hub, MAX_BYTES, roster)
        foreign = {"Origin": "https://elsewhere.example"}

        async def knock_from_there():
            async with knock(url, headers=foreign):
                pass

        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            asyncio.run(knock_from_there())
        assert refused.value.status == 403
        assert ask("POST", f"{url}/enrol", headers=foreign, json={})[0] == 403

        async def knock_from_here():
            async with knock(url, headers={"Origin": url}) as (_, nonce):
                return len(nonce)

        assert asyncio.run(knock_from_here()) == messages.NONCE_BYTES


def test_a_name_that_was_made_to_mean_this_machine_is_refused():
    with a_door() as (_, url):
        assert ask("GET", f"{url}/status", headers={"Host": "elsewhere.example"})[0] == 421
        assert ask("GET", f"{url}/status", headers={"Host": url.partition("//")[2]})[0] == 200


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(keys):
    """The question is larger than what the sockets between hold, so that its sending never ends."""

    async def stall(url, door, hub):
        async with knock(url) as (socket, nonce):
            await enter(keys, socket, nonce)
            (connection,) = hub.wait_for_clients(1, 1, 5.0)
            transport = socket._conn.transport
            transport.pause_reading()
            assert connection.ask((1, "train"), bytes(1 << 25))
            await asyncio.get_running_loop().run_in_executor(None, door.end_rounds, "all rounds are done")
            transport.abort()
            return connection

    roster = read_signed_roster(keys)
    hub = Hub(roster.clients, b"setup", MAX_BYTES)
    with a_door(limits=DoorLimits(close_s=0.1)) as (door, url):
        door.begin(hub, MAX_BYTES, roster)
        connection = asyncio.run(stall(url, door, hub))
        assert list(hub.collect([connection], (1, "train"), 20.0)) == []


def test_the_end_of_the_server_is_told(keys):
    async def stay(url, door):
        async with knock(url) as (socket, nonce):
            await enter(keys, socket, nonce)
            await asyncio.get_running_loop().run_in_executor(None, door.end_rounds, "all rounds are done")
            closed = await socket.receive()
            return closed.data, closed.extra

    roster = read_signed_roster(keys)
    with a_door() as (door, url):
        assert json.loads(ask("GET", f"{url}/status")[2])["phase"] == "lobby"
        assert ask("GET", f"{url}/rounds")[0] == 503
        hub = Hub(roster.clients, b"setup", MAX_BYTES)
        door.begin(hub, MAX_BYTES, roster, "split")
        assert json.loads(ask("GET", f"{url}/status")[2])["round"] is None
        assert list(hub.collect([], (3, "train"), 0.0)) == []
        status = {"phase": "rounds", "enrolled": 0, "wanted": 0, "round": 3, "bundle": False, "aggregator": "split"}
        assert json.loads(ask("GET", f"{url}/status")[2]) == status
        assert asyncio.run(stay(url, door)) == (1001, "all rounds are done")
        assert json.loads(ask("GET", f"{url}/status")[2])["phase"] == "done"
        assert ask("GET", f"{url}/rounds")[0] == 410
