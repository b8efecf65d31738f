"""Keeps which rounds a helper has opened, so that it opens none twice, whatever ends its process.

A round is on disk before its answer exists: SQLite writes each one through to the disk before `add` returns, and its
key lets in no second row, also of another process.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Optional

from orchestrator.split.errors import OpenedLost, RoundOpened

_TABLE = (
    "CREATE TABLE IF NOT EXISTS opened (run BLOB NOT NULL, round_num INTEGER NOT NULL, group_num INTEGER NOT NULL, "
    "request_sha256 BLOB NOT NULL, PRIMARY KEY (run, round_num, group_num)) WITHOUT ROWID"
)


class OpenedRounds:
    """The rounds that one helper has opened.

    Args:
      path: the file that keeps them, made if it is missing; None keeps them in memory, for a simulation.

    Raises:
      OpenedLost: the file can't be read.
    """

    def __init__(self, path: Optional[Path] = None) -> None:
        self._path = path
        try:
            # isolation_level None: each statement is a transaction of its own.
            self._rounds = sqlite3.connect(
                str(path or ":memory:"), timeout=10.0, isolation_level=None, check_same_thread=False
            )
            self._rounds.execute("PRAGMA synchronous = EXTRA")  # the folder is written through as well
            self._rounds.execute(_TABLE)
        except sqlite3.Error as error:
            raise self._lost(error) from None

    def add(self, run: bytes, round_num: int, group: int, request_sha256: bytes) -> None:
        """Records that a round is opened, or its group; when it returns, the record outlasts a loss of power.

        Raises:
          RoundOpened: the round was opened before; its record stays as it is.
          OpenedLost: the file can't be written.
        """
        try:
            self._rounds.execute("INSERT INTO opened VALUES (?, ?, ?, ?)", (run, round_num, group, request_sha256))
        except sqlite3.IntegrityError:
            raise RoundOpened(f"round {round_num} was opened before: a round or group has one list") from None
        except sqlite3.Error as error:
            raise self._lost(error) from None

    def close(self) -> None:
        """Closes the file."""
        self._rounds.close()

    def _lost(self, error: sqlite3.Error) -> OpenedLost:
        return OpenedLost(
            f"{self._path}: {error}: without it rounds could be opened twice; restore it, or make new keys"
        )
