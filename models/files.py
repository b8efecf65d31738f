"""Files that appear whole or not at all, and the folders for what can be made again and for what can't."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Union

import platformdirs

CACHE_DIR_VARIABLE = "FEDKEYS_CACHE_DIR"
DATA_DIR_VARIABLE = "FEDKEYS_DATA_DIR"


def cache_folder() -> Path:
    """Returns the folder for what can be made again: FEDKEYS_CACHE_DIR, or fedkeys' place in the user's cache."""
    return Path(os.environ.get(CACHE_DIR_VARIABLE) or platformdirs.user_cache_dir("fedkeys")).expanduser()


def data_folder() -> Path:
    """Returns the folder for what must not be lost: FEDKEYS_DATA_DIR, or fedkeys' place in the user's data folder."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or platformdirs.user_data_dir("fedkeys")).expanduser()


def own_only(path: Union[str, os.PathLike], flags: int) -> int:
    """Opens a file, for open()'s `opener`: one that it creates can be read by its owner only."""
    return os.open(path, flags, 0o600)


def write_atomically(path: Path, content: bytes, private: bool = False, new: bool = False) -> None:
    """Writes all of `content` to `path`, or leaves what was there, even in a kill or on a full disk.

    Args:
      path: of the file.
      content: all of it.
      private: only the owner may read it.
      new: write it only where nothing is, not even a link to nowhere: of two processes at once, one writes.

    Raises: OSError if it can't be written, FileExistsError if something is there that must not; the file that was begun
      beside it is then removed.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "xb", opener=own_only if private else None) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(partial, path)
            partial.unlink()
        else:
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
