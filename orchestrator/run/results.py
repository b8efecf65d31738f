"""How a command's figures are kept in a run's folder, and read back: one struct a file, one way in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, TypeVar

import msgspec

from models.files import write_atomically
from orchestrator.errors import RunFolderError

_Figures = TypeVar("_Figures")


def write_figures(file: Path, figures: object) -> None:
    """Keeps a command's figures, a struct, as indented JSON."""
    write_atomically(file, msgspec.json.format(msgspec.json.encode(figures)) + b"\n")


def read_figures(file: Path, kind: type[_Figures], command: str) -> Optional[_Figures]:
    """What a command left in a file of a run's folder, None if it was not run yet.

    Raises:
      RunFolderError: the file is damaged.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} is damaged ({error}): run `fedkeys {command} --run {file.parent}`") from None
