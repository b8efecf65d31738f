"""The keys of a network run: a small CA, the server's certificate, one Ed25519 identity for each client, the roster.

    DIR/ca.pem, ca.key                   the CA; the key only signs certificates, keep it off the server
    DIR/server.pem, server.key           for TLS; decryptor.pem, decryptor.key likewise
    DIR/tls/ID.pem, ID.key               a client's for TLS: without it nobody gets as far as a first message
    DIR/decryptor_identity.key, .pub     signs the terms of the encrypted sum
    DIR/roster.json                      who may take part: {client id: Ed25519 public key}
    DIR/clients/ID.key                   a client's identity

A server needs ca.pem, server.* and roster.json, a client ca.pem, roster.json and its own keys.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from models.corpus import ClientId
from orchestrator.network.errors import KeysError

_CLIENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # a file's name and a header's value
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CA_DAYS, _SERVER_DAYS = 3650, 365
# The roles of the parties. Server and decryptor have a certificate each, and so has every client.
SERVER, DECRYPTOR, CLIENT = "server", "decryptor", "client"
_USES = {  # the server calls the decryptor
    SERVER: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    DECRYPTOR: (ExtendedKeyUsageOID.SERVER_AUTH,),
    CLIENT: (ExtendedKeyUsageOID.CLIENT_AUTH,),
}
PrivateKey = Union[ec.EllipticCurvePrivateKey, Ed25519PrivateKey]


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class _Roster(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    clients: dict[str, str]


def role_name(role: str) -> str:
    """Returns the DNS name, which nobody can own (RFC 6761), by which a certificate carries its role.

    A caller asks TLS for this name, so that the decryptor's certificate can't pass as the server's.

    >>> role_name(SERVER)
    'server.fedkeys.invalid'
    """
    return f"{role}.fedkeys.invalid"


def make_keys(folder: Path, clients: Sequence[str], hosts: Sequence[str] = ()) -> None:
    """Makes the keys that `folder` lacks, and enrols the clients.

    Args:
      folder: a new or empty folder, or one that this function made, to which clients are added.
      clients: ids to enrol.
      hosts: the names and addresses by which clients reach the server and the decryptor, besides the loopback.

    Raises:
      KeysError: a client is enrolled already or its id can't be a file's name; the folder holds half of the files.
    """
    for client_id in clients:
        if not _CLIENT_NAME.fullmatch(client_id):
            raise KeysError(
                f"client id {client_id!r} can't be enrolled: take up to 64 letters, digits, dots, dashes or underscores"
            )
    roster_path = folder / "roster.json"
    enrolled = read_roster(folder) if roster_path.exists() else {}
    twice = sorted(set(clients) & set(enrolled)) or sorted({c for c in clients if list(clients).count(c) > 1})
    if twice:
        raise KeysError(f"{roster_path}: client {twice[0]} is enrolled already: leave it out or name another")
    for name in ("clients", "tls"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not roster_path.exists():
        if (folder / "ca.key").exists():
            raise KeysError(f"{folder} holds a CA but no roster: name an empty folder")
        _make_authority(folder, [*_LOOPBACK, *hosts])
    elif hosts:
        raise KeysError(f"{folder} has its server's certificate already: name an empty folder for other hosts")
    authority = _read_authority(folder) if clients else None
    for client_id in clients:
        assert authority is not None
        _issue(authority, CLIENT, client_id, (), *client_tls_files(folder, client_id))
        identity = Ed25519PrivateKey.generate()
        _write_private(folder / "clients" / f"{client_id}.key", identity)
        enrolled[ClientId(client_id)] = identity.public_key().public_bytes_raw()
    roster = _Roster(1, {client_id: key.hex() for client_id, key in sorted(enrolled.items())})
    roster_path.write_bytes(msgspec.json.format(msgspec.json.encode(roster)) + b"\n")


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
            f"{path} is missing: enrol the client with `fedkeys keygen --out {folder} --client {client_id}`, or name "
            "another --keys"
        )
    return read_signing_key(path)


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """Returns the Ed25519 key that a file holds.

    Raises:
      KeysError: the file holds none.
    """
    try:
        key = serialization.load_pem_private_key(read_key_file(path), password=None)
    except (ValueError, TypeError):
        raise KeysError(f"{path} holds no private key: restore it, or enrol anew with `fedkeys keygen`") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysError(f"{path} holds no Ed25519 key: restore it, or enrol anew with `fedkeys keygen`")
    return key


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


def read_key_file(path: Path) -> bytes:
    """Returns the bytes of a file that `fedkeys keygen` makes.

    Raises:
      KeysError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeysError(f"{path}: {error.strerror}: make it with `fedkeys keygen --out {path.parent}`") from None


def _make_authority(folder: Path, hosts: Sequence[str]) -> None:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedkeys CA")])
    key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    ca = (
        _certificate(ca_name, ca_name, ca_key, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage),
            critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write_private(folder / "ca.key", ca_key)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for role in (SERVER, DECRYPTOR):
        _issue(_Authority(ca, ca_key), role, f"fedkeys {role}", hosts, folder / f"{role}.pem", folder / f"{role}.key")
    identity = Ed25519PrivateKey.generate()
    _write_private(folder / "decryptor_identity.key", identity)
    (folder / "decryptor_identity.pub").write_text(identity.public_key().public_bytes_raw().hex() + "\n")


def _read_authority(folder: Path) -> _Authority:
    """The CA of a folder, which signs the certificates of more clients."""
    raw, path = read_key_file(folder / "ca.key"), folder / "ca.key"
    try:
        key = serialization.load_pem_private_key(raw, password=None)
        authority = x509.load_pem_x509_certificate(read_key_file(folder / "ca.pem"))
    except (ValueError, TypeError):
        raise KeysError(f"{path} or ca.pem beside it is damaged: restore them, or name an empty folder") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeysError(f"{path} is not the key that `fedkeys keygen` made: restore it, or name an empty folder")
    return _Authority(authority, key)


def _issue(
    authority: _Authority, role: str, common_name: str, hosts: Sequence[str], chain_path: Path, key_path: Path
) -> None:
    """Writes a new key for TLS, and its certificate, which carries a role, a name and the hosts that it stands for."""
    names = x509.SubjectAlternativeName([_alternative_name(host) for host in dict.fromkeys((*hosts, role_name(role)))])
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    ca_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _certificate(subject, authority.certificate.subject, key, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage(_USES[role]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(ca_id, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    _write_private(key_path, key)
    chain_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_private(path: Path, key: PrivateKey) -> None:
    """Writes a key that only its owner may read, from the first byte on."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
