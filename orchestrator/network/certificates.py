"""The files of keys of a network run, and who may take part; authority.py and enrolment.py make them.

    DIR/ca.pem, ca.key                   the CA; the key only signs certificates, keep it off the server
    DIR/server.pem, server.key           for TLS; decryptor.pem, decryptor.key likewise
    DIR/tls/ID.pem, ID.key               a client's for TLS: without it nobody gets as far as a first message
    DIR/decryptor_identity.key, .pub     signs the terms of the encrypted sum
    DIR/helper-1.pem, .key               for TLS of the split sum's first helper, and so on for the others
    DIR/helper-1_seal.key                opens the seeds that clients seal for it
    DIR/helpers.pub                      all helpers' public keys, a line each
    DIR/operator.key, .pub               signs the roster; the key only signs rosters, keep it off the server
    DIR/roster.json                      who may take part: {client id: Ed25519 public key}, signed by the operator
    DIR/clients/ID.key                   a client's identity

A server needs ca.pem, server.*, operator.pub and roster.json, a client ca.pem, operator.pub, roster.json and its own
keys; both need helpers.pub for the split sum. Folders of before have no operator's key: their rosters are not signed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Optional, Union

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.network.errors import KeysError
from orchestrator.network.roster import (
    CLIENT_NAME,
    Operator,
    Roster,
    decode_operator,
    decode_roster,
    require_signed,
    sign_roster,
)
from orchestrator.secagg.keys import is_sound
from orchestrator.split.messages import helpers_digest

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # the names of this machine, in each server's certificate
_ROLES_DOMAIN = ".fedkeys.invalid"
# The roles of the parties, besides those of helper_role. Each has a certificate, and so has every client.
SERVER, DECRYPTOR, CLIENT = "server", "decryptor", "client"
PrivateKey = Union[ec.EllipticCurvePrivateKey, Ed25519PrivateKey, X25519PrivateKey]


def role_name(role: str) -> str:
    """Returns the DNS name, which nobody can own (RFC 6761), by which a certificate carries its role.

    A caller asks TLS for this name, so that the decryptor's certificate can't pass as the server's.

    >>> role_name(SERVER)
    'server.fedkeys.invalid'
    """
    return role + _ROLES_DOMAIN


def helper_role(number: int) -> str:
    """Returns the role of one of the split sum's helpers, which are numbered from 1 on."""
    return f"helper-{number}"


def require_client_name(client_id: str) -> None:
    """Passes if a client can be enrolled under this name.

    Raises:
      KeysError: it can't, since the name is a file's and a header's value.
    """
    if not CLIENT_NAME.fullmatch(client_id):
        raise KeysError(
            f"client id {client_id!r} can't be enrolled: take up to 64 letters, digits, dots, dashes or underscores"
        )


def require_new_name(client_id: str, enrolled: Iterable[str]) -> None:
    """Passes if no other client is enrolled under a name that differs in upper and lower case only.

    Raises:
      KeysError: one is: people take the two names for one, and so do some machines for the names of files.
    """
    for name in enrolled:
        if name != client_id and name.casefold() == client_id.casefold():
            raise KeysError(f"client {client_id} differs from client {name} in upper and lower case only: name another")


def write_roster(folder: Path, enrolled: Mapping[ClientId, bytes]) -> None:
    """Writes who may take part, {client id: Ed25519 public key of 32 bytes}, with the operator's signature.

    The number of the roster grows with each change. In a folder of before, which has no operator.pub, nobody signs.

    Raises:
      KeysError: there is operator.pub and not the key to it, or what is there is damaged.
    """
    operator, path = read_operator(folder), folder / "roster.json"
    if operator is None:
        write_atomically(path, Roster(dict(enrolled)).to_json())
        return
    key = read_operator_key(folder, operator)
    before = _decoded(path) if path.exists() else Roster({})
    helpers = read_helpers(folder) if (folder / "helpers.pub").exists() else ()
    roster = Roster(dict(enrolled), helpers, operator.roster_id, before.number + 1)
    if not before.signature or (before.clients, before.helpers) != (roster.clients, roster.helpers):
        write_atomically(path, sign_roster(roster, key).to_json())


def client_tls_files(folder: Path, client_id: str) -> tuple[Path, Path]:
    """Returns where a client's certificate for TLS and the key to it lie."""
    return folder / "tls" / f"{client_id}.pem", folder / "tls" / f"{client_id}.key"


def read_roster(folder: Path) -> Mapping[ClientId, bytes]:
    """Returns the clients that may take part, with their Ed25519 public keys of 32 bytes; see read_signed_roster."""
    return read_signed_roster(folder).clients


def read_signed_roster(folder: Path) -> Roster:
    """Returns the roster; if the folder has operator.pub, the operator has signed it.

    Raises:
      KeysError: there is no roster, or it is damaged.
      UntrustedRoster: it is not the operator's.
    """
    roster, operator = _decoded(folder / "roster.json"), read_operator(folder)
    if operator is not None:
        require_signed(roster, operator)
    return roster


