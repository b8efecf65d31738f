"""The messages of server and client around those of the protocols; see orchestrator/wire.py for their bytes.

    client: Challenge()                         server: a nonce
    client: Join(), with its name and a         server: Setup      the configuration and the words, once
            signature over the nonce                    Plan       the round's weights; the client trains
            Answer("train")                             Step       a message of the protocol; none in the split sum
            Answer(stage)  or  Decline                  ...
                                                        Goodbye    after the last round

A client answers each Plan and each Step, and nothing else. A Plan can come at any time and ends what was under way.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, TypeVar, Union

import msgspec

from orchestrator import wire
from orchestrator.network.errors import WireError
from orchestrator.wire import Wire, exactly

VERSION = 2
CHALLENGE = f"/fedkeys.v{VERSION}.Rounds/Challenge"
JOIN = f"/fedkeys.v{VERSION}.Rounds/Join"
OPEN = f"/fedkeys.v{VERSION}.Decryptor/Open"
DECRYPT = f"/fedkeys.v{VERSION}.Decryptor/Decrypt"
OPEN_MASKS = f"/fedkeys.v{VERSION}.Helper/Open"
CLIENT_HEADER, NONCE_HEADER, SIGNATURE_HEADER = "fedkeys-client", "fedkeys-nonce-bin", "fedkeys-signature-bin"
NONCE_BYTES = 32
ENVELOPE_BYTES = 1 << 16  # the most that a message of ours takes, its long fields apart
_MOST_WORDS = 1 << 20  # of a word list: its strings take many times the bytes that they travel in
MAX_BYTES = 1 << 28  # the most that a client takes: a model of 64 million weights

# Of both sides of a connection. gRPC takes compressed messages by default, and looks at their size when they are
# unpacked: a message of a megabyte took a gigabyte. And it takes in more and more that nobody has asked for yet, the
# faster it comes. Both hold also for calls that are refused.
GRPC_LIMITS = (
    ("grpc.compression_enabled_algorithms_bitset", 1),  # the first bit: none
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 20),  # ahead of what is asked for; enough for 80 Mbit/s at 100 ms
)

RoundNum = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Stage = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
Text = Annotated[str, msgspec.Meta(max_length=300)]


class Message(Wire, frozen=True, tag=lambda name: f"network/{VERSION}/{name}"):
    """The base of the messages."""


M = TypeVar("M", bound=Message)


class Join(Message, frozen=True):
    """Client to server over WebSocket, in answer to the nonce: its name, and its signature over proof_bytes.

    Over gRPC both travel in the call's headers.
    """

    client_id: Annotated[str, msgspec.Meta(max_length=128)]
    signature: Annotated[bytes, exactly(64)]


class Setup(Message, frozen=True):
    """Server to client, once: a RunConfig as JSON, and the vocabulary."""

    config: bytes
    words: Annotated[list[str], msgspec.Meta(max_length=_MOST_WORDS)]


class Plan(Message, frozen=True):
    """Server to client: train with these weights (float32, little-endian, in the model's order).

    With terms, which are those of the split sum, the answer is the client's upload.
    """

    round_num: RoundNum
    learning_rate: float
    weights: memoryview
    terms: bytes = b""


class Step(Message, frozen=True):
    """Server to client: a message of the protocol."""

    round_num: RoundNum
    stage: Stage
    body: memoryview


class Goodbye(Message, frozen=True):
    """Server to client: there is nothing left to do."""

    reason: Text


class Answer(Message, frozen=True):
    """Client to server: the protocol's answer; after training the upload of the split sum, or nothing."""

    round_num: RoundNum
    stage: Stage
    body: memoryview


class Decline(Message, frozen=True):
    """Client to server: not in this round."""

    round_num: RoundNum
    stage: Stage
    reason: Text


class SumToOpen(Message, frozen=True):
    """Server to decryptor: the encrypted sum and its transcript."""

    total: memoryview
    transcript: bytes


class RoundToOpen(Message, frozen=True):
    """Server to decryptor: asks for the terms of a round."""

    round_num: RoundNum
    num_slots: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]


class MasksOpened(Message, frozen=True):
    """Helper to server: its answer to a list."""

    body: memoryview


class SeedsRefused(Message, frozen=True):
    """Helper to server: it opened nothing, since the sealed seeds of these clients do not open."""

    client_ids: Annotated[list[Annotated[str, msgspec.Meta(max_length=128)]], msgspec.Meta(max_length=1 << 20)]


ToClient = Union[Setup, Plan, Step, Goodbye]
ToServer = Union[Answer, Decline]
TO_CLIENT: msgspec.msgpack.Decoder[ToClient] = msgspec.msgpack.Decoder(ToClient)
TO_SERVER: msgspec.msgpack.Decoder[ToServer] = msgspec.msgpack.Decoder(ToServer)
JOINING = msgspec.msgpack.Decoder(Join)
ROUND_TO_OPEN = msgspec.msgpack.Decoder(RoundToOpen)
SUM_TO_OPEN = msgspec.msgpack.Decoder(SumToOpen)
FromHelper = Union[MasksOpened, SeedsRefused]
FROM_HELPER: msgspec.msgpack.Decoder[FromHelper] = msgspec.msgpack.Decoder(FromHelper)


def decode(octets: bytes, decoder: msgspec.msgpack.Decoder[M]) -> M:
    """Returns the message that the bytes hold.

    Args:
      octets: the bytes as received.
      decoder: TO_CLIENT, TO_SERVER, JOINING, ROUND_TO_OPEN, SUM_TO_OPEN or FROM_HELPER.

    Raises:
      WireError: the bytes hold no such message.
    """
    refusal = f"{len(octets)} bytes that are no message of fedkeys' network version {VERSION}"
    return wire.decode_by(decoder, octets, WireError(refusal))


def agreed_digest(setup: bytes, plan: bytes) -> bytes:
    """Returns 32 bytes over all that a client hears for a round: configuration, words, round, learning rate, weights.

    Args:
      setup: the bytes of the Setup.
      plan: the bytes of the Plan.
    """
    digests = hashlib.sha256(setup).digest() + hashlib.sha256(plan).digest()
    return hashlib.sha256(b"fedkeys network 1 agreed\0" + digests).digest()


def proof_bytes(nonce: bytes, client_id: str) -> bytes:
    """Returns the bytes that a client signs to prove its identity."""
    return b"fedkeys network 1 join\0" + nonce + client_id.encode()
