"""Checks Ed25519 signatures, of bundles and of every protocol."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# The y of each point of order 1, 2, 4 or 8, little-endian, also where it is written as y + p.
_SMALL_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def is_signed(signature: bytes, identity: bytes, signed: bytes) -> bool:
    """Returns whether the holder of an identity signed exactly these bytes.

    Args:
      signature: 64 bytes, or any others, which sign nothing.
      identity: the Ed25519 public key, 32 bytes, or any others, which are nobody's; so is a key of small order.
      signed: the bytes that the signature should cover.

    Source: Ed25519: RFC 8032, section 5.1.7.
    """
    if has_small_order(identity):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, signed)
    except (InvalidSignature, ValueError):  # ValueError: bytes that are no public key
        return False
    return True


def has_small_order(identity: bytes) -> bool:
    """Returns whether anyone can sign for an Ed25519 public key, since its point has an order of 8 or less.

    Source: the encodings that libsodium's ge25519_has_small_order refuses.
    """
    return len(identity) == 32 and identity[:31] + bytes([identity[31] & 0x7F]) in _SMALL_ORDER