def _decoded(path: Path) -> Roster:
    try:
        return decode_roster(read_key_file(path))
    except ValueError as error:
        raise KeysError(f"{path} is damaged ({error}): restore it, or make new keys with `fedkeys keygen`") from None


def read_operator(folder: Path) -> Optional[Operator]:
    """Returns whose signature the folder's roster must bear, or None if the folder is one of before.

    Raises:
      KeysError: the file is damaged, or its key of small order.
    """
    path = folder / "operator.pub"
    if not os.path.lexists(path):
        return None
    try:
        return decode_operator(read_key_file(path))
    except ValueError:
        raise KeysError(f"{path} is damaged: get it from the operator again") from None


def read_operator_key(folder: Path, operator: Operator) -> Ed25519PrivateKey:
    """Returns the key that signs the folder's roster.

    Raises:
      KeysError: the folder has none, or another's.
    """
    path = folder / "operator.key"
    key = read_signing_key(path)
    if key.public_key().public_bytes_raw() != operator.key:
        raise KeysError(f"{path} is not the key of {folder / 'operator.pub'}: restore both")
    return key


def read_identity(folder: Path, client_id: str) -> Ed25519PrivateKey:
    """Returns a client's identity.

    Raises:
      KeysError: the folder has none for this client.
    """
    if not CLIENT_NAME.fullmatch(client_id):
        raise KeysError(f"client id {client_id!r} is none that `fedkeys keygen` makes")
    path = folder / "clients" / f"{client_id}.key"
    if not path.exists():
        raise KeysError(
            f"{path} is missing: name the folder that holds the client's keys by --keys, or make them with "
            f"`fedkeys enrol --client-id {client_id} --keys {folder}`"
        )
    return read_signing_key(path)


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """Returns the Ed25519 key that a file holds.

    Raises:
      KeysError: the file holds none.
    """
    key = _read_private_key(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysError(f"{path} holds no Ed25519 key: restore it, or enrol anew with `fedkeys keygen`")
    return key


def _read_private_key(path: Path) -> object:
    try:
        return serialization.load_pem_private_key(read_key_file(path), password=None)
    except (ValueError, TypeError):
        raise KeysError(f"{path} holds no private key: restore it, or enrol anew with `fedkeys keygen`") from None


def read_decryptor(folder: Path) -> Optional[bytes]:
    """Returns the decryptor's Ed25519 public key of 32 bytes, or None if the folder has none.

    Raises:
      KeysError: the file is damaged.
    """
    path = folder / "decryptor_identity.pub"
    if not path.exists():
        return None
    try:
        key = bytes.fromhex(read_key_file(path).decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise KeysError(f"{path} is damaged: restore it")
    return key


def read_helpers(folder: Path) -> tuple[bytes, ...]:
    """Returns the helpers' X25519 public keys of 32 bytes, in their order.

    Raises:
      KeysError: there are none, or the file is damaged.
    """
    return read_helper_keys(folder / "helpers.pub")


def read_helper_keys(path: Path) -> tuple[bytes, ...]:
    """Returns the X25519 public keys of helpers that a file holds, a line each.

    Raises:
      KeysError: the file can't be read, or a line holds no such key.
    """
    try:
        keys = tuple(bytes.fromhex(line) for line in read_key_file(path).decode("ascii").split())
        helpers_digest(keys)
    except ValueError:
        raise KeysError(f"{path} is damaged: restore it") from None
    if not all(map(is_sound, keys)):  # of small order, a key seals for everybody; of two writings, it stands twice
        raise KeysError(f"{path} is damaged: restore it")
    return keys


def read_sealing_key(path: Path) -> X25519PrivateKey:
    """Returns the X25519 key that a file holds.

    Raises:
      KeysError: the file holds none.
    """
    key = _read_private_key(path)
    if not isinstance(key, X25519PrivateKey):
        raise KeysError(f"{path} holds no X25519 key: restore it")
    return key


def read_key_file(path: Path) -> bytes:
    """Returns the bytes of a file that `fedkeys keygen` makes.

    Raises:
      KeysError: it can't be read.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise KeysError(f"{path} is no file: restore it, or make new keys with `fedkeys keygen`")
    try:
        return path.read_bytes()
    except OSError as error:
        folder = path.parent.parent if path.parent.name in ("clients", "tls") else path.parent
        advice = f"make it with `fedkeys keygen --out {folder}`, or copy it from where that was done"
        raise KeysError(f"{path}: {error.strerror}: {advice}") from None


def read_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Returns the key for TLS that a file holds.

    Raises:
      KeysError: the file holds none.
    """
    key = _read_private_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeysError(f"{path} holds no key for TLS: restore it, or make new keys with `fedkeys keygen`")
    return key


def write_private_key(path: Path, key: PrivateKey) -> None:
    """Writes a new key that only its owner may read, from the first byte on; a file is never replaced.

    Raises:
      KeysError: there is something of this name, if only a link to nowhere.
    """
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError:
        raise KeysError(f"{path} is there already, of another making: move it away, or name another folder") from None
