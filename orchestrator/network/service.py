"""Serves the parties that only the server calls: the decryptor and the helpers, each with a few calls of one answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import grpc

from orchestrator.errors import OrchestratorError
from orchestrator.network import messages
from orchestrator.network.certificates import SERVER
from orchestrator.network.listening import add_handlers, build_server, listen
from orchestrator.network.tls import Tls, is_caller
from orchestrator.wire import as_one_line

Answer = Callable[[bytes], bytes]  # from what the server asks; raises OrchestratorError to refuse it


class Service:
    """Listens for the server's calls, and takes them one at a time. Whoever else calls is refused unheard.

    Args:
      tls: the party's certificate.
      calls: what answers each method of gRPC.
      note: called with a line for each call that was refused.
      codes: the status that a refusal ends a call with, where it is another than FAILED_PRECONDITION.
      on_stop: called once the port is closed.
    """

    def __init__(
        self,
        tls: Tls,
        calls: Mapping[str, Answer],
        note: Callable[[str], None],
        codes: Mapping[type[OrchestratorError], grpc.StatusCode],
        on_stop: Callable[[], object] = lambda: None,
    ):
        self._tls, self._codes, self._on_stop, self._lock = tls, codes, on_stop, threading.Lock()
        self._note = in_one_line(note)
        self._server = build_server(4, messages.MAX_BYTES)
        add_handlers(self._server, {method: self._handler(answer) for method, answer in calls.items()})

    def listen(self, address: str) -> int:
        """Begins to listen and returns the port; raises PortInUse."""
        return listen(self._server, address, self._tls)

    def wait(self) -> None:
        """Blocks until the service is stopped."""
        self._server.wait_for_termination()

    def stop(self) -> None:
        """Closes the port, and what the party holds."""
        self._server.stop(1.0).wait()
        self._on_stop()

    def _handler(self, answer: Answer) -> grpc.RpcMethodHandler:
        def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            if not is_caller(context, SERVER):
                self._note("refused a call that is not the server's")
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "only the server may call")
            request = next(requests, b"")
            with self._refusing(context):
                return answer(request)

        # As a stream of requests: who calls is known before a thread waits for what is asked.
        return grpc.stream_unary_rpc_method_handler(handle)

    @contextmanager
    def _refusing(self, context: grpc.ServicerContext) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except OrchestratorError as error:
                self._note(f"refused: {error}")
                context.abort(self._codes.get(type(error), grpc.StatusCode.FAILED_PRECONDITION), str(error))


def in_one_line(note: Callable[[str], None]) -> Callable[[str], None]:
    """Returns `note` for lines that may hold what another machine sent."""
    return lambda line: note(as_one_line(line))
