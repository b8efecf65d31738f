"""The key that signs each app's bundles, remembered from the first bundle on, as ssh remembers a host's key."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.bundle.signing import raw_public, read_public_key
from edge.errors import BundleError
from models.files import data_folder, write_atomically

_APP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # the name of a file


def remembered_key(app: str) -> Optional[Path]:
    """Returns the PEM file of the public key that is remembered for an app; None if no bundle of it was accepted yet.

    Raises:
      BundleError: `app` can't be the name of a file.
    """
    path = _path(app)
    return path if os.path.lexists(path) else None  # also a link to nowhere, which is no key: who reads it says so


def remember_key(app: str, key: bytes, replace: bool) -> Path:
    """Remembers the 32 bytes of an app's public key; returns the file.

    Args:
      app: whose key it is.
      key: Ed25519, 32 bytes.
      replace: put it in place of another that is remembered.

    Raises:
      BundleError: another is remembered, though `replace` is false: also if a process at the same time did it.
      OSError: it can't be written.
    """
    path = _path(app)
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PublicKey.from_public_bytes(key).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        write_atomically(path, pem, new=not replace)
    except FileExistsError:
        if raw_public(read_public_key(path)) != key:
            raise BundleError(f"{app}: {path} holds another key than the bundle's: do not use it") from None
    return path


def _path(app: str) -> Path:
    if not _APP_NAME.fullmatch(app):
        raise BundleError(f"--app {app!r}: take up to 64 letters, digits, dots, dashes or underscores")
    return data_folder() / "app_keys" / f"{app}.pub"
