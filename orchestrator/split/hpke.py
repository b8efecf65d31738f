"""Seals bytes for the holder of a public key: HPKE's base mode, one message for each key that it derives.

The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM. Newer versions of `cryptography` have HPKE, but not
the one that Python 3.9 and 3.10 are locked to. A test compares the two where both are there.

Source: RFC 9180, sections 4.1, 5.1 and 6.1, https://www.rfc-editor.org/rfc/rfc9180.
"""

from __future__ import annotations

import hmac
from typing import Optional

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES = 32
OVERHEAD_BYTES = KEY_BYTES + 16  # the ephemeral public key and the tag
_AEAD_KEY_BYTES, _NONCE_BYTES = 16, 12
_KEM_SUITE = b"KEM\x00\x20"
_SUITE = b"HPKE\x00\x20\x00\x01\x00\x01"
_BASE_MODE = b"\x00"


def seal(public: bytes, info: bytes, plain: bytes, aad: bytes = b"") -> bytes:
    """Returns ephemeral public key | ciphertext | tag, which only the holder of the private key opens.

    Args:
      public: X25519, 32 bytes.
      info: what the key is bound to.
      plain: the bytes to be sealed.
      aad: what the ciphertext is bound to besides.

    Raises:
      ValueError: the public key is of small order, or no key.
    """
    ephemeral = X25519PrivateKey.generate()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    own = ephemeral.public_key().public_bytes_raw()
    key, nonce = _key_and_nonce(_shared_secret(shared, own, public), info)
    return own + AESGCM(key).encrypt(nonce, plain, aad)


def unseal(private: X25519PrivateKey, info: bytes, sealed: bytes, aad: bytes = b"") -> Optional[bytes]:
    """Returns what `seal` sealed, or None if the bytes were changed, or sealed for another key, info or aad."""
    own, ciphertext = sealed[:KEY_BYTES], sealed[KEY_BYTES:]
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(own))
    except ValueError:  # of small order, or too short
        return None
    public = private.public_key().public_bytes_raw()
    key, nonce = _key_and_nonce(_shared_secret(shared, own, public), info)
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        return None


def _shared_secret(shared: bytes, ephemeral: bytes, public: bytes) -> bytes:
    """ExtractAndExpand of section 4.1."""
    secret = _extract(_KEM_SUITE, b"", b"eae_prk", shared)
    return _expand(_KEM_SUITE, secret, b"shared_secret", ephemeral + public, KEY_BYTES)


def _key_and_nonce(shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """KeySchedule of section 5.1 in base mode, for the first and only message."""
    no_psk, digest = _extract(_SUITE, b"", b"psk_id_hash", b""), _extract(_SUITE, b"", b"info_hash", info)
    context = _BASE_MODE + no_psk + digest
    secret = _extract(_SUITE, shared_secret, b"secret", b"")
    key = _expand(_SUITE, secret, b"key", context, _AEAD_KEY_BYTES)
    return key, _expand(_SUITE, secret, b"base_nonce", context, _NONCE_BYTES)


def _extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    """LabeledExtract of section 4."""
    return hmac.digest(salt, b"HPKE-v1" + suite + label + secret, "sha256")


def _expand(suite: bytes, secret: bytes, label: bytes, info: bytes, num_bytes: int) -> bytes:
    """LabeledExpand of section 4."""
    labelled = num_bytes.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), num_bytes, labelled).derive(secret)
