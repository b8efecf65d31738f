"""Bounds the connections of a port and what each may send, so that strangers take neither all files nor all memory."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections import Counter
from typing import Callable, Optional


class Places:
    """Makes the protocol of each connection, as the factory that asyncio's create_server takes.

    A connection that finds no place is closed at once. One network may have half of all places.

    Args:
      factory: makes what serves a connection.
      most: the number of places.
    """

    def __init__(self, factory: Callable[[], asyncio.Protocol], most: int):
        self._factory, self._most = factory, most
        self._taken: Counter[str] = Counter()

    def __call__(self) -> asyncio.Protocol:
        return Guest(self._factory(), self)

    def take(self, network: str) -> bool:
        """Takes a place; False if there is none."""
        if sum(self._taken.values()) >= self._most or self._taken[network] >= max(1, self._most // 2):
            return False
        self._taken[network] += 1
        return True

    def leave(self, network: str) -> None:
        """Gives a place back."""
        self._taken[network] -= 1
        if not self._taken[network]:
            del self._taken[network]


class Guest(asyncio.Protocol):
    """Hands everything to the protocol within, once it has a place."""

    def __init__(self, within: asyncio.Protocol, places: Places):
        self._within, self._places = within, places
        self._network: Optional[str] = None  # whose place it has
        self._transport: Optional[asyncio.Transport] = None
        self._bytes_left = math.inf

    @staticmethod
    def of(transport: asyncio.Transport) -> Guest:
        """Returns the guest whose connection this is."""
        guest = transport.get_protocol()
        assert isinstance(guest, Guest)
        return guest

    def allow(self, num_bytes: float) -> None:
        """Ends the connection without a word once it has received more than this from here on."""
        self._bytes_left = num_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        network = network_of(transport.get_extra_info("peername", ("",))[0])
        if self._places.take(network):
            self._network, self._transport = network, transport
            self._within.connection_made(transport)
        else:
            transport.abort()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        if self._network is not None:
            self._places.leave(self._network)
            self._within.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self._transport.abort()
        else:
            self._within.data_received(data)

    def eof_received(self) -> Optional[bool]:
        return self._within.eof_received() if self._network is not None else None

    def pause_writing(self) -> None:
        self._within.pause_writing()

    def resume_writing(self) -> None:
        self._within.resume_writing()


def network_of(remote: str) -> str:
    """What one household or machine has: an IPv4 address, or the /64 of an IPv6 address.

    >>> network_of("192.0.2.1"), network_of("2001:db8::1"), network_of("2001:db8::2")
    ('192.0.2.1', '2001:db8::/64', '2001:db8::/64')
    """
    try:
        address = ipaddress.ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else remote
