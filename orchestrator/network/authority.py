"""Makes the keys of a network run: the CA, the certificates that it signs, and all keys of a trial on one machine."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.network.certificates import (
    CLIENT,
    DECRYPTOR,
    LOOPBACK,
    SERVER,
    client_tls_files,
    helper_role,
    read_key_file,
    read_operator,
    read_roster,
    read_sealing_key,
    read_tls_key,
    require_client_name,
    require_new_name,
    role_name,
    write_private_key,
    write_roster,
)
from orchestrator.network.errors import KeysError
from orchestrator.network.roster import new_operator

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,250}[A-Za-z0-9])?")
_CA_DAYS, _SERVER_DAYS = 3650, 365
_LISTENS, _CALLS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_NOBODY: Mapping[str, bytes] = {}
_USES = {SERVER: (_LISTENS, _CALLS), CLIENT: (_CALLS,)}  # the others only listen


@dataclass(frozen=True)
class Authority:
    """The CA of a run, which signs certificates."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_keys(
    folder: Path,
    clients: Sequence[str],
    hosts: Sequence[str] = (),
    num_helpers: Optional[int] = None,
    helper_keys: Sequence[bytes] = (),
    asking: Mapping[str, bytes] = _NOBODY,
) -> None:
    """Makes the keys that `folder` lacks, and enrols the clients.

    Args:
      folder: a new or empty folder, or one that this function made, to which clients are added.
      clients: ids to enrol.
      hosts: the names and addresses of the server, the decryptor and the helpers, besides the loopback.
      num_helpers: of the split sum, whose keys are all made here, for a trial; None makes one in a new folder.
      helper_keys: the public keys of helpers that keep the private ones; no others are made then.
      asking: {role: public key} of the parties that ask by requests, which a new folder takes; no key of theirs is
        made, and orchestrator.network.enrolment.sign_request writes their certificates. Of helpers all ask or none.

    Raises:
      KeysError: a client is enrolled already or its id can't be a file's name; the folder holds half of the files, or
        the parties already; a host is no name of one.
    """
    for host in hosts:
        _require_host(host)
    for client_id in clients:
        require_client_name(client_id)
    roster_path = folder / "roster.json"
    enrolled = dict(read_roster(folder)) if roster_path.exists() else {}
    twice = sorted(set(clients) & set(enrolled)) or sorted({c for c in clients if list(clients).count(c) > 1})
    if twice:
        raise KeysError(f"{roster_path}: client {twice[0]} is enrolled already: leave it out or name another")
    for client_id in clients:
        require_new_name(client_id, [*enrolled, *clients])
    for name in ("clients", "tls"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if not roster_path.exists():
        if (folder / "ca.key").exists():
            raise KeysError(f"{folder} holds a CA but no roster: name an empty folder")
        helper_keys = helper_keys or _asking_helpers(asking)
        if not helper_keys:
            num_helpers = 1 if num_helpers is None else num_helpers
            helper_keys = [make_helper_key(folder, number) for number in range(1, num_helpers + 1)]
        _make_parties(folder, [*LOOPBACK, *hosts], helper_keys, asking)
    elif hosts or num_helpers is not None or helper_keys:
        raise KeysError(f"{folder} has its parties' keys already: name an empty folder for other hosts or helpers")
    if read_operator(folder) is None:  # also in a folder of before, whose roster is signed from here on
        _make_operator(folder)
    authority = read_authority(folder) if clients else None
    for client_id in clients:
        assert authority is not None
        _issue(authority, CLIENT, client_id, (), *client_tls_files(folder, client_id))
        identity = Ed25519PrivateKey.generate()
        write_private_key(folder / "clients" / f"{client_id}.key", identity)
        enrolled[ClientId(client_id)] = identity.public_key().public_bytes_raw()
    write_roster(folder, enrolled)


def read_authority(folder: Path) -> Authority:
    """Returns the CA of a folder, which signs the certificates of more clients.

    Raises:
      KeysError: the folder has none, or it is damaged.
    """
    key = read_tls_key(folder / "ca.key")
    try:
        return Authority(x509.load_pem_x509_certificate(read_key_file(folder / "ca.pem")), key)
    except ValueError:
        raise KeysError(f"{folder / 'ca.pem'} is damaged: restore it, or name an empty folder") from None


def certify(
    authority: Authority, role: str, common_name: str, hosts: Sequence[str], public_key: ec.EllipticCurvePublicKey
) -> x509.Certificate:
    """Returns a certificate for TLS, which carries a role, a name and the hosts that it stands for."""
    names = x509.SubjectAlternativeName([_alternative_name(host) for host in dict.fromkeys((*hosts, role_name(role)))])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    ca_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (
        _certificate(subject, authority.certificate.subject, public_key, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage(_USES.get(role, (_LISTENS,))), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(ca_id, critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def make_helper_key(folder: Path, number: int) -> bytes:
    """Makes a helper's key for seeds where it is missing, and returns the public half, 32 bytes.

    Raises:
      KeysError: the key is damaged.
    """
    path = folder / f"{helper_role(number)}_seal.key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_private_key(path, X25519PrivateKey.generate())
    return read_sealing_key(path).public_key().public_bytes_raw()


def _asking_helpers(asking: Mapping[str, bytes]) -> list[bytes]:
    """The keys of the helpers that ask, in their order."""
    numbers = range(1, len(asking.keys() - {DECRYPTOR}) + 1)
    missing = [role for role in map(helper_role, numbers) if role not in asking]
    if missing:
        raise KeysError(f"{missing[0]} has no request: sign those of all helpers, numbered from 1 on, in one command")
    return [asking[helper_role(number)] for number in numbers]


def _make_parties(
    folder: Path, hosts: Sequence[str], helper_keys: Sequence[bytes], asking: Mapping[str, bytes]
) -> None:
    """Makes the CA, and the keys for TLS of all who listen and do not ask for a certificate themselves."""
    helpers = [helper_role(number) for number in range(1, len(helper_keys) + 1)]
    authority = _make_authority(folder)
    for role in (SERVER, DECRYPTOR, *helpers):
        if role not in asking:
            _issue(authority, role, f"fedkeys {role}", hosts, folder / f"{role}.pem", folder / f"{role}.key")
    decryptor = asking.get(DECRYPTOR)
    if decryptor is None:
        identity = Ed25519PrivateKey.generate()
        write_private_key(folder / "decryptor_identity.key", identity)
        decryptor = identity.public_key().public_bytes_raw()
    _write_lines(folder / "decryptor_identity.pub", [decryptor])
    if helpers:
        _write_lines(folder / "helpers.pub", helper_keys)


def _make_operator(folder: Path) -> None:
    """Makes the key that signs the roster, and nothing else: neither certificates nor bundles."""
    key = Ed25519PrivateKey.generate()
    write_private_key(folder / "operator.key", key)
    write_atomically(folder / "operator.pub", new_operator(key).line)


def _write_lines(path: Path, keys: Sequence[bytes]) -> None:
    write_atomically(path, "".join(f"{key.hex()}\n" for key in keys).encode())


def _make_authority(folder: Path) -> Authority:
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedkeys CA")])
    key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    ca = (
        _certificate(ca_name, ca_name, ca_key.public_key(), _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage),
            critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )
    write_private_key(folder / "ca.key", ca_key)
    write_atomically(folder / "ca.pem", ca.public_bytes(serialization.Encoding.PEM))
    return Authority(ca, ca_key)


def _issue(
    authority: Authority, role: str, common_name: str, hosts: Sequence[str], chain_path: Path, key_path: Path
) -> None:
    """Writes a new key for TLS and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = certify(authority, role, common_name, hosts, key.public_key())
    write_private_key(key_path, key)
    write_atomically(chain_path, certificate.public_bytes(serialization.Encoding.PEM))


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _require_host(host: str) -> None:
    """Refuses what is no name of a machine, and the names that carry roles: with one a party would play another's."""
    is_name = _HOST.fullmatch(host) and not host.casefold().endswith(role_name(""))
    if not (is_name or _is_address(host)):
        raise KeysError(f"--host {host!r} is no name of a machine: write it as DNS does (xn--... for other letters)")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _alternative_name(host: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(host)) if _is_address(host) else x509.DNSName(host)
