"""Bounds the connections of a port, so that strangers can't take all the files that the process may open."""

from __future__ import annotations

import asyncio
import ipaddress
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
        return _Guest(self._factory(), self)

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


class _Guest(asyncio.Protocol):
    """Hands everything to the protocol within, once it has a place."""

    def __init__(self, within: asyncio.Protocol, places: Places):
        self._within, self._places = within, places
        self._network: Optional[str] = None  # whose place it has

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        network = network_of(transport.get_extra_info("peername", ("",))[0])
        if self._places.take(network):
            self._network = network
            self._within.connection_made(transport)
        else:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        if self._network is not None:
            self._places.leave(self._network)
            self._within.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._network is not None:
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
