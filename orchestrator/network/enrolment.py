"""Enrols those whose private keys nobody else ever holds: they ask, and the operator signs.

a client, the decryptor or a helper
                makes its keys, keeps them, and writes a request: the public keys and a proof that it holds them
the operator    compares the request's fingerprint with what the other one says, signs the certificate for TLS, and
                puts a client's identity on the roster; a party's key is taken when the operator's folder is made
both            get ca.pem and roster.json; a client decryptor_identity.pub, helpers.pub and tls/ID.pem, the decryptor
                decryptor.pem, a helper helpers.pub and helper-N.pem, none of them secret
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Optional

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.network.authority import certify, make_helper_key, read_authority
from orchestrator.network.certificates import (
    CLIENT,
    DECRYPTOR,
    LOOPBACK,
    SERVER,
    client_tls_files,
    helper_role,
    read_decryptor,
    read_helpers,
    read_identity,
    read_key_file,
    read_roster,
    read_signing_key,
    read_tls_key,
    require_client_name,
    require_new_name,
    write_private_key,
    write_roster,
)
from orchestrator.network.errors import KeysError
from orchestrator.network.requests import ECDSA, Request, read_request, write_request
from orchestrator.network.tls import host_names


def ask_for_enrolment(folder: Path, client_id: str) -> tuple[Path, str]:
    """Makes a client's keys where they are missing, and writes the request to enrol it.

    Called again it asks for the same keys, as when the certificate for TLS has expired.

    Args:
      folder: the client's folder of keys. The private ones, clients/ID.key and tls/ID.key, never leave it.
      client_id: the name to be enrolled under.

    Returns:
      The request's file and its fingerprint.

    Raises:
      KeysError: the name can't be a file's, or a key is damaged.
    """
    require_client_name(client_id)
    chain_path, tls_path = client_tls_files(folder, client_id)
    identity_path = folder / "clients" / f"{client_id}.key"
    for path in (identity_path, tls_path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not identity_path.exists():
        write_private_key(identity_path, Ed25519PrivateKey.generate())
    if not tls_path.exists():
        write_private_key(tls_path, ec.generate_private_key(ec.SECP256R1()))
    identity, tls = read_identity(folder, client_id), read_tls_key(tls_path)
    return write_request(folder, client_id, tls, identity.public_key().public_bytes_raw(), identity.sign)


def ask_as_party(folder: Path, number: Optional[int]) -> tuple[Path, str, Path]:
    """Makes the keys of the decryptor or of a helper where they are missing, and writes the request to enrol it.

    Called again it asks for the same keys, as when the certificate for TLS has expired.

    Args:
      folder: the party's folder of keys. The private ones never leave it.
      number: of the helper; None for the decryptor.

    Returns:
      The request's file, its fingerprint, and the file of the public key that clients go by.

    Raises:
      KeysError: a key is damaged, or the public one there is another's.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    role = DECRYPTOR if number is None else helper_role(number)
    tls_path, identity_path = folder / f"{role}.key", folder / "decryptor_identity.key"
    if not tls_path.exists():
        write_private_key(tls_path, ec.generate_private_key(ec.SECP256R1()))
    tls = read_tls_key(tls_path)
    if number is None:
        if not identity_path.exists():
            write_private_key(identity_path, Ed25519PrivateKey.generate())
        identity, public_path = read_signing_key(identity_path), identity_path.with_suffix(".pub")
        public, sign = identity.public_key().public_bytes_raw(), identity.sign
    else:
        public, sign = make_helper_key(folder, number), partial(tls.sign, signature_algorithm=ECDSA)
        public_path = folder / f"{role}_seal.pub"
    if not public_path.exists():
        write_atomically(public_path, f"{public.hex()}\n".encode())
    if read_key_file(public_path).strip() != public.hex().encode():
        raise KeysError(
            f"{public_path} is of another key than the private one beside it: ask whoever sent it, or move it"
        )
    return (*write_request(folder, role, tls, public, sign, is_party=True), public_path)


def parties_of(paths: Iterable[Path]) -> dict[str, bytes]:
    """Returns {role: public key} of the parties among those who ask by requests.

    Raises:
      KeysError: a file is no request or proves nothing, or two are of one party.
    """
    asking: dict[str, bytes] = {}
    for path in paths:
        request, _ = read_request(path)
        if request.party in asking:
            raise KeysError(f"{path}: another request of {request.party} is named, too: leave one out")
        if request.party:
            asking[request.party] = bytes.fromhex(request.identity)
    return asking


def sign_request(folder: Path, path: Path) -> tuple[str, str, bool]:
    """Signs the certificate for TLS that a request asks for, and puts a client's identity on the roster.

    Who is enrolled with this very identity gets a new certificate for the same key for TLS. For another key the
    operator removes the old certificate first, since a request of long ago asks for a key of long ago.

    Args:
      folder: the operator's folder of keys, with ca.key. It has a party's key from when it was made.
      path: the request's file.

    Returns:
      The client's name or the party's role, the request's fingerprint, and whether it is a party.

    Raises:
      KeysError: the file is no request or proves nothing; its name or identity is another client's; the folder has
        another key of the party; or another key for TLS is certified.
    """
    request, public_key = read_request(path)
    if request.party:
        _require_known(folder, path, request)
        chain_path, role, subject = folder / f"{request.party}.pem", request.party, f"fedkeys {request.party}"
        hosts = (*LOOPBACK, *host_names(folder / f"{SERVER}.pem"))
    else:
        _require_free(folder, path, request)
        (chain_path, _), role, subject = client_tls_files(folder, request.client_id), CLIENT, request.client_id
        hosts = ()
    if os.path.lexists(chain_path) and _certified_key(chain_path) != public_key:
        raise KeysError(
            f"{path}: {chain_path} is for another key for TLS, and this request may be an old one: ask {request.name} "
            "for its newest fingerprint, then remove that certificate and sign again"
        )
    certificate = certify(read_authority(folder), role, subject, hosts, public_key)
    chain_path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(chain_path, certificate.public_bytes(serialization.Encoding.PEM))
    if not request.party:
        identity = bytes.fromhex(request.identity)
        write_roster(folder, {**read_roster(folder), ClientId(request.client_id): identity})
    return request.name, request.fingerprint, bool(request.party)


def _require_free(folder: Path, path: Path, request: Request) -> None:
    """Refuses a client whose name or identity is another's."""
    client_id, identity, roster = ClientId(request.client_id), bytes.fromhex(request.identity), read_roster(folder)
    if roster.get(client_id, identity) != identity:
        raise KeysError(f"{path}: client {client_id} is enrolled with other keys: take it off the roster first")
    if any(key == identity for name, key in roster.items() if name != client_id):
        raise KeysError(f"{path}: these keys are enrolled under another name: ask for a request with new keys")
    require_new_name(client_id, roster)


def _require_known(folder: Path, path: Path, request: Request) -> None:
    """Refuses a party of whom the folder, and so perhaps a client's copy, has another key."""
    if request.party == DECRYPTOR:
        known = [read_decryptor(folder)]
    else:
        known = [key for number, key in enumerate(read_helpers(folder), 1) if helper_role(number) == request.party]
    if known != [bytes.fromhex(request.identity)]:
        raise KeysError(
            f"{path}: {folder} has another key of {request.party}, which its clients may have: sign the parties' "
            "requests in the command that makes the folder"
        )


def _certified_key(path: Path) -> object:
    """The public key in a certificate's file; None if it holds none."""
    try:
        return x509.load_pem_x509_certificate(read_key_file(path)).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
