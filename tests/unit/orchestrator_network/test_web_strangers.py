"""Strangers at the web door: however many come and whatever they leave, clients get in and the log stays clean."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import aiohttp
import pytest
from loopback import wait_until
from web_peer import a_door, ask, ending, enter, joins, knock, rounds

from orchestrator.network import messages
from orchestrator.network.places import Places
from orchestrator.network.web_rounds import NOT_LET_IN, PROTOCOL, DoorLimits, _Doorstep

pytestmark = pytest.mark.timeout(60)


def test_strangers_who_wait_keep_no_client_out(keys):
    """As many as the door has places for, and more: the oldest of them go, the client gets in, none holds a thread."""
    limits = DoorLimits(most_waiting=4)

    async def flood(url):
        async with contextlib.AsyncExitStack() as stack:
            idle = [(await stack.enter_async_context(knock(url)))[0] for _ in range(12)]
            async with knock(url) as (socket, nonce):
                await enter(keys, socket, nonce)
            gone = [await ending(own) for own in idle[:9]]
            assert not any(own.closed for own in idle[9:])
            return gone

    with rounds(keys, limits) as (_, url):  # of 12 the last 4 stayed, and one of them went for the client
        assert asyncio.run(flood(url)) == [aiohttp.WSCloseCode.ABNORMAL_CLOSURE] * 9


def test_who_says_nothing_is_let_go(keys):
    async def wait(url):
        async with knock(url) as (socket, _):
            return await ending(socket)

    with rounds(keys, DoorLimits(join_s=0.2)) as (_, url):
        assert asyncio.run(wait(url)) == NOT_LET_IN


def test_who_says_nothing_and_pings_is_let_go(keys):
    async def wait(url):
        async with knock(url) as (socket, _):
            ended = asyncio.ensure_future(ending(socket))
            while not ended.done():
                with contextlib.suppress(ConnectionError):
                    await socket.ping()
                await asyncio.wait([ended], timeout=0.05)
            return ended.result()

    with rounds(keys, DoorLimits(join_s=0.4)) as (_, url):
        assert asyncio.run(wait(url)) == NOT_LET_IN


def test_no_more_than_a_join_is_taken_in_before_the_proof(keys):
    """A frame that is as long as an answer may be fills memory, while the server waits for its end."""
    handshake = (
        f"GET /rounds HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    )
    long_frame = b"\x82\xfe" + (60_000).to_bytes(2, "big") + bytes(4)  # a binary one, masked by zeros

    async def send(url, frame, num_bytes):
        """Whether the server ends the connection when so many bytes of the frame have come, and no more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(handshake.encode())
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2 + messages.NONCE_BYTES)
        writer.write(frame + bytes(num_bytes))
        try:
            await asyncio.wait_for(reader.read(), 2.0)
        except asyncio.TimeoutError:
            return False
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return True

    with rounds(keys, DoorLimits(join_s=30.0)) as (_, url):
        assert asyncio.run(send(url, long_frame, 2_000))
        assert asyncio.run(send(url, b"\x89\x80" + bytes(4), 6 * 200))  # no frame is long, and there is no end of them
        assert not asyncio.run(send(url, long_frame, 500))  # it waits for the rest
        assert joins(keys, url)


