"""Keeps on a client's disk which rounds it answered, and the newest roster, so that not even a restart goes back.

The sum of a round with one client more the second time, less the first sum, is that client's vector: what a client
draws follows from the seed and the round, so its vector repeats to the last bit.

    {"schema": 1, "last_rounds": {seed: the last round of a run with this seed that the client answered},
     "rosters": {an operator's fingerprint: the number and the digest of the newest roster that the client has seen}}
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from typing import Annotated, Optional

import msgspec

from models.files import write_atomically
from orchestrator.network.errors import KeysError
from orchestrator.network.roster import Operator, Roster, Seen, require_newest
from orchestrator.secagg.errors import SessionReplayed

_Round = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class _Seen(msgspec.Struct, forbid_unknown_fields=True):
    number: _Round
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]


class _Page(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    schema: int
    last_rounds: dict[int, _Round]
    rosters: dict[str, _Seen] = {}


class Journal:
    """The rounds that one client answered, and the newest rosters that it has seen.

    No two processes hold the journal of one client at the same time.

    Args:
      path: the file, which need not exist yet; None keeps them in memory only, until the process ends.

    Raises:
      KeysError: the file is damaged, can't be read or written, or another process holds it.
    """

    def __init__(self, path: Optional[Path]):
        path = path and Path(os.path.realpath(path))  # two names of one file, as a link is, have one lock
        self._path = path
        self._last_rounds: dict[int, int] = {}
        self._rosters: dict[str, _Seen] = {}
        self._unlock: Optional[weakref.finalize] = None
        if path is not None:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock(path.with_name(f"{path.name}.lock"))
                self._read_again(path)
            except OSError as error:
                raise _unusable(path, error) from None

    def close(self) -> None:
        """Lets another process hold the journal."""
        if self._unlock is not None:
            self._unlock()

    def spend(self, seed: int, round_num: int) -> None:
        """Returns once it stands on the disk that the client answers a round of a seed, which it does once.

        What a client draws follows from the seed and the round, so two runs of one seed ask for the same vectors,
        whatever their other settings are.

        Raises:
          SessionReplayed: the client answered this round or a later one before.
          KeysError: the file is damaged, can't be read or can't be written: the round must not be answered.
        """
        if self._path is not None:
            self._read_again(self._path)
        last = self._last_rounds.get(seed, 0)
        if round_num <= last:
            raise SessionReplayed(
                f"round {round_num} came before: this client has answered up to round {last} of a run with this seed, "
                "and is summed once in a round; a new run needs another seed (serve --seed)"
            )
        self._last_rounds[seed] = round_num
        self._write()

    def see(self, roster: Roster, operator: Operator) -> None:
        """Returns once it stands on the disk that the client has seen this operator's roster, and takes no older one.

        Raises:
          OldRoster, ForkedRoster: see roster.require_newest.
          KeysError: the file is damaged, can't be read or can't be written.
        """
        if self._path is not None:
            self._read_again(self._path)
        name, found = operator.fingerprint, roster.seen
        known = self._rosters.get(name)
        require_newest(roster, None if known is None else Seen(known.number, bytes.fromhex(known.digest)))
        self._rosters[name] = _Seen(found.number, found.digest.hex())
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        page = msgspec.json.encode(_Page(1, self._last_rounds, self._rosters))
        try:
            write_atomically(self._path, page + b"\n", private=True)
            _sync_folder(self._path.parent)  # or a power cut could take the new name away again
        except OSError as error:
            raise _unusable(self._path, error) from None

    def _read_again(self, path: Path) -> None:
        """Takes over what the file says: without the lock's file another process may hold the journal, too."""
        try:
            written = _read(path) if path.exists() else _Page(1, {})
        except OSError as error:
            raise _unusable(path, error) from None
        for seed, round_num in written.last_rounds.items():
            self._last_rounds[seed] = max(round_num, self._last_rounds.get(seed, 0))
        for name, seen in written.rosters.items():
            known = self._rosters.get(name)
            if known is None or known.number < seen.number:
                self._rosters[name] = seen

    def _lock(self, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._unlock = weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KeysError(f"{self._path} is in use: this client runs already; end it, or wait for it") from None


def _read(path: Path) -> _Page:
    try:
        page = msgspec.json.decode(path.read_bytes(), type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError):
        page = _Page(0, {})
    if page.schema != 1:
        raise KeysError(
            f"{path} is damaged: it says which rounds this client must not answer again; restore it, or remove it and "
            "take part in new runs only"
        )
    return page


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> KeysError:
    return KeysError(f"{path}: {error.strerror}: name a file that this client can write by --state")
