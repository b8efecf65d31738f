"""Checks Ed25519 signatures, for every protocol."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def is_signed(signature: bytes, identity: bytes, signed: bytes) -> bool:
    """Returns whether the holder of an identity signed exactly these bytes.

    Args:
      signature: 64 bytes, or any others, which sign nothing.
      identity: the Ed25519 public key, 32 bytes, or any others, which are nobody's.
      signed: the bytes that the signature should cover.

    Source: Ed25519: RFC 8032, section 5.1.7.
    """
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, signed)
    except (InvalidSignature, ValueError):  # ValueError: bytes that are no public key
        return False
    return True
