"""DIR/transcript.json as types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import msgspec

from models.files import write_atomically
from orchestrator.run.results import read_figures

FILE_NAME = "transcript.json"


_LABELS = {"plain": "added in the clear", "masked": "secure aggregation", "encrypted": "encrypted sum"}


class Test(msgspec.Struct, frozen=True):
    """See orchestrator.audit.transcript.read_transcript."""

    n: int
    p_value: float
    ok: bool
    chi_square: Optional[float] = None
    r: Optional[float] = None


class Seen(msgspec.Struct, frozen=True):
    """What a server received of the client, under one aggregator."""

    bytes: int
    uniform_bytes: Test
    byte_counts: tuple[int, ...]
    picture: str
    loudest: tuple[str, ...] = ()
    correlation: Optional[Test] = None


class TranscriptView(msgspec.Struct, frozen=True):
    """DIR/transcript.json, as `fedkeys transcript` writes it."""

    round_num: int
    client: str
    aggregator: str
    false_alarm_rate: float
    plain: Seen
    masked: Seen
    encrypted: Seen
    typed: tuple[str, ...]
    typed_share: float

    @property
    def views(self) -> dict[str, Seen]:
        """By the names of _LABELS."""
        return {name: getattr(self, name) for name in _LABELS}


def write_transcript(path: Path, figures: Mapping[str, Any]) -> None:
    """Keeps what read_transcript found in folder `path`, for the report."""
    write_atomically(path / FILE_NAME, msgspec.json.encode(figures))


def read_transcript_file(path: Path) -> Optional[TranscriptView]:
    """The transcript kept in folder `path`, None if there is none.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / FILE_NAME, TranscriptView, "transcript")