def test_who_asks_for_no_websocket_after_all_may_ask_for_files(keys):
    async def ask_on(url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(f"GET /rounds HTTP/1.1\r\nHost: localhost\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n".encode())
        lines = [await reader.readline()]
        writer.write(f"GET /status HTTP/1.1\r\nHost: localhost\r\nX-Long: {'a' * 2000}\r\n\r\n".encode())
        while b"HTTP/1.1 200" not in lines[-1]:  # a body ends without a line feed
            lines.append(await asyncio.wait_for(reader.readline(), 5.0))
            assert lines[-1], lines
        writer.transport.abort()
        return lines[0]

    with rounds(keys) as (_, url):
        assert asyncio.run(ask_on(url)).startswith(b"HTTP/1.1 400")


def test_connections_beyond_the_places_are_closed_at_once_and_leave_room_again(keys):
    """Of one address half of the places: the other half stays free."""

    async def flood(url):
        port, open_ones = int(url.rpartition(":")[2]), []
        for _ in range(5):
            open_ones.append(await asyncio.open_connection("127.0.0.1", port))
        reader, writer = open_ones[-1]
        writer.write(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read(1) == b""  # closed
        reader, writer = open_ones[0]
        writer.write(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in open_ones:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    with rounds(keys, DoorLimits(most_connections=8)) as (_, url):
        for _ in range(3):
            asyncio.run(flood(url))
            wait_until(lambda: joins(keys, url))


def test_one_network_has_half_of_the_places():
    places = Places(asyncio.Protocol, 4)
    assert [places.take(network) for network in "aaabbb"] == [True, True, False, True, True, False]
    places.leave("a")
    assert [places.take(network) for network in "bca"] == [False, True, False]


def test_a_door_that_closes_ends_the_connections_that_it_is_accepting():
    """Browsers keep connecting; what aiohttp has not heard of when it ends its connections would stay open for good."""
    with a_door() as (_, url):
        host, port = url.rpartition("/")[2].split(":")
        callers = [socket.create_connection((host, int(port)), 5.0) for _ in range(100)]
    for caller in callers:
        with caller, contextlib.suppress(ConnectionResetError):
            assert caller.recv(1) == b""


def test_a_flood_of_one_network_ends_the_callers_of_that_network_only():
    class Caller:
        is_there = True

        def drop(self):
            self.is_there = False

    doorstep, callers = _Doorstep(DoorLimits(most_waiting=3, most_waiting_in_all=5)), {}
    with contextlib.ExitStack() as stack:
        for place, remote in enumerate(["192.0.2.9", *["2001:db8::1", "2001:db8::2"] * 3, *["192.0.2.1"] * 3]):
            callers[place] = Caller()
            stack.enter_context(doorstep.waiting(remote, callers[place]))
        # six of one /64, of which three stay; then all are one too many, and the largest network gives way
        assert [place for place, caller in callers.items() if not caller.is_there] == [1, 2, 3, 4, 5]
        assert callers[0].is_there
    assert doorstep._waiting == {}


def test_without_the_subprotocol_there_is_no_round_and_no_line_in_the_log(keys, caplog):
    async def speak(url, *protocols):
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/rounds", protocols=protocols):
            pass

    with rounds(keys) as (_, url):
        for protocols in ((), ("fedkeys.v2", "chat")):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                asyncio.run(speak(url, *protocols))
            assert refused.value.status == 400
        asyncio.run(speak(url, "fedkeys.v2", PROTOCOL))
        assert ask("GET", f"{url}/rounds", headers={"Sec-WebSocket-Protocol": PROTOCOL})[0] == 400
    assert caplog.messages == []


def test_callers_who_hang_up_at_once_leave_no_line_in_the_log(keys, caplog):
    """At each point up to the Join, without a goodbye."""
    place = "GET /rounds HTTP/1.1\r\nHost: localhost\r\n"
    upgrade = (
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
    )

    async def hang_up(url, sent):
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(sent)
        writer.transport.abort()

    with rounds(keys) as (_, url):
        for sent in (b"", place.encode(), (place + upgrade).encode(), (place + upgrade).encode() + b"\x82"):
            for _ in range(5):
                asyncio.run(hang_up(url, sent))
        assert joins(keys, url)
    assert caplog.messages == []


def test_what_is_no_http_is_refused_and_leaves_no_line_in_the_log(keys, caplog):
    async def first_line(url, sent):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(sent)
        line = await reader.readline()
        writer.close()
        return line

    with rounds(keys) as (_, url):
        for sent in (
            b"GARBAGE\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: \0\r\n\r\n",
            b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        ):
            assert b" 400 " in asyncio.run(first_line(url, sent))
    assert caplog.messages == []
