"""Who may take part, signed by the operator: what the signature covers, and which rosters a client refuses.

    operator.key, operator.pub     the operator's Ed25519 key, with the number that names the folder of keys
    roster.json                    {"schema": 2, "roster_id", "number", "helpers", "clients", "signature"}, keys as hex

A server hands the roster on and can't change it. A client knows the operator from its enrolment, and what it refuses is
checked in this order: a roster that is not signed, of other keys, changed, older than one that it has seen, or without
the client. Rosters of schema 1 are those of before: they hold the clients alone.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Optional

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.signatures import has_small_order, is_signed
from models.corpus import ClientId
from orchestrator.network.errors import (
    ForeignRoster,
    ForgedRoster,
    ForkedRoster,
    NotOnRoster,
    OldRoster,
    UnsignedRoster,
)
from orchestrator.secagg.keys import is_sound
from orchestrator.split.messages import MAX_HELPERS
from orchestrator.units import count_text

_ID_BYTES = 16
CLIENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # a file's name and a header's value
_MOST_CLIENTS = 1 << 20
_PREFIX = b"fedkeys network 1 "
_ASK = "ask the operator for the newest one"

_Key = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


class _File(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    schema: int
    clients: dict[str, _Key]
    roster_id: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{32})?\\Z")] = ""
    number: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] = 0
    helpers: Annotated[list[_Key], msgspec.Meta(max_length=MAX_HELPERS)] = []
    signature: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{128})?\\Z")] = ""


@dataclass(frozen=True)
class Operator:
    """Whose signature a roster must bear. A client keeps it from its enrolment on.

    Attributes:
      key: the Ed25519 public key, 32 bytes.
      roster_id: 16 bytes that name the folder of keys: one key may sign the rosters of several.
    """

    key: bytes
    roster_id: bytes

    @property
    def fingerprint(self) -> str:
        """Thirty-two hex digits that people, and the address of an enrolment, hold a key against."""
        return hashlib.sha256(_PREFIX + b"operator\0" + self.key + self.roster_id).hexdigest()[:32]

    @property
    def line(self) -> bytes:
        """The content of operator.pub."""
        return f"{self.key.hex()} {self.roster_id.hex()}\n".encode()


@dataclass(frozen=True)
class Seen:
    """The newest roster that a client has seen: its number, and the SHA-256 of what the operator signed."""

    number: int
    digest: bytes


@dataclass(frozen=True)
class Roster:
    """Who may take part. One of before is not signed: all but `clients` is empty.

    Attributes:
      clients: their Ed25519 public keys, 32 bytes each.
      helpers: the X25519 public keys of the split sum's helpers, 32 bytes each, in their order.
      roster_id: names the folder of keys, as in Operator.
      number: counts the rosters of a folder, from 1 on.
      signature: the operator's, over `signed_bytes`.
    """

    clients: Mapping[ClientId, bytes]
    helpers: Sequence[bytes] = ()
    roster_id: bytes = b""
    number: int = 0
    signature: bytes = b""

    @property
    def signed_bytes(self) -> bytes:
        """What the operator signs: every field of fixed length or after its length, the clients by their names."""
        parts = [_PREFIX, b"roster\0", self.roster_id, struct.pack(">IB", self.number, len(self.helpers))]
        parts += [*self.helpers, struct.pack(">I", len(self.clients))]
        for client_id, key in sorted(self.clients.items()):
            name = client_id.encode("ascii")
            parts += [struct.pack(">B", len(name)), name, key]
        return b"".join(parts)

    @property
    def seen(self) -> Seen:
        """What a client that has seen this roster keeps of it."""
        return Seen(self.number, hashlib.sha256(self.signed_bytes).digest())

    def to_json(self) -> bytes:
        """Returns the content of roster.json."""
        clients = {str(client_id): key.hex() for client_id, key in sorted(self.clients.items())}
        helpers = [key.hex() for key in self.helpers]
        rest = self.roster_id.hex(), self.number, helpers, self.signature.hex()
        return msgspec.json.format(msgspec.json.encode(_File(2 if self.signature else 1, clients, *rest))) + b"\n"


def new_operator(key: Ed25519PrivateKey) -> Operator:
    """Returns the operator of a new folder of keys, which this key signs the rosters of."""
    return Operator(key.public_key().public_bytes_raw(), secrets.token_bytes(_ID_BYTES))


def decode_operator(content: bytes) -> Operator:
    """Returns the operator that the bytes of an operator.pub name: the key and the folder's name, as hex on one line.

    Raises:
      ValueError: they name none, or a key of small order.
    """
    key, roster_id = map(bytes.fromhex, content.decode("ascii").split())
    if (len(key), len(roster_id)) != (32, _ID_BYTES) or has_small_order(key):
        raise ValueError("no key that can sign")
    return Operator(key, roster_id)


def decode_roster(content: bytes) -> Roster:
    """Returns the roster that the bytes of a roster.json hold. Whose signature it bears is not checked.

    Raises:
      ValueError: they hold none, or one with a key of small order or with two clients of one key.
    """
    try:
        found = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no roster") from None
    signed = (found.roster_id, found.number, found.signature)
    if found.schema not in (1, 2) or any(signed) != (found.schema == 2) or (found.helpers and found.schema == 1):
        raise ValueError("it is of another schema")
    if found.schema == 2 and not (all(signed) and all(map(CLIENT_NAME.fullmatch, found.clients))):
        raise ValueError("a field is missing, or a name is none of a client")
    clients = {ClientId(client_id): bytes.fromhex(key) for client_id, key in found.clients.items()}
    helpers = tuple(map(bytes.fromhex, found.helpers))
    if len(set(clients.values())) < len(clients) or len(set(helpers)) < len(helpers) or len(clients) > _MOST_CLIENTS:
        raise ValueError("a key stands there twice, or there are too many")
    for client_id, key in clients.items():
        if has_small_order(key):
            raise ValueError(f"the key of client {client_id} is of small order: anybody can sign for it")
    if not all(map(is_sound, helpers)):
        raise ValueError("the key of a helper is of small order, or another's in a second writing")
    return Roster(clients, helpers, bytes.fromhex(found.roster_id), found.number, bytes.fromhex(found.signature))


def sign_roster(roster: Roster, key: Ed25519PrivateKey) -> Roster:
    """Returns the roster with the operator's signature."""
    return replace(roster, signature=key.sign(roster.signed_bytes))


