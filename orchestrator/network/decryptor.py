"""Runs the decryptor of the encrypted sum in a separate process, and calls it from the server.

It has two calls: Open(round) returns the terms of a fresh key; Decrypt(total, transcript) returns the sum and forgets
the key. It decides by the roster, minimum and parameters on its machine, whatever the server says. See
orchestrator/homomorphic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import grpc
import numpy as np

from orchestrator.aggregator import Vector
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.errors import SpoiledSum
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.network import messages
from orchestrator.network.certificates import DECRYPTOR, SERVER, read_decryptor, read_roster, read_signing_key
from orchestrator.network.channel import check_server, explained, open_channel
from orchestrator.network.errors import KeysError, WireError
from orchestrator.network.service import Service, in_one_line
from orchestrator.network.tls import Tls
from orchestrator.wire import as_one_line, encode

_WAIT_S, _CALL_S = 10.0, 600.0


def decryptor_service(
    keys: Path, parameters: BfvParameters, min_contributions: int, note: Callable[[str], None]
) -> Service:
    """Returns the decryptor as a process of its own serves it.

    Args:
      keys: a folder with ca.pem, decryptor.key, decryptor.pem, decryptor_identity.key and roster.json.
      parameters: the cipher's parameters.
      min_contributions: the fewest vectors in a sum that it opens.
      note: called with a line for each sum that it opened or refused.

    Raises:
      KeysError: a file is missing or damaged, or the decryptor's public key there is another's.
    """
    identity, roster = read_signing_key(keys / "decryptor_identity.key"), read_roster(keys)
    if read_decryptor(keys) not in (None, identity.public_key().public_bytes_raw()):
        raise KeysError(
            f"{keys / 'decryptor_identity.pub'} is of another decryptor: clients that have this copy encrypt for that "
            "one; ask the operator, or make new keys"
        )
    decryptor, say = SumDecryptor(parameters, identity, roster, min_contributions), in_one_line(note)

    def open_round(request: bytes) -> bytes:
        found = messages.decode(request, messages.ROUND_TO_OPEN)
        terms = decryptor.open_round(found.round_num, found.num_slots)
        say(f"round {found.round_num}: a fresh key for one sum")
        return terms

    def decrypt(request: bytes) -> bytes:
        found = messages.decode(request, messages.SUM_TO_OPEN)
        total = decryptor.decrypt(bytes(found.total), found.transcript)
        say("opened the sum; its key is forgotten")
        return total.astype("<u4").tobytes()

    calls = {messages.OPEN: open_round, messages.DECRYPT: decrypt}
    return Service(Tls.of_role(keys, DECRYPTOR), calls, say, {SpoiledSum: grpc.StatusCode.DATA_LOSS})


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
