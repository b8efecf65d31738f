"""Keeps what a user's own text became, so that the next start need not split its messages into words again.

People's text must not lie about because it was read once. The file is therefore encrypted under a key that is made of
the messages themselves: who has the text can read it. Whoever lacks a small part of it, such as one deleted message,
can guess that part and see whether the guess is right. The file of a text that was changed is therefore gone before the
text is split again, whether or not another one takes its place.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import msgspec
import regex
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.files import write_atomically
from models.segmentation import NO_SEGMENTER, icu_version
from models.text_sources import Columns, Message, read_columns
from models.tokeniser import Tokeniser

_VERSION = 1  # raise it when reading or cleaning changes, so that older files are made anew
_WORTH_KEEPING = 1 << 20  # characters, of which a shorter text is split in a moment
_MOST_BYTES = (1 << 31) - 64  # of a plaintext, by AES-GCM of the library
_NONCE_BYTES = 12
_AT_A_TIME = 4096  # messages
_log = logging.getLogger(__name__)


def tokeniser_name(tokeniser: Tokeniser) -> str:
    """Returns what a split text depends on: with ICU also on its version, whose dictionaries cut otherwise."""
    version = str(tokeniser.version)
    return version if tokeniser.segmenter == NO_SEGMENTER else f"{version}-{tokeniser.segmenter}-{icu_version()}"


def read_kept_columns(
    source: str, messages: Iterable[Message], tokeniser: Tokeniser, cache: Optional[Path]
) -> dict[str, Columns]:
    """Returns what text_sources.read_columns does, from a file if it was found before, else it leaves one.

    Args:
      source: where the messages are from; a place has one file for each tokeniser.
      messages: what people typed.
      tokeniser: splits them.
      cache: the folder of what can be made again; None keeps nothing.
    """
    if cache is None:
        return read_columns(messages, tokeniser)
    messages = list(messages)
    path = cache / "texts" / _file_name(source, tokeniser)
    is_short = sum(len(message.text) for message in messages) < _WORTH_KEEPING
    key = b"" if is_short else _key_of(messages, tokeniser)
    kept = None if is_short else _read(path, key)
    if kept is not None:
        return kept
    _remove(path)
    columns = read_columns(messages, tokeniser)
    if not is_short:
        _write(path, key, columns)
    return columns


def _file_name(source: str, tokeniser: Tokeniser) -> str:
    place = os.fsencode(Path(source).expanduser().absolute())
    return hashlib.sha256(place + b"\0" + tokeniser_name(tokeniser).encode()).hexdigest()[:32] + ".bin"


def _key_of(messages: list[Message], tokeniser: Tokeniser) -> bytes:
    """Returns 32 bytes that depend on all that the columns do, and that only who has the messages can know."""
    rules = (_VERSION, tokeniser_name(tokeniser), unicodedata.unidata_version, regex.__version__)
    digest = hashlib.sha256(msgspec.msgpack.encode(("fedkeys text cache", *rules)))
    for start in range(0, len(messages), _AT_A_TIME):
        digest.update(msgspec.msgpack.encode(messages[start : start + _AT_A_TIME]))
    return digest.digest()


def _read(path: Path, key: bytes) -> Optional[dict[str, Columns]]:
    """Returns what a file holds; None if it is missing, of another text, damaged, or somebody else can write it."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            content = file.read()
        plain = AESGCM(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None)
        return msgspec.msgpack.decode(plain, type=dict[str, Columns])
    except (OSError, ValueError, InvalidTag, msgspec.MsgspecError):
        return None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for who writes


def _is_ours(status: os.stat_result) -> bool:
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _remove(path: Path) -> None:
    """Removes what an earlier text left; where that can't be, the log says so."""
    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        return  # then nothing is there
    except OSError as error:
        _log.warning("%s: can't be removed, and holds what the text was: %s", path, error.strerror)


def _write(path: Path, key: bytes, columns: dict[str, Columns]) -> None:
    """Leaves a file for the next start; where that can't be, the text is only split anew."""
    plain = msgspec.msgpack.encode(columns)
    if len(plain) > _MOST_BYTES:
        return
    nonce = os.urandom(_NONCE_BYTES)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, nonce + AESGCM(key).encrypt(nonce, plain, None), private=True)
    except OSError as error:
        _log.info("%s: can't keep the split text: %s", path, error.strerror)
