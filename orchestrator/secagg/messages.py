"""The messages of secure aggregation; their fields travel in the order written here, see orchestrator/wire.py.

            client                                     server
                    <- Invitation             the session and its parameters
    advertise       Advertisement ->          r0: identity and two public keys, signed
                    <- Roster                     the neighbours' advertisements
    shares          SealedShares ->           r1: shares of both secrets, sealed for each neighbour
                    <- Delivery                   what the neighbours sealed for this client
    upload          MaskedVector ->           r2: the update under its masks
    consistency     <- Survivors              r3: whose vectors arrived
                    Consent ->                    a signature over just that
    unmask          <- UnmaskRequest          r4: the neighbours' consents, and whose shares are needed
                    Unmasking ->                  one share of each: of the self mask if alive, of the key if dead

Lengths are part of a message's type: `decode` refuses all others. Parties are numbered 0..num_clients-1 by their place
in the cohort. Words on the wire are little-endian. A signature covers bytes of fixed layout that are made from the
fields, never the wire itself.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec

from orchestrator import wire
from orchestrator.secagg.errors import WireError
from orchestrator.secagg.keys import KEY_BYTES, SEALED_OVERHEAD_BYTES, SIGNATURE_BYTES, TAG_BYTES
from orchestrator.secagg.shamir import SHARE_BYTES
from orchestrator.wire import Wire, exactly

VERSION = 1
MAX_CLIENTS = 1 << 20
STAGES = ("advertise", "shares", "upload", "consistency", "unmask")  # in the order above

Index = Annotated[int, msgspec.Meta(ge=0, lt=MAX_CLIENTS)]
Key = Annotated[bytes, exactly(KEY_BYTES)]
Session = Annotated[bytes, exactly(32)]
Signature = Annotated[bytes, exactly(SIGNATURE_BYTES)]
Share = Annotated[bytes, exactly(SHARE_BYTES)]
Sealed = Annotated[bytes, exactly(2 * SHARE_BYTES + SEALED_OVERHEAD_BYTES)]
Tags = Annotated[bytes, exactly(2 * TAG_BYTES)]
Bitmap = Annotated[bytes, msgspec.Meta(max_length=MAX_CLIENTS // 8)]


class Message(Wire, frozen=True, tag=lambda name: f"secagg/{VERSION}/{name}"):
    """The base of the ten messages."""


class Invitation(Message, frozen=True):
    """Server to client, first: the parameters that the session's name is a digest of."""

    nonce: Key
    round_num: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
    recipient: Index
    num_clients: Annotated[int, msgspec.Meta(ge=1, le=MAX_CLIENTS)]
    degree: Index
    threshold: Index
    min_survivors: Index
    num_slots: Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]

    @property
    def session(self) -> bytes:
        """32 bytes that name the session and fix its parameters: clients that hear different ones share no keys."""
        parameters = struct.pack(
            ">6I",
            self.round_num,
            self.num_clients,
            self.degree,
            self.threshold,
            self.min_survivors,
            self.num_slots,
        )
        return hashlib.sha256(b"fedkeys secagg 1 session\0" + self.nonce + parameters).digest()


class Credentials(Wire, frozen=True):
    """A client's public keys for one session: `signature` is by the identity over `signed_bytes`."""

    index: Index
    identity: Key
    channel_key: Key
    mask_key: Key
    signature: Signature

    @property
    def signed_bytes(self) -> bytes:
        """What the signature covers, besides session and index."""
        return self.identity + self.channel_key + self.mask_key


def bound_session(session: bytes, agreed: bytes, everyone: Iterable[Credentials]) -> bytes:
    """Returns 32 bytes that take the session's place in every context from the shares on.

    They fix what all clients must have heard. Two clients that heard different things share no masks, can't open each
    other's shares and refuse each other's consents, whatever the server does.

    Args:
      session: the session's name.
      agreed: see Client.
      everyone: on the complete graph, where all rosters are the same, all who advertised, in any order; otherwise a
        server with more enrolled people than the cohort holds could show each client a different cohort. On a regular
        graph, nobody.
    """
    digest = hashlib.sha256(b"fedkeys secagg 1 bound\0" + session + hashlib.sha256(agreed).digest())
    for peer in sorted(everyone, key=lambda peer: peer.index):
        digest.update(struct.pack(">I", peer.index) + peer.signed_bytes)
    return digest.digest()


class Advertisement(Message, frozen=True):
    """r0, client to server."""

    session: Session
    credentials: Credentials


class Roster(Message, frozen=True):
    """r0, server to client: those of its neighbours that advertised."""

    session: Session
    recipient: Index
    neighbours: list[Credentials]


class SealedShare(Wire, frozen=True):
    """The shares of both secrets for one neighbour, and the server's tags for them."""

    recipient: Index
    sealed: Sealed
    tags: Tags


class SealedShares(Message, frozen=True):
    """r1, client to server."""

    session: Session
    sender: Index
    commitment: Key
    shares: list[SealedShare]


class DeliveredShare(Wire, frozen=True):
    """What one neighbour sealed for the recipient of the delivery."""

    sender: Index
    sealed: Sealed


class Delivery(Message, frozen=True):
    """r1, server to client."""

    session: Session
    recipient: Index
    shares: list[DeliveredShare]


class MaskedVector(Message, frozen=True):
    """r2, client to server: uint32 words, little-endian. Decoded without a copy."""

    session: Session
    sender: Index
    words: memoryview


class Survivors(Message, frozen=True):
    """r3, server to client: bit i (lowest first) says whether client i's vector is in the sum."""

    session: Session
    recipient: Index
    alive: Bitmap


class Consent(Message, frozen=True):
    """r3, client to server: a signature over the bitmap that the client received."""

    session: Session
    sender: Index
    signature: Signature


class PeerConsent(Wire, frozen=True):
    """A neighbour's consent, forwarded."""

    sender: Index
    signature: Signature


class UnmaskRequest(Message, frozen=True):
    """r4, server to client: asks for shares of the `alive` neighbours' self masks and of the `dead` ones' keys."""

    session: Session
    recipient: Index
    consents: list[PeerConsent]
    alive: list[Index]
    dead: list[Index]


class OwnedShare(Wire, frozen=True):
    """A share of a secret of `owner`."""

    owner: Index
    share: Share


class Unmasking(Message, frozen=True):
    """r4, client to server."""

    session: Session
    sender: Index
    seed_shares: list[OwnedShare]
    key_shares: list[OwnedShare]


M = TypeVar("M", bound=Message)


def decode(octets: bytes, message_type: type[M], max_bytes: int) -> M:
    """Returns the message of the expected type that the bytes hold; see orchestrator.wire.decode.

    Raises:
      WireError: the bytes are no such message, or longer than max_bytes.
    """
    return wire.decode(octets, message_type, max_bytes, WireError)


def to_bitmap(indices: Iterable[int], num_clients: int) -> bytes:
    """Returns a bitmap of ceil(num_clients / 8) bytes, lowest bit first.

    >>> to_bitmap([0, 3, 8], num_clients=9).hex()
    '0901'
    """
    bits = bytearray(-(-num_clients // 8))
    for index in indices:
        bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def from_bitmap(bits: bytes, num_clients: int) -> frozenset[int]:
    """Returns the indices whose bits are set.

    Raises:
      WireError: the bitmap has another length than num_clients needs, or a bit beyond num_clients is set.
    """
    indices = frozenset(8 * i + bit for i, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1)
    if len(bits) != -(-num_clients // 8) or max(indices, default=0) >= num_clients:
        raise WireError(f"a bitmap of {len(bits)} bytes that is not one of {num_clients} clients")
    return indices
