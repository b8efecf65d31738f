"""The file by which a client, the decryptor or a helper asks the operator to be enrolled: public keys, proven."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.signatures import is_signed
from models.files import write_atomically
from orchestrator.network.certificates import DECRYPTOR, helper_role, read_key_file, require_client_name
from orchestrator.network.errors import KeysError
from orchestrator.secagg.keys import is_sound
from orchestrator.split.messages import MAX_HELPERS

ECDSA = ec.ECDSA(hashes.SHA256())  # by a key for TLS
_SCHEMA = 1
_MAX_BYTES = 1 << 14
_PARTIES = (DECRYPTOR, *map(helper_role, range(1, MAX_HELPERS + 1)))


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A file that a client or a party sends to the operator.

    Attributes:
      schema: of this file.
      client_id: the client's name; "" for a party.
      party: the role of the decryptor or of a helper; "" for a client.
      identity: 32 bytes in hex. A client and the decryptor sign with it; seeds are sealed for a helper's.
      certificate_request: PKCS #10 as PEM, signed by the key for TLS.
      signature: over all the rest, in hex, by the identity; by a helper's key for TLS, since its other one only opens.
    """

    schema: int
    client_id: str = ""
    party: str = ""
    identity: str
    certificate_request: str
    signature: str = ""

    @property
    def name(self) -> str:
        """Whose request it is."""
        return self.client_id or self.party

    @property
    def signed_bytes(self) -> bytes:
        csr = hashlib.sha256(self.certificate_request.encode()).digest()
        purpose = b"fedkeys network 1 enrol party\0" if self.party else b"fedkeys network 1 enrol\0"
        return purpose + bytes.fromhex(self.identity) + csr + self.name.encode()

    @property
    def fingerprint(self) -> str:
        """Sixteen bytes in hex that client and operator compare by another way than the one that the file takes."""
        digest = hashlib.sha256(self.signed_bytes).hexdigest()[:32]
        return " ".join(digest[start : start + 4] for start in range(0, 32, 4))


def write_request(
    folder: Path,
    name: str,
    tls: ec.EllipticCurvePrivateKey,
    identity: bytes,
    sign: Callable[[bytes], bytes],
    is_party: bool = False,
) -> tuple[Path, str]:
    """Writes a request and returns its file and its fingerprint.

    Args:
      folder: where it goes.
      name: a client's, or a party's role.
      tls: the key that a certificate is asked for.
      identity: as Request.identity, 32 bytes.
      sign: signs as Request.signature says.
      is_party: whether a party asks.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(tls, hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM).decode("ascii")
    whose = {"party" if is_party else "client_id": name}
    unsigned = Request(schema=_SCHEMA, identity=identity.hex(), certificate_request=pem, **whose)
    request = msgspec.structs.replace(unsigned, signature=sign(unsigned.signed_bytes).hex())
    path = folder / f"{name}.request.json"
    write_atomically(path, msgspec.json.format(msgspec.json.encode(request)) + b"\n")
    return path, request.fingerprint


def read_request(path: Path) -> tuple[Request, ec.EllipticCurvePublicKey]:
    """Returns the request of a file, and the key for TLS that it asks a certificate for; both keys' holders signed it.

    Raises:
      KeysError: the file is no request or proves nothing.
    """
    damaged = KeysError(
        f"{path} is no request to enrol, or was changed: make it with `fedkeys enrol` and send it again"
    )
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise damaged
    try:
        request = msgspec.json.decode(read_key_file(path), type=Request)
        identity, _ = bytes.fromhex(request.identity), bytes.fromhex(request.signature)
        csr = x509.load_pem_x509_csr(request.certificate_request.encode("ascii"))
        names = [attribute.value for attribute in csr.subject]
        public_key, is_proven = csr.public_key(), csr.is_signature_valid
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError, InvalidSignature, UnsupportedAlgorithm):
        raise damaged from None
    if not (isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, ec.SECP256R1)):
        raise damaged
    if request.party:
        is_known = request.party in _PARTIES and not request.client_id
    else:
        require_client_name(request.client_id)
        is_known = True
    is_request = is_known and request.schema == _SCHEMA and len(identity) == 32 and names == [request.name]
    if not (is_request and is_proven and _is_signed(request, public_key)):
        raise damaged
    return request, public_key


def _is_signed(request: Request, tls: ec.EllipticCurvePublicKey) -> bool:
    identity, signature = bytes.fromhex(request.identity), bytes.fromhex(request.signature)
    if request.party in ("", DECRYPTOR):
        return is_signed(signature, identity, request.signed_bytes)
    try:
        tls.verify(signature, request.signed_bytes, ECDSA)
    except InvalidSignature:
        return False
    return is_sound(identity)
