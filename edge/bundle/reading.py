"""Reads the files of a folder that anybody may have made: regular files only, of a bounded size, and JSON of any depth.

Everything that reads a bundle, or a file that somebody's phone wrote, reads it by these functions.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TypeVar

import msgspec

from edge.errors import BundleError

T = TypeVar("T")


def read_regular(folder: Path, name: str, max_bytes: int, advice: str = "copy the bundle again") -> bytes:
    """Returns the content of a file in a folder, without following a link or waiting for a pipe.

    Args:
      folder: may itself be a link: whoever calls names it.
      name: the path inside, with slashes; it has no part "..".
      max_bytes: the most that is read.
      advice: what to do about a file that is refused.

    Raises:
      BundleError: the file is missing, is no regular file, is reached by a link, or is larger.
    """
    path = Path(folder) / name
    try:
        with open(_open_inside(Path(folder), PurePosixPath(name)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{path} is not a regular file, and nothing else is read: {advice}")
            content = file.read(max_bytes + 1) if status.st_size <= max_bytes else b""
    except OSError as error:
        if path.is_symlink() or path.parent.is_symlink():
            raise BundleError(f"{path} is a link, and links are not followed: {advice}") from None
        raise BundleError(f"{path}: can't be read: {error.strerror}") from None
    if status.st_size > max_bytes or len(content) > max_bytes:
        raise BundleError(f"{path} has {status.st_size} bytes, {max_bytes} are allowed: {advice}")
    return content


def check_names(names: Iterable[str], where: str) -> None:
    """Refuses names of files outside of a folder; `where` is the file that names them.

    Raises:
      BundleError: the first such name.
    """
    for name in names:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or set(name) & {"\\", "\0"} or str(pure) != name or name == ".":
            raise BundleError(f"{where} names {name!r}, which leaves the bundle's folder: do not use it")


def _open_inside(folder: Path, name: PurePosixPath) -> int:
    """Returns a descriptor of a file; a link on the way there, or a socket at its end, is an OSError."""
    if ".." in name.parts or name.is_absolute():
        raise ValueError(f"name must stay in its folder, got name={name}")
    *folders, last = name.parts
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            above, place = place, os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(above)
        # Without O_NONBLOCK the opening of a pipe waits for somebody who writes into it.
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)


def decode_json(content: bytes, kind: type[T], name: str, advice: str) -> T:
    """Returns the value of a type that JSON holds.

    Args:
      content: the JSON.
      kind: the type.
      name: what to call the content in an error.
      advice: what to do about it.

    Raises:
      BundleError: it is no JSON of this type.

    >>> decode_json(b"[1, 2]", list[int], "numbers.json", "write it again")
    [1, 2]
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        reason = "its JSON is nested too deeply"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error)
    raise BundleError(f"{name} is damaged ({reason}): {advice}")
