"""Keeps whose masks a helper has added up in which round, so that none is in two lists, whatever ends its process.

A list is on disk before its answer exists: SQLite writes it through to the disk before `add` returns, and its keys let
in no second row, also of another process.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from orchestrator.split.errors import OpenedLost, RoundOpened

_APPLICATION_ID = 0x666B6F70  # "fkop": tells the file from any other that SQLite reads
_TABLES = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    "CREATE TABLE opened (run BLOB NOT NULL, round_num INTEGER NOT NULL, group_num INTEGER NOT NULL, "
    "request_sha256 BLOB NOT NULL, PRIMARY KEY (run, round_num, group_num)) WITHOUT ROWID",
    "CREATE TABLE summed (run BLOB NOT NULL, round_num INTEGER NOT NULL, client_id TEXT NOT NULL, "
    "PRIMARY KEY (run, round_num, client_id)) WITHOUT ROWID",
)


class OpenedRounds:
    """The lists that one helper has opened.

    Args:
      path: the file that keeps them, made if it is missing, for its owner alone; None keeps them in memory, for a
        simulation.

    Raises:
      OpenedLost: the file can't be read, or is another.
    """

    def __init__(self, path: Optional[Path] = None) -> None:
        self._path = path
        try:
            is_new = path is None or _make(path)
            # isolation_level None: each statement is a transaction of its own, but between BEGIN and COMMIT.
            self._rounds = sqlite3.connect(
                ":memory:" if path is None else str(path.resolve()),
                timeout=10.0,
                isolation_level=None,
                check_same_thread=False,
            )
            self._rounds.execute("PRAGMA synchronous = EXTRA")  # the folder is written through as well
            self._rounds.execute("PRAGMA fullfsync = 1")  # on macOS fsync alone stops at the drive's cache
            if is_new:
                self._write(*((statement, ()) for statement in _TABLES))
            (found,) = self._rounds.execute("PRAGMA application_id").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise self._lost(error) from None
        if found != _APPLICATION_ID:
            raise self._lost("it keeps no opened rounds")

    def count(self) -> int:
        """Returns how many lists were opened."""
        return self._rounds.execute("SELECT count(*) FROM opened").fetchone()[0]

    def add(self, run: bytes, round_num: int, group: int, request_sha256: bytes, client_ids: Iterable[str]) -> None:
        """Records that a list is opened, of a round or of a group of it; the record then outlasts a loss of power.

        Args:
          run: the run's name.
          round_num: the round's number.
          group: the group's number; 0 where a round has one list.
          request_sha256: the list's digest.
          client_ids: who is in the list.

        Raises:
          RoundOpened: a list of the round or group was opened before, or one of its clients is in another list of the
            round; the record stays as it is.
          OpenedLost: the file can't be written.
        """
        try:
            self._write(
                ("INSERT INTO opened VALUES (?, ?, ?, ?)", (run, round_num, group, request_sha256)),
                *(("INSERT INTO summed VALUES (?, ?, ?)", (run, round_num, client_id)) for client_id in client_ids),
            )
        except sqlite3.IntegrityError:
            raise RoundOpened(
                f"round {round_num} was opened before: a round or group has one list, and a client is in one of them"
            ) from None
        except sqlite3.Error as error:
            raise self._lost(error) from None

    def close(self) -> None:
        """Closes the file."""
        self._rounds.close()

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Does all of the statements or none."""
        self._rounds.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in statements:
                self._rounds.execute(statement, values)
            self._rounds.execute("COMMIT")
        except BaseException:
            self._rounds.execute("ROLLBACK")
            raise

    def _lost(self, why: object) -> OpenedLost:
        return OpenedLost(f"{self._path}: {why}: without it rounds could be opened twice; restore it, or make new keys")


def _make(path: Path) -> bool:
    """Makes an empty file for its owner alone, and returns True, or returns False if there is one."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True
