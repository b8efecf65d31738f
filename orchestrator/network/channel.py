"""The calling side of a connection: TLS, the stream to a server, and an error for each thing that can go wrong."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
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

DEFAULT_PATIENCE_S = 3600.0  # a client of many is not asked in each round
_CHALLENGE_S = 10.0
_MOST_DETAILS = 300  # characters of a reason that the other side gives, as in a Goodbye
_RECONNECT_MS = 1000  # two minutes by default: a helper that is started again is found at once
_KEEPALIVE_S, _KEEPALIVE_TIMEOUT_S = 30.0, 20.0  # finds out that a server is frozen, or its network gone


class Link:
    """A client's stream: iterate over it for the server's messages, `send` the answers.

    Args:
      channel: to the server.
      server: HOST:PORT, for the errors.
      client_id: the client's name on the roster.
      identity: the client's long-term key.
      patience_s: how long to wait for each message, in seconds.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        server: str,
        client_id: str,
        identity: Ed25519PrivateKey,
        patience_s: float = DEFAULT_PATIENCE_S,
    ):
        self._server, self._patience_s = server, patience_s
        self._answers: queue.SimpleQueue[Optional[bytes]] = queue.SimpleQueue()
        try:
            nonce = channel.unary_unary(messages.CHALLENGE)(b"", timeout=_CHALLENGE_S)
        except grpc.RpcError as error:
            raise explained(server, error) from None
        if len(nonce) != messages.NONCE_BYTES:  # it is signed: no other bytes are
            raise WireError(f"the server at {server} asks this client to sign {len(nonce)} bytes that are no nonce")
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
          ServerGone: the connection was lost, or the server sends nothing for longer than the client's patience.
        """
        while True:
            lost_patience = threading.Event()
            timer = threading.Timer(self._patience_s, self._give_up, (lost_patience,))
            timer.daemon = True
            timer.start()
            try:
                message = next(self._call)
            except StopIteration:
                return
            except grpc.RpcError as error:
                if lost_patience.is_set():
                    raise ServerGone(
                        f"the server at {self._server} has sent nothing for {self._patience_s:g} s: look at its "
                        "output, or wait longer by --patience"
                    ) from None
                raise explained(self._server, error) from None
            finally:
                timer.cancel()
            yield message

    def _give_up(self, lost_patience: threading.Event) -> None:
        lost_patience.set()
        self._call.cancel()

    def send(self, answer: bytes) -> None:
        """Sends an answer."""
        self._answers.put(answer)


def open_channel(
    server: str, tls: Tls, role: str = SERVER, keepalive_s: tuple[float, float] = (_KEEPALIVE_S, _KEEPALIVE_TIMEOUT_S)
) -> grpc.Channel:
    """Returns a channel to whoever has a certificate of the CA for the role; check_server checks the host's name.

    Args:
      server: HOST:PORT.
      tls: the caller's certificate, and the CA.
      role: of whoever listens there.
      keepalive_s: how often to ask whether the other side lives, and how long to wait for its answer, in seconds.
    """
    ask_s, answer_s = keepalive_s
    options = [
        *messages.GRPC_LIMITS,
        ("grpc.max_receive_message_length", messages.MAX_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.ssl_target_name_override", role_name(role)),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
        ("grpc.keepalive_time_ms", int(1000 * ask_s)),
        ("grpc.keepalive_timeout_ms", int(1000 * answer_s)),
        ("grpc.http2.ping_timeout_ms", int(1000 * answer_s)),  # what gRPC goes by since 1.60; a minute by default
        ("grpc.http2.max_pings_without_data", 0),  # as many as it takes: training is long
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
    reason = as_one_line(details[0][:_MOST_DETAILS]) if details else code.name
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return UnknownClient(f"the server at {server} does not let this client in: {reason}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return WireError(
            f"{server} does not speak fedkeys' network version {messages.VERSION}: install the same fedkeys"
        )
    return ServerGone(f"the connection to {server} was lost ({reason}): start the client again when the server is back")
