"""The files of keys of a network run, and who may take part; authority.py and enrolment.py make them.

    DIR/ca.pem, ca.key                   the CA; the key only signs certificates, keep it off the server
    DIR/server.pem, server.key           for TLS; decryptor.pem, decryptor.key likewise
    DIR/tls/ID.pem, ID.key               a client's for TLS: without it nobody gets as far as a first message
    DIR/decryptor_identity.key, .pub     signs the terms of the encrypted sum
    DIR/helper-1.pem, .key               for TLS of the split sum's first helper, and so on for the others
    DIR/helper-1_seal.key                opens the seeds that clients seal for it
    DIR/helpers.pub                      all helpers' public keys, a line each
    DIR/roster.json                      who may take part: {client id: Ed25519 public key}
    DIR/clients/ID.key                   a client's identity

A server needs ca.pem, server.* and roster.json, a client ca.pem, roster.json and its own keys; both need helpers.pub
for the split sum.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Optional, Union

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.network.errors import KeysError
from orchestrator.secagg.keys import is_sound
from orchestrator.split.messages import helpers_digest

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # the names of this machine, in each server's certificate
_ROLES_DOMAIN = ".fedkeys.invalid"
_CLIENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # a file's name and a header's value
# The roles of the parties, besides those of helper_role. Each has a certificate, and so has every client.
SERVER, DECRYPTOR, CLIENT = "server", "decryptor", "client"
PrivateKey = Union[ec.EllipticCurvePrivateKey, Ed25519PrivateKey, X25519PrivateKey]


class _Roster(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    clients: dict[str, str]


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
    if not _CLIENT_NAME.fullmatch(client_id):
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
    """Writes who may take part: {client id: Ed25519 public key of 32 bytes}."""
    roster = _Roster(1, {client_id: key.hex() for client_id, key in sorted(enrolled.items())})
    write_atomically(folder / "roster.json", msgspec.json.format(msgspec.json.encode(roster)) + b"\n")


def client_tls_files(folder: Path, client_id: str) -> tuple[Path, Path]:
    """Returns where a client's certificate for TLS and the key to it lie."""
    return folder / "tls" / f"{client_id}.pem", folder / "tls" / f"{client_id}.key"


def read_roster(folder: Path) -> dict[ClientId, bytes]:
    """Returns the clients that may take part, with their Ed25519 public keys of 32 bytes.

    Raises:
      KeysError: there is no roster, or it is damaged.
    """
    path = folder / "roster.json"
    try:
        roster = msgspec.json.decode(read_key_file(path), type=_Roster)
        keys = {ClientId(client_id): bytes.fromhex(key) for client_id, key in roster.clients.items()}
    except (msgspec.DecodeError, ValueError):
        raise KeysError(f"{path} is damaged: restore it, or make new keys with `fedkeys keygen`") from None
    if roster.schema != 1 or len(set(keys.values())) < len(keys) or any(len(key) != 32 for key in keys.values()):
        raise KeysError(f"{path} is damaged or of another schema: restore it, or make new keys with `fedkeys keygen`")
    return keys


def read_identity(folder: Path, client_id: str) -> Ed25519PrivateKey:
    """Returns a client's identity.

    Raises:
      KeysError: the folder has none for this client.
    """
    if not _CLIENT_NAME.fullmatch(client_id):
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
    try:
        return path.read_bytes()
    except OSError as error:
        folder = path.parent.parent if path.parent.name in ("clients", "tls") else path.parent
        advice = f"make it with `fedkeys keygen --out {folder}`, or copy it from where that was done"
        raise KeysError(f"{path}: {error.strerror}: {advice}") from None


def host_names(path: Path) -> list[str]:
    """Returns the names and addresses that a certificate stands for, without those of this machine and of roles.

    Raises:
      KeysError: the file can't be read, or holds no certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(read_key_file(path))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError:
        raise KeysError(f"{path} holds no certificate: name one as PEM") from None
    found = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return [name for name in found if name not in LOOPBACK and not name.endswith(_ROLES_DOMAIN)]


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