def require_signed(roster: Roster, operator: Operator) -> None:
    """Passes a roster that the operator signed for this folder of keys.

    Raises:
      UnsignedRoster: it bears no signature.
      ForeignRoster: it is of another folder of keys.
      ForgedRoster: the signature is not the operator's, or something was changed after it.
    """
    if not roster.signature:
        raise UnsignedRoster(f"the roster is not signed, and this client knows who its operator is: {_ASK}")
    if roster.roster_id != operator.roster_id:
        raise ForeignRoster(f"the roster is of another run's keys than those that this client is enrolled with: {_ASK}")
    if not is_signed(roster.signature, operator.key, roster.signed_bytes):
        raise ForgedRoster(f"the roster was changed, or somebody else than the operator signed it: {_ASK}")


def require_newest(roster: Roster, seen: Optional[Seen]) -> None:
    """Passes a signed roster that is the newest one that the client has seen, or newer.

    Raises:
      OldRoster: the client has seen a newer one.
      ForkedRoster: the client has seen another one of the same number.
    """
    if seen is not None and roster.number < seen.number:
        raise OldRoster(f"the roster is number {roster.number}, this client has seen number {seen.number}: {_ASK}")
    if seen is not None and roster.number == seen.number and roster.seen != seen:
        raise ForkedRoster(f"the operator signed two rosters as number {seen.number}: ask the operator for a new one")


def require_listed(roster: Roster, client_id: str, key: bytes) -> None:
    """Passes a roster with this client.

    Raises:
      NotOnRoster: the client is not on it, or with another key.
    """
    listed = roster.clients.get(ClientId(client_id))
    if listed is None:
        raise NotOnRoster(f"the roster has no client {client_id}: ask the operator to enrol it")
    if listed != key:
        raise NotOnRoster(f"the roster's key of client {client_id} is not this client's: ask the operator to enrol it")


def provenance(roster: Roster, operator: Optional[Operator]) -> str:
    """Returns in one line, for people, who says that these are the clients."""
    if operator is not None:
        digits = operator.fingerprint
        groups = " ".join(digits[start : start + 4] for start in range(0, 32, 4))
        return f"roster {roster.number}: {count_text(len(roster.clients), 'client')}, signed by operator {groups}"
    if roster.signature:
        return "the roster's signature is not checked: operator.pub is not here; get it from the operator"
    return "the roster is not signed, as by fedkeys of before: whoever passes it on can change it"
