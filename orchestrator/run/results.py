"""Keeps a command's figures in a run's folder and reads them back: a file holds one struct."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional, TypeVar, cast

import msgspec

from models.files import write_atomically
from orchestrator.errors import RunFolderError

_Figures = TypeVar("_Figures")


class NotKept(RunFolderError):
    """Figures that were found, and could not be written; `figures` holds them."""

    def __init__(self, message: str, figures: object):
        super().__init__(message)
        self.figures = figures


def write_figures(file: Path, figures: object, private: bool = False) -> None:
    """Keeps a command's figures, a struct, as indented JSON; `private`: only the owner may read them.

    Raises:
      NotKept: the file can't be written.
    """
    try:
        write_atomically(file, msgspec.json.format(msgspec.json.encode(figures)) + b"\n", private)
    except OSError as error:
        raise NotKept(f"{file} can't be written ({error.strerror}): the figures are kept nowhere", figures) from None


def kept(find: Callable[[], _Figures]) -> tuple[_Figures, str]:
    """Returns (what `find` finds, why it could not be kept in the run's folder; empty if it was)."""
    try:
        return find(), ""
    except NotKept as error:
        return cast("_Figures", error.figures), str(error)


def read_figures(file: Path, kind: type[_Figures], command: Optional[str] = None) -> Optional[_Figures]:
    """Returns what a command left in a file of a run's folder; None if it was not run yet.

    Args:
      file: of the figures.
      kind: their struct.
      command: finds them anew in a run's folder; None if nothing does.

    Raises:
      RunFolderError: the file is damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        mend = "restore it" if command is None else f"run `fedkeys {command} --run {file.parent}`"
        raise RunFolderError(f"{file} is damaged ({error}): {mend}") from None
