"""The messages of the split sum; their fields travel in the order written here, see orchestrator/wire.py.

    aggregator -> client    RoundTerms     what the sum of this round will be
    client -> aggregator    Upload         its masked vector and a sealed seed for each helper, signed
    aggregator -> helper    MaskRequest    who contributed, each with its signature and the seed sealed for this helper
    helper -> aggregator    MaskSum        the sum of these clients' masks

Lengths are part of a message's type: `decode` refuses all others. Words on the wire are little-endian. What a client
signs, and what a seed is sealed for, are bytes of fixed layout that are made from the fields, never the wire itself.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from orchestrator import wire
from orchestrator.masks import SEED_BYTES
from orchestrator.split.errors import MalformedMessage
from orchestrator.split.hpke import OVERHEAD_BYTES
from orchestrator.wire import Wire, exactly

VERSION = 1
MAX_HELPERS = 5
NOTHING_AGREED = bytes(32)
SEALED_BYTES = SEED_BYTES + OVERHEAD_BYTES
MAX_TERMS_BYTES = 256
ENVELOPE_BYTES = 2048  # the most that an upload takes around its words, and a request around its contributions
CONTRIBUTION_BYTES = 1024  # the most that a line of a list takes, with its model
_PREFIX = b"fedkeys split sum 1 "


Digest = Annotated[bytes, exactly(32)]
RunId = Annotated[bytes, exactly(32)]
Signature = Annotated[bytes, exactly(64)]
Sealed = Annotated[bytes, exactly(SEALED_BYTES)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
RoundNum = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Place = Annotated[int, msgspec.Meta(ge=0, lt=MAX_HELPERS)]


class Message(Wire, frozen=True, tag=lambda name: f"split/{VERSION}/{name}"):
    """The base of the four messages."""


class RoundTerms(Message, frozen=True):
    """What a client is told of the sum, and signs.

    Attributes:
      run: names the run; its rounds are opened once each.
      round_num: of the sum.
      group: which of the round's sums it is, each of other clients; 0 where the cohort has one sum.
      max_staleness: how many rounds before it the weights may be of which a client began; 0 outside of FedBuff.
      num_slots: the length of a vector.
      min_contributions: the fewest vectors of which a helper may open the sum.
      helpers: `helpers_digest` of all helpers' public keys.
    """

    run: RunId
    round_num: RoundNum
    group: RoundNum
    max_staleness: RoundNum
    num_slots: Annotated[int, msgspec.Meta(ge=1, lt=1 << 29)]
    min_contributions: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]
    helpers: Digest

    @property
    def digest(self) -> bytes:
        """32 bytes that name all of it at once."""
        numbers = struct.pack(
            ">5I", self.round_num, self.group, self.max_staleness, self.num_slots, self.min_contributions
        )
        return hashlib.sha256(_PREFIX + b"terms\0" + self.run + numbers + self.helpers).digest()

    def allows(self, version: int) -> bool:
        """Returns whether a client may have begun with the weights of round `version`."""
        return self.round_num - self.max_staleness <= version <= self.round_num


class Upload(Message, frozen=True):
    """A client's masked vector, with a sealed seed for each helper. Decoded without a copy of the words."""

    terms: Digest
    client_id: Name
    version: RoundNum  # the round whose weights the client began with
    sealed: Annotated[list[Sealed], msgspec.Meta(min_length=1, max_length=MAX_HELPERS)]
    signature: Signature
    words: memoryview


class Model(Wire, frozen=True):
    """What all clients that began with the same weights were told for it."""

    version: RoundNum
    agreed: Digest


class Contribution(Wire, frozen=True):
    """A line of a list: what a client signed, and the seed for this helper. Of the others' seeds only the digests."""

    client_id: Name
    version: RoundNum
    words_sha256: Digest
    seals: Annotated[list[Digest], msgspec.Meta(min_length=1, max_length=MAX_HELPERS)]
    sealed: Sealed
    signature: Signature


class MaskRequest(Message, frozen=True):
    """The list of a round, for one helper."""

    terms: RoundTerms
    helper: Place
    models: list[Model]
    contributions: list[Contribution]


class MaskSum(Message, frozen=True):
    """A helper's answer to one list. Decoded without a copy of the words."""

    terms: Digest
    request_sha256: Digest
    helper: Place
    words: memoryview


class Statement(NamedTuple):
    """What a client states of its vector."""

    terms: bytes  # digest of the RoundTerms
    version: int
    agreed: bytes  # 32 bytes, a digest of all else that the client was told for the round
    words_sha256: bytes  # of the masked vector
    client_id: str

    def signed_bytes(self, seals: Sequence[bytes]) -> bytes:
        """Returns what the client signs: the statement and the digest of each sealed seed, in the helpers' order.

        The name comes last, since all before it is of fixed length once the number of helpers is known.
        """
        counts = struct.pack(">IB", self.version, len(seals))
        fixed = self.terms + counts + self.agreed + self.words_sha256 + b"".join(seals)
        return _PREFIX + b"upload\0" + fixed + self.client_id.encode()

    def seal_info(self, helper: int) -> bytes:
        """Returns what the key of a sealed seed is bound to: round, model, helper and client."""
        counts = struct.pack(">IB", self.version, helper)
        return _PREFIX + b"seed\0" + self.terms + counts + self.agreed + self.client_id.encode()


M = TypeVar("M", bound=Message)


def decode(octets: bytes, message_type: type[M], max_bytes: int) -> M:
    """Returns the message of the expected type that the bytes hold; see orchestrator.wire.decode.

    Raises:
      MalformedMessage: the bytes are no such message, or longer than max_bytes.
    """
    return wire.decode(octets, message_type, max_bytes, MalformedMessage)


def helpers_digest(helpers: Sequence[bytes]) -> bytes:
    """Returns 32 bytes that name the helpers' public keys, of 32 bytes each, in their order.

    Raises:
      ValueError: there are none, too many, or two are one.
    """
    if not 1 <= len(helpers) <= MAX_HELPERS or len(set(helpers)) < len(helpers):
        raise ValueError(f"helpers must be 1 to {MAX_HELPERS} different keys, got {len(helpers)} keys")
    return hashlib.sha256(_PREFIX + b"helpers\0" + b"".join(helpers)).digest()
