"""The calling side of a connection: TLS, the stream to a server, and an error for each thing that can go wrong."""

from __future__ import annotations

import queue
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Optional

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.network import messages
from orchestrator.network.certificates import SERVER, role_name
from orchestrator.network.errors import BadCertificate, NetworkError, ServerGone, UnknownClient, WireError
from orchestrator.network.tls import Tls
from orchestrator.wire import as_one_line


class Link:
    """A client's stream: iterate over it for the server's messages, `send` the answers."""

    def __init__(self, channel: grpc.Channel, server: str, client_id: str, identity: Ed25519PrivateKey):
        self._server = server
        self._answers: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        try:
            nonce = channel.unary_unary(messages.CHALLENGE)(b"", timeout=10)
        except grpc.RpcError as error:
            raise explained(server, error) from None
        headers = (
            (messages.CLIENT_HEADER, client_id),
            (messages.NONCE_HEADER, nonce),
            (messages.SIGNATURE_HEADER, identity.sign(messages.proof_bytes(nonce, client_id))),
        )
        self._call = channel.stream_stream(messages.JOIN)(iter(self._answers.get, None), metadata=headers)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.put(None)
        self._call.cancel()

    def __iter__(self) -> Iterator[bytes]:
        """Yields the server's messages.

        Raises:
          UnknownClient: the server does not let this client in.
          ServerGone: the connection was lost.
        """
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise explained(self._server, error) from None

    def send(self, answer: bytes) -> None:
        """Sends an answer."""
        self._answers.put(answer)


def open_channel(server: str, tls: Tls, role: str = SERVER) -> grpc.Channel:
    """Returns a channel to whoever has a certificate of the CA for the role; check_server checks the host's name."""
    options = [
        ("grpc.max_receive_message_length", messages.MAX_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.ssl_target_name_override", role_name(role)),
    ]
    return grpc.secure_channel(server, tls.calling(), options)


def check_server(server: str, tls: Tls, wait_s: float, role: str = SERVER) -> None:
    """Makes one TLS handshake, since gRPC reports every failed one by the same error.

    Raises:
      UnknownClient: whoever listens there does not accept the certificate of `tls`.
      ServerGone: nobody listens there within wait_s.
      BadCertificate: the certificate is not of this CA, not for this name or role, or expired.
      NetworkError: `server` is not HOST:PORT.
    """
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise NetworkError(f"--server takes HOST:PORT, got {server!r}")
    context = tls.context()
    deadline = time.monotonic() + wait_s
    while True:
        try:
            name = host.strip("[]")
            with (
                socket.create_connection((name, int(port)), 10) as raw,
                context.wrap_socket(raw, server_hostname=name) as connection,
            ):
                _check_role(server, connection.getpeercert(), role)
                return _check_welcome(server, connection)
        except ssl.SSLCertVerificationError as error:
            raise BadCertificate(
                f"{server} shows a certificate that does not hold: {error.verify_message}; take the ca.pem of its keys"
            ) from None
        except OSError as error:
            if time.monotonic() >= deadline:
                reason = error.strerror or str(error)
                raise ServerGone(f"nobody answers at {server} ({reason}): start `fedkeys serve` there") from None
        time.sleep(0.2)


def _check_welcome(server: str, connection: ssl.SSLSocket) -> None:
    """Waits for the first byte: that it comes shows that our certificate is accepted. The handshake ends before."""
    try:
        is_welcome = bool(connection.recv(1))
    except ssl.SSLError:
        is_welcome = False
    if not is_welcome:
        raise UnknownClient(
            f"the server at {server} does not accept this certificate for TLS: enrol with the `fedkeys keygen` that "
            "made the server's keys"
        )


def _check_role(server: str, certificate: Optional[Mapping[str, object]], role: str) -> None:
    if ("DNS", role_name(role)) not in (certificate or {}).get("subjectAltName", ()):  # type: ignore[operator]
        raise BadCertificate(
            f"{server} shows a certificate that is not the {role}'s: call the {role}, or make new keys with "
            "`fedkeys keygen` if they were made before certificates carried a role"
        )


def explained(server: str, error: grpc.RpcError) -> NetworkError:
    """Returns the error that says what a failed call means."""
    code, details = error.code(), (error.details() or "").splitlines()[:1]
    reason = as_one_line(details[0]) if details else code.name
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return UnknownClient(f"the server at {server} does not let this client in: {reason}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return WireError(
            f"{server} does not speak fedkeys' network version {messages.VERSION}: install the same fedkeys"
        )
    return ServerGone(f"the connection to {server} was lost ({reason}): start the client again when the server is back")
