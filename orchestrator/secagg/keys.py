"""The cryptography of the protocol; every primitive is from `cryptography`: X25519, HKDF, AES-GCM, Ed25519.

Every derived key, sealed share and signature names its purpose, its session and its parties, so that a value from one
place, session or pair is useless in another.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable
from typing import Optional

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from edge import signatures
from orchestrator.masks import Mask, add_masks

KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEALED_OVERHEAD_BYTES = 12 + 16  # nonce and tag
TAG_BYTES = 16
_PREFIX = b"fedkeys secagg 1 "
_PRIME = 2**255 - 19  # of Curve25519's field
_SHA256 = hashes.SHA256()


class UnsoundKey(ValueError):
    """A public key that gives a shared value that anyone knows, or that is another's, written another way."""


def context(purpose: bytes, session: bytes, *parties: int) -> bytes:
    """Returns the bytes that bind a value to its purpose, its session and its parties, in order.

    The session is 32 bytes: its name in an advertisement, from then on messages.bound_session.
    """
    return _PREFIX + purpose + b"\0" + session + struct.pack(f">{len(parties)}I", *parties)


def derive(secret: bytes, info: bytes) -> bytes:
    """Returns 32 bytes from a secret, by HKDF-SHA256 (RFC 5869) without salt.

    It needs no salt, since the secret is uniform or a Diffie-Hellman value.
    """
    return HKDF(_SHA256, KEY_BYTES, salt=None, info=info).derive(secret)


def exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    """Returns the 32-byte Diffie-Hellman value of two parties, from which they derive their keys.

    Raises:
      UnsoundKey: the public key gives a shared value that anyone knows, or is not below the field's prime. X25519 reads
        such a key as the one below it, or without its top bit: whoever compares keys would take the two for different.
    """
    if int.from_bytes(public, "little") >= _PRIME:
        raise UnsoundKey("a public key that is another's, written another way")
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise UnsoundKey("a public key of small order: anyone could know the shared value") from None


def is_sound(public: bytes) -> bool:
    """Returns whether a key can be agreed on with this public key of 32 bytes."""
    try:
        exchange(X25519PrivateKey.generate(), public)
    except UnsoundKey:
        return False
    return True


def pair_mask_seed(shared: bytes, session: bytes, one: int, other: int) -> bytes:
    """Returns the seed of the mask between two clients, the same for both, from the value that their keys give."""
    return derive(shared, context(b"pair mask", session, min(one, other), max(one, other)))


def self_mask_seed(secret: bytes, session: bytes, owner: int) -> bytes:
    """Returns the seed of a client's own mask."""
    return derive(secret, context(b"self mask", session, owner))


def commitment(secret: bytes, session: bytes, owner: int) -> bytes:
    """Returns a client's commitment to its self-mask secret, by which the server notices a wrong recovery."""
    return derive(secret, context(b"self mask commitment", session, owner))


def share_tag(share: bytes, session: bytes, owner: int, holder: int) -> bytes:
    """Returns 16 bytes by which the server recognises a true share. A share is uniform, so the tag hides it."""
    return hashlib.sha256(context(b"share tag", session, owner, holder) + share).digest()[:TAG_BYTES]


def seal(plain: bytes, channel: bytes, session: bytes, sender: int, to: int) -> bytes:
    """Returns nonce | AES-256-GCM ciphertext | tag, under a key of this sender, recipient and session alone.

    Args:
      plain: the secret.
      channel: the Diffie-Hellman value of the sender's and the recipient's channel keys.
      session: the bound session.
      sender: its number in the cohort.
      to: the recipient's.
    """
    info = context(b"shares", session, sender, to)
    nonce = os.urandom(12)
    return nonce + AESGCM(derive(channel, info)).encrypt(nonce, plain, info)


def unseal(sealed: bytes, channel: bytes, session: bytes, sender: int, to: int) -> Optional[bytes]:
    """Returns what `seal` sealed, or None if the bytes were changed, or sealed for another pair or session."""
    info = context(b"shares", session, sender, to)
    try:
        return AESGCM(derive(channel, info)).decrypt(sealed[:12], sealed[12:], info)
    except InvalidTag:
        return None


def sign(identity: Ed25519PrivateKey, purpose: bytes, session: bytes, sender: int, body: bytes) -> bytes:
    """Returns an Ed25519 signature of 64 bytes over the purpose, session, sender and body."""
    return identity.sign(context(purpose, session, sender) + body)


def is_signed(signature: bytes, identity: bytes, purpose: bytes, session: bytes, sender: int, body: bytes) -> bool:
    """Returns whether this identity signed exactly this purpose, session, sender and body."""
    return signatures.is_signed(signature, identity, context(purpose, session, sender) + body)


class Operations:
    """The operations that take most of a client's time, as methods so that a simulation can do them otherwise.

    All clients of a simulation check the same signatures, each pair of them agrees on the same value twice, and a core
    may be idle while one client masks its vector. A client over a network has no others than these.
    """

    def is_signed(
        self, signature: bytes, identity: bytes, purpose: bytes, session: bytes, sender: int, body: bytes
    ) -> bool:
        """Returns what is_signed of this module does."""
        return is_signed(signature, identity, purpose, session, sender, body)

    def exchange(self, private: X25519PrivateKey, public: bytes) -> bytes:
        """Returns what exchange of this module does."""
        return exchange(private, public)

    def add_masks(self, vector: NDArray[np.uint32], masks: Iterable[Mask]) -> None:
        """Adds masks to a vector in place."""
        add_masks(vector, masks)
