"""Signed statements: an in-toto payload in a DSSE envelope, signed with Ed25519.

Source: https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md, version 1.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Optional

import msgspec

from edge.bundle.manifest import to_json
from edge.bundle.reading import decode_json, read_regular
from edge.bundle.signing import raw_public, read_private_key, read_public_key
from edge.errors import BundleError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MAX_BYTES = 16 << 20


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str  # base64


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload_type: str
    payload: str  # base64
    signatures: tuple[_Signature, ...]


def pre_auth_encoding(payload_type: str, payload: bytes) -> bytes:
    """Returns the bytes that are signed.

    >>> pre_auth_encoding("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, key_path: Optional[Path]) -> bytes:
    """Returns the envelope of a payload as JSON; without a key it holds no signature, and check_envelope says so.

    The key's id is the SHA-256 (hex) of the 32 bytes of its public half.

    Raises:
      BundleError: the file holds no Ed25519 private key.
    """
    signatures: tuple[_Signature, ...] = ()
    if key_path is not None:
        key = read_private_key(key_path)
        signature = key.sign(pre_auth_encoding(PAYLOAD_TYPE, payload))
        key_id = hashlib.sha256(raw_public(key.public_key())).hexdigest()
        signatures = (_Signature(key_id, base64.b64encode(signature).decode()),)
    return to_json(_Envelope(PAYLOAD_TYPE, base64.b64encode(payload).decode(), signatures))


def open_envelope(path: Path, public_key: Optional[Path] = None) -> tuple[bytes, str]:
    """Returns (the payload, what is known of its signer) of an envelope.

    Args:
      path: the envelope.
      public_key: whose signature it must bear; None accepts any, and none, and says that nothing was checked.

    Raises:
      BundleError: it is damaged, or not signed with that key.
    """
    from cryptography.exceptions import InvalidSignature

    content = read_regular(path.parent, path.name, _MAX_BYTES)
    envelope = decode_json(content, _Envelope, str(path), "get it again")
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
        signatures = [base64.b64decode(own.sig, validate=True) for own in envelope.signatures]
        if envelope.payload_type != PAYLOAD_TYPE:
            raise ValueError(f"payloadType is {envelope.payload_type!r}")
    except (ValueError, binascii.Error) as error:
        raise BundleError(f"{path} is damaged ({error}): get it again") from None
    if public_key is None:
        return payload, "signed, but by whom was NOT checked (--public-key)" if signatures else "UNSIGNED"
    public = read_public_key(public_key)
    for signature in signatures:
        try:
            public.verify(signature, pre_auth_encoding(envelope.payload_type, payload))
            return payload, f"Ed25519, key {raw_public(public).hex()[:16]}..."
        except InvalidSignature:
            continue
    raise BundleError(f"{path} bears no signature of {public_key} over this content: do not trust it")
