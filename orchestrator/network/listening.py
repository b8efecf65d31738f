"""Listens: builds a gRPC server and opens its port. The web door takes from here what both need."""

from __future__ import annotations

import contextlib
import errno
import resource
import socket
import sys
from collections.abc import Iterable, Mapping
from concurrent import futures
from typing import Optional

import grpc

from orchestrator.network.errors import PortInUse
from orchestrator.network.messages import GRPC_LIMITS
from orchestrator.network.tls import Tls

_MAX_STREAMS = 8  # of one connection at a time; a client needs one
_HANDSHAKE_MS = 10_000  # for TLS; it takes no thread of ours
_MOST_PORT = 65_535


def build_server(num_threads: int, max_bytes: int) -> grpc.Server:
    """Returns a gRPC server that shares its port with no other process."""
    return grpc.server(
        futures.ThreadPoolExecutor(num_threads, thread_name_prefix="connection"),
        options=[
            *GRPC_LIMITS,
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", _MAX_STREAMS),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
            ("grpc.keepalive_time_ms", 30_000),  # finds out that a client's network is gone
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.ping_timeout_ms", 20_000),  # what gRPC goes by since 1.60; a minute by default
            ("grpc.http2.min_ping_interval_without_data_ms", 500),  # clients find out that a server is frozen
        ],
    )


def add_handlers(server: grpc.Server, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
    """Adds handlers by their full method name; messages stay bytes."""

    class _Handlers(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Optional[grpc.RpcMethodHandler]:
            return handlers.get(details.method)

    server.add_generic_rpc_handlers((_Handlers(),))


def listen(server: grpc.Server, address: str, tls: Tls) -> int:
    """Begins to listen and returns the port. Whoever shows no certificate of the CA is refused by TLS.

    Raises:
      PortInUse: it can't listen there.
      KeysError: a file of `tls` can't be read.
    """
    port_of(address)  # gRPC takes it modulo 2**16
    try:
        port = server.add_secure_port(address, tls.listening())
    except RuntimeError:
        port = 0
    if not port:
        raise in_use(address, "--listen")
    allow_many_connections()
    server.start()
    return port


def port_of(address: str) -> int:
    """Returns the port of HOST:PORT.

    Raises:
      PortInUse: it is none.
    """
    text = address.rpartition(":")[2]
    if not (":" in address and text.isascii() and text.isdigit() and int(text) <= _MOST_PORT):
        raise PortInUse(f"can't listen on {address}: write HOST:PORT with a port of 0 to {_MOST_PORT}")
    return int(text)


def require_free(places: Iterable[tuple[str, str]]) -> None:
    """Passes if this process could listen now at all of these places at the same time.

    Args:
      places: HOST:PORT of each, and the option that names it.

    Raises:
      PortInUse: it can't listen at one of them.
    """
    with contextlib.ExitStack() as held:
        for address, option in places:
            for own in bind(address, option):
                held.enter_context(own)


def host_of(address: str) -> str:
    """Returns the host of HOST:PORT or of HOST.

    >>> [host_of(address) for address in ("localhost", "localhost:80", "[::1]:80", "[::1]", "[::1].example:80")]
    ['localhost', 'localhost', '::1', '::1', '[::1].example']
    """
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        if rest[:1] in ("", ":"):
            return host
        return address[: len(address) - len(rest)] + rest.partition(":")[0]
    return address.partition(":")[0]


def bind(address: str, option: str) -> list[socket.socket]:
    """Returns sockets that listen at all addresses of a name, on one port.

    Raises:
      PortInUse: it can't listen there; `option` named the address.
    """
    host, port = host_of(address), port_of(address)
    found: list[socket.socket] = []
    try:
        for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                found.append(socket.create_server((place[0], port), family=family))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # as of ::1 where there is no IPv6
                    raise
            else:
                port = found[0].getsockname()[1]
        if not found:
            raise OSError
    except OSError:
        for own in found:
            own.close()
        raise in_use(address, option) from None
    return found


def in_use(address: str, option: str) -> PortInUse:
    """Returns the error of an address that an option names and that can't be listened on."""
    return PortInUse(f"can't listen on {address}: it is in use or not this machine's; choose another {option}")


def allow_many_connections() -> None:
    """Lets this process open as many files as it may: a stranger's idle connections would use the usual 1024 up."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_files() -> int:
    """Returns how many files this process may have open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
