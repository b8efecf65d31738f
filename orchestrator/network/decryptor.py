"""Runs the decryptor of the encrypted sum in a separate process, and calls it from the server.

It has two calls: Open(round) returns the terms of a fresh key; Decrypt(total, transcript) returns the sum and forgets
the key. It decides by the roster, minimum and parameters on its machine, whatever the server says. See
orchestrator/homomorphic.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import grpc
import numpy as np

from orchestrator.aggregator import Vector
from orchestrator.errors import BelowThreshold, OrchestratorError
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.errors import SpoiledSum
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.network import messages
from orchestrator.network.certificates import DECRYPTOR, SERVER, read_decryptor, read_roster, read_signing_key
from orchestrator.network.channel import check_server, explained, open_channel
from orchestrator.network.errors import KeysError, WireError
from orchestrator.network.hub import add_handlers, build_server, listen
from orchestrator.network.tls import Tls, is_caller
from orchestrator.wire import as_one_line, encode

_WAIT_S, _CALL_S = 10.0, 600.0


class DecryptorService:
    """Listens for the server's two calls, and takes them one at a time. Whoever else calls is refused unheard.

    Args:
      keys: a folder with ca.pem, decryptor.key, decryptor.pem, decryptor_identity.key and roster.json.
      parameters: the cipher's parameters.
      min_contributions: the fewest vectors in a sum that it opens.
      note: called with a line for each sum that it opened or refused.
    """

    def __init__(self, keys: Path, parameters: BfvParameters, min_contributions: int, note: Callable[[str], None]):
        identity, roster = read_signing_key(keys / "decryptor_identity.key"), read_roster(keys)
        self._decryptor = SumDecryptor(parameters, identity, roster, min_contributions)
        self._tls = Tls.of_role(keys, DECRYPTOR)
        self._note, self._lock = (lambda line: note(as_one_line(line))), threading.Lock()
        self._server = build_server(4, messages.MAX_BYTES)
        handlers = {
            # As streams of requests: who calls is known before a thread waits for what is asked.
            messages.OPEN: grpc.stream_unary_rpc_method_handler(self._open),
            messages.DECRYPT: grpc.stream_unary_rpc_method_handler(self._decrypt),
        }
        add_handlers(self._server, handlers)

    def listen(self, address: str) -> int:
        """Begins to listen and returns the port; raises PortInUse."""
        return listen(self._server, address, self._tls)

    def wait(self) -> None:
        """Blocks until the service is stopped."""
        self._server.wait_for_termination()

    def stop(self) -> None:
        """Closes the port."""
        self._server.stop(1.0).wait()

    def _open(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        request = self._request(requests, context)
        with self._answering(context):
            found = messages.decode(request, messages.ROUND_TO_OPEN)
            terms = self._decryptor.open_round(found.round_num, found.num_slots)
            self._note(f"round {found.round_num}: a fresh key for one sum")
            return terms

    def _decrypt(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        request = self._request(requests, context)
        with self._answering(context):
            found = messages.decode(request, messages.SUM_TO_OPEN)
            total = self._decryptor.decrypt(bytes(found.total), found.transcript)
            self._note("opened the sum; its key is forgotten")
            return total.astype("<u4").tobytes()

    def _request(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Reads what the server asks; a call of anybody else ends here."""
        if not is_caller(context, SERVER):
            self._note("refused a call that is not the server's")
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "only the server may call the decryptor")
        return next(requests, b"")

    @contextmanager
    def _answering(self, context: grpc.ServicerContext) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except SpoiledSum as error:
                self._note(f"opened nothing: {error}")
                context.abort(grpc.StatusCode.DATA_LOSS, str(error))
            except OrchestratorError as error:
                self._note(f"refused: {error}")
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))


class RemoteDecryptor:
    """The server's connection to the decryptor.

    Raises:
      NetworkError: nobody answers there, the certificate is another, or the keys lack decryptor_identity.pub.
    """

    def __init__(self, address: str, keys: Path):
        identity, tls = read_decryptor(keys), Tls.of_role(keys, SERVER)
        if identity is None:
            raise KeysError(f"{keys} holds no decryptor_identity.pub: copy it from where `fedkeys keygen` wrote it")
        self.identity = identity
        check_server(address, tls, _WAIT_S, DECRYPTOR)
        self._address, self._channel = address, open_channel(address, tls, DECRYPTOR)

    def open_round(self, round_num: int, num_slots: int) -> bytes:
        """See orchestrator.network.session.Decryptor."""
        return self._call(messages.OPEN, messages.RoundToOpen(round_num, num_slots))

    def decrypt(self, total: bytes, transcript: bytes) -> Vector:
        """See orchestrator.network.session.Decryptor.

        Raises:
          BelowThreshold: the decryptor refuses.
          SpoiledSum: the total is no sum.
        """
        answer = self._call(messages.DECRYPT, messages.SumToOpen(memoryview(total), transcript))
        if len(answer) % 4:
            raise WireError(f"the decryptor at {self._address} sent {len(answer)} bytes that are no vector")
        return np.frombuffer(answer, "<u4").astype(np.uint32)

    def _call(self, method: str, message: messages.Message) -> bytes:
        try:
            return self._channel.unary_unary(method)(encode(message), timeout=_CALL_S)
        except grpc.RpcError as error:
            details = as_one_line(error.details() or "")
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise BelowThreshold(f"the decryptor opens nothing: {details}") from None  # ends this round only
            if error.code() is grpc.StatusCode.DATA_LOSS:
                raise SpoiledSum(details) from None
            raise explained(self._address, error) from None
