"""Ed25519 keys, and the file SIGNATURE that signs a bundle's manifest, which in turn names every file's digest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import msgspec

from edge.bundle.manifest import MANIFEST_FILE, to_json
from edge.bundle.reading import decode_json, read_regular
from edge.errors import BundleError
from models.files import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_FILE = "SIGNATURE"
_MAX_SIGNATURE_BYTES = 4096


class SignatureFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """SIGNATURE: both values as hex."""

    algorithm: str = "Ed25519"
    signs: str = MANIFEST_FILE
    public_key: str
    signature: str


def generate_key(path: Path) -> Path:
    """Writes a new Ed25519 private key to `path` (PEM, readable by its owner only); returns where the public one is.

    Raises:
      BundleError: one of the two files exists.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(path.name + ".pub")
    for existing in (path, public_path):
        if existing.exists():
            raise BundleError(f"{existing} exists, and a key that is overwritten is lost: name another file")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    write_atomically(public_path, public)
    return public_path


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Returns the Ed25519 private key in a PEM file.

    Raises:
      BundleError: there is none that can be used.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = _load(path, "private", lambda raw: serialization.load_pem_private_key(raw, None))
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path} holds a private key that is not Ed25519: make one with `fedkeys keygen`")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Returns the Ed25519 public key in a PEM file.

    Raises:
      BundleError: there is none that can be used.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from edge.signatures import has_small_order

    key = _load(path, "public", serialization.load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path} holds a public key that is not Ed25519: make one with `fedkeys keygen`")
    if has_small_order(raw_public(key)):
        raise BundleError(f"{path} holds a key of small order, for which anybody can sign: do not use it")
    return key


def _load(path: Path, kind: str, load: Callable[[bytes], object]) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BundleError(f"{path} holds no {kind} key that can be read: make one with `fedkeys keygen`") from None


def raw_public(key: Ed25519PublicKey) -> bytes:
    """Returns the 32 bytes of a public key."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def sign(manifest: bytes, key_path: Path) -> bytes:
    """Returns the content of SIGNATURE for a manifest's bytes.

    Raises:
      BundleError: the file holds no Ed25519 private key.
    """
    key = read_private_key(key_path)
    signature = SignatureFile(public_key=raw_public(key.public_key()).hex(), signature=key.sign(manifest).hex())
    return to_json(signature)


def check_signature(bundle: Path, manifest: bytes) -> Optional[bytes]:
    """Returns the 32 bytes of the public key that signs a bundle's manifest; None if the bundle is not signed.

    Raises:
      BundleError: SIGNATURE is damaged, or signs other bytes, or its key is of small order: anybody can sign for that.
    """
    from edge.signatures import has_small_order, is_signed

    path = bundle / SIGNATURE_FILE
    if not (path.exists() or path.is_symlink()):
        return None
    content = read_regular(bundle, SIGNATURE_FILE, _MAX_SIGNATURE_BYTES)
    signature = decode_json(content, SignatureFile, str(path), "copy the bundle again")
    try:
        key, value = bytes.fromhex(signature.public_key), bytes.fromhex(signature.signature)
        if (signature.algorithm, signature.signs) != ("Ed25519", MANIFEST_FILE):
            raise ValueError(f"{signature.algorithm} over {signature.signs}")
        if len(key) != 32:
            raise ValueError(f"a public key of {len(key)} bytes")
    except ValueError as error:
        raise BundleError(f"{path} is damaged ({error}): copy the bundle again") from None
    if has_small_order(key):
        raise BundleError(f"{path} is of a key of small order, for which anybody can sign: do not use it")
    if not is_signed(value, key, manifest):
        raise BundleError(f"{path} does not sign this {MANIFEST_FILE}: one of them was changed; do not use it")
    return key


def check_signer(bundle: Path, key: Optional[bytes], public_key: Optional[Path], required: bool) -> str:
    """Returns what is known of a bundle's signer.

    Args:
      bundle: the folder.
      key: what check_signature found.
      public_key: the file of the key that it must be; None accepts any.
      required: refuse a bundle that is not signed even so.

    Raises:
      BundleError: it is another key, or there is none where one is asked for.
    """
    wanted = raw_public(read_public_key(public_key)) if public_key is not None else None
    if key is None:
        if wanted is not None or required:
            raise BundleError(
                f"{bundle} is not signed: export it with --key, or leave --public-key and --require-signature out"
            )
        return "UNSIGNED: anybody could have made this bundle"
    if wanted is not None and key != wanted:
        raise BundleError(f"{bundle} is signed with another key ({key.hex()[:16]}...) than {public_key}: do not use it")
    return f"Ed25519, key {key.hex()[:16]}..." + ("" if wanted else ", whose key it is was NOT checked (--public-key)")


def check_key(path: Path) -> None:
    """Refuses a file that holds no private key; called before the work, so that nobody waits for an error.

    Raises:
      BundleError: it holds none that can be used.
    """
    read_private_key(path)
