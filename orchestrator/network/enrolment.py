"""Enrols a client whose private keys nobody else ever holds: the client asks, the operator signs.

the client      makes both keys, keeps them, and writes a request: the public keys and a proof that it holds them
the operator    compares the request's fingerprint with what the client says, signs the certificate for TLS, and
                puts the identity on the roster
the client      gets ca.pem, roster.json, decryptor_identity.pub and tls/ID.pem, none of them secret
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from edge.signatures import is_signed
from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.network.authority import certify, read_authority
from orchestrator.network.certificates import (
    CLIENT,
    client_tls_files,
    read_identity,
    read_key_file,
    read_roster,
    read_tls_key,
    require_client_name,
    require_new_name,
    write_private_key,
    write_roster,
)
from orchestrator.network.errors import KeysError

_SCHEMA = 1
_MAX_BYTES = 1 << 14


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file that a client sends to the operator; `signature` is by the identity over all the rest."""

    schema: int
    client_id: str
    identity: str  # hex of 32 bytes
    certificate_request: str  # PKCS #10 as PEM, signed by the key for TLS
    signature: str = ""

    @property
    def signed_bytes(self) -> bytes:
        csr = hashlib.sha256(self.certificate_request.encode()).digest()
        return b"fedkeys network 1 enrol\0" + bytes.fromhex(self.identity) + csr + self.client_id.encode()

    @property
    def fingerprint(self) -> str:
        """Sixteen bytes in hex that client and operator compare by another way than the one that the file takes."""
        digest = hashlib.sha256(self.signed_bytes).hexdigest()[:32]
        return " ".join(digest[start : start + 4] for start in range(0, 32, 4))


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
    identity, name = read_identity(folder, client_id), x509.NameAttribute(NameOID.COMMON_NAME, client_id)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([name]))
    csr = builder.sign(read_tls_key(tls_path), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    unsigned = _Request(_SCHEMA, client_id, identity.public_key().public_bytes_raw().hex(), csr.decode("ascii"))
    request = msgspec.structs.replace(unsigned, signature=identity.sign(unsigned.signed_bytes).hex())
    path = folder / f"{client_id}.request.json"
    write_atomically(path, msgspec.json.format(msgspec.json.encode(request)) + b"\n")
    return path, request.fingerprint


def sign_request(folder: Path, path: Path) -> tuple[ClientId, str]:
    """Enrols the client of a request: signs its certificate for TLS, and puts its identity on the roster.

    A client that is enrolled with this very identity gets a new certificate for the same key for TLS. For another key
    the operator removes the old certificate first, since a request of long ago asks for a key of long ago.

    Args:
      folder: the operator's folder of keys, with ca.key.
      path: the request's file.

    Returns:
      The client and the request's fingerprint.

    Raises:
      KeysError: the file is no request or proves nothing; its name or identity is another client's; or another key for
        TLS is certified.
    """
    request, public_key = _read_request(path)
    client_id, identity, roster = ClientId(request.client_id), bytes.fromhex(request.identity), read_roster(folder)
    if roster.get(client_id, identity) != identity:
        raise KeysError(f"{path}: client {client_id} is enrolled with other keys: take it off the roster first")
    if any(key == identity for name, key in roster.items() if name != client_id):
        raise KeysError(f"{path}: these keys are enrolled under another name: ask for a request with new keys")
    require_new_name(client_id, roster)
    chain_path, _ = client_tls_files(folder, client_id)
    if os.path.lexists(chain_path) and _certified_key(chain_path) != public_key:
        raise KeysError(
            f"{path}: {chain_path} is for another key for TLS, and this request may be an old one: ask client "
            f"{client_id} for its newest fingerprint, then remove that certificate and sign again"
        )
    certificate = certify(read_authority(folder), CLIENT, client_id, (), public_key)
    chain_path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(chain_path, certificate.public_bytes(serialization.Encoding.PEM))
    write_roster(folder, {**roster, client_id: identity})
    return client_id, request.fingerprint


def _certified_key(path: Path) -> object:
    """The public key in a certificate's file; None if it holds none."""
    try:
        return x509.load_pem_x509_certificate(read_key_file(path)).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _read_request(path: Path) -> tuple[_Request, ec.EllipticCurvePublicKey]:
    """The request of a file, and the key for TLS that it asks a certificate for; both keys' holders signed it."""
    damaged = KeysError(
        f"{path} is no request to enrol, or was changed: make it with `fedkeys enrol` and send it again"
    )
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise damaged
    try:
        request = msgspec.json.decode(read_key_file(path), type=_Request)
        identity, signature = bytes.fromhex(request.identity), bytes.fromhex(request.signature)
        csr = x509.load_pem_x509_csr(request.certificate_request.encode("ascii"))
        names = [attribute.value for attribute in csr.subject]
        public_key, is_proven = csr.public_key(), csr.is_signature_valid
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError, InvalidSignature, UnsupportedAlgorithm):
        raise damaged from None
    require_client_name(request.client_id)
    is_request = request.schema == _SCHEMA and len(identity) == 32 and names == [request.client_id]
    if not (is_request and is_proven and is_signed(signature, identity, request.signed_bytes)):
        raise damaged
    if not (isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1)):
        raise damaged
    return request, public_key
