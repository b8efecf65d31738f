"""The key that signs each app's bundles, remembered from the first bundle on, as ssh remembers a host's key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.errors import BundleError
from models.files import data_folder, write_atomically

_APP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # the name of a file


def remembered_key(app: str) -> Optional[Path]:
    """Returns the PEM file of the public key that is remembered for an app; None if no bundle of it was accepted yet.

    Raises:
      BundleError: `app` can't be the name of a file.
    """
    path = _path(app)
    return path if path.exists() else None


def remember_key(app: str, key: bytes) -> Path:
    """Remembers the 32 bytes of an app's public key, in place of one from before; returns the file.

    Raises: OSError if it can't be written.
    """
    path = _path(app)
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PublicKey.from_public_bytes(key).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if not path.exists() or path.read_bytes() != pem:
        write_atomically(path, pem)
    return path


def _path(app: str) -> Path:
    if not _APP_NAME.fullmatch(app):
        raise BundleError(f"--app {app!r}: take up to 64 letters, digits, dots, dashes or underscores")
    return data_folder() / "app_keys" / f"{app}.pub"
