"""The record of a run, DIR/record.jsonl: an entry a round, chained by hashes, that can be checked and replayed.

The first entry (round 0) is of the initial state. Each entry holds the hash of the one before, so that none can be
changed, left out or put in without changing all that follow. Who took part and the sum before noise are committed to
under a salt that stays in DIR/record_salt: the record alone tells neither, and can be given away.

Source: the chain: Haber and Stornetta 1991, "How to time-stamp a digital document".
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import msgspec

from models.files import write_atomically
from orchestrator.errors import RunFolderError
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.identity import RunIdentity
from orchestrator.run.lines import Round
from orchestrator.run.sources import Provenance, build_provenance

RECORD_FILE = "record.jsonl"
SALT_FILE = "record_salt"
FIRST_PREVIOUS = "0" * 64

_log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the record."""

    round_num: int
    outcome: str  # "initial", "completed" or "abandoned"
    config_sha256: str
    corpus_sha256: str
    vocabulary_sha256: str
    code_sha256: str
    lock_sha256: str
    noise_commitment: str
    cohort_commitment: str  # keyed; empty in the first entry, as the next
    aggregate_commitment: str  # keyed, of the SHA-256 of the sum before any noise of the server; empty if abandoned
    weights_sha256: str
    epsilon: Optional[float]
    previous_sha256: str
    field_checks: Mapping[str, str]  # of each field above: they say which one was changed
    entry_sha256: str


_CHECKED = tuple(f.name for f in msgspec.structs.fields(Entry) if f.name not in ("field_checks", "entry_sha256"))


class Recorder:
    """Appends to the record of a run; one process has it, under the run folder's lock.

    Args:
      directory: of the run.
      provenance: of the rounds to come.
      round_num: the round to go on after; entries beyond it are dropped. 0 with no record there begins one.

    Raises:
      RunFolderError: the record is damaged, or ends before `round_num`.
    """

    def __init__(self, directory: Path, provenance: Provenance, round_num: int):
        self._path, self._provenance = Path(directory) / RECORD_FILE, provenance
        self._salt = create_salt(directory) if round_num == 0 else read_salt(directory)
        entries = [] if round_num == 0 else read_record(directory, whole=False)[: round_num + 1]
        if round_num and len(entries) <= round_num:
            raise RunFolderError(f"{self._path} ends before round {round_num}, the newest checkpoint: restore it")
        write_atomically(self._path, b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
        self._previous = entries[-1].entry_sha256 if entries else FIRST_PREVIOUS

    def begin(self, weights_sha256: str) -> None:
        """Adds the first entry, of the initial state."""
        self._append(0, "initial", "", "", weights_sha256, None, sync=True)

    def append(self, report: RoundReport, sync: bool) -> None:
        """Adds a round's entry.

        Args:
          report: of the round.
          sync: wait until it is on disk: a checkpoint must not outlive its entry.
        """
        self._append(
            report.round_num,
            report.outcome,
            cohort_commitment(self._salt, report.round_num, report.selected, report.survivors),
            aggregate_commitment(self._salt, report.round_num, report.aggregate_sha256),
            report.weights_sha256,
            report.epsilon,
            sync,
        )

    def _append(
        self,
        round_num: int,
        outcome: str,
        cohort: str,
        aggregate: str,
        weights: str,
        epsilon: Optional[float],
        sync: bool,
    ) -> None:
        entry = build_entry(
            {
                "round_num": round_num,
                "outcome": outcome,
                **msgspec.structs.asdict(self._provenance),
                "cohort_commitment": cohort,
                "aggregate_commitment": aggregate,
                "weights_sha256": weights,
                "epsilon": epsilon,
                "previous_sha256": self._previous,
            }
        )
        with open(self._path, "ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
            if sync:
                file.flush()
                os.fsync(file.fileno())
        self._previous = entry.entry_sha256


def open_record(path: Path, identity: RunIdentity, noise_commitment: str, state: ServerState) -> Optional[Recorder]:
    """Opens the record of the run in folder `path`, cut to the state's round.

    None, with a warning, for a run that was begun before runs had a record.
    """
    if state.round_num and not (path / RECORD_FILE).exists():
        _log.warning("%s was begun without a record: its rounds can't be replayed", path)
        return None
    recorder = Recorder(path, build_provenance(identity, noise_commitment), state.round_num)
    if state.round_num == 0:
        recorder.begin(weights_digest(state.model))
    return recorder


def build_entry(values: Mapping[str, object]) -> Entry:
    """Returns the entry with these fields, and the hashes over them."""
    checks = {name: _field_check(name, values[name]) for name in _CHECKED}
    return msgspec.convert({**values, "field_checks": checks, "entry_sha256": _entry_digest(values)}, Entry)


def _field_check(name: str, value: object) -> str:
    return hashlib.sha256(msgspec.json.encode([name, value])).hexdigest()[:8]


def _entry_digest(values: Mapping[str, object]) -> str:
    return hashlib.sha256(msgspec.json.encode([[name, values[name]] for name in _CHECKED])).hexdigest()


def cohort_commitment(salt: bytes, round_num: int, selected: Sequence[str], survivors: Sequence[str]) -> str:
    """Returns the HMAC-SHA-256 (hex) of who was selected and who was summed, in their order."""
    return _commit(salt, "cohort", [round_num, list(selected), list(survivors)])


def aggregate_commitment(salt: bytes, round_num: int, aggregate_sha256: str) -> str:
    """Returns the HMAC-SHA-256 (hex) of a sum's digest; empty if there is no sum.

    Keyed, since under differential privacy the sum before its noise would let whoever knows all clients but one test
    a guess of that one.
    """
    return _commit(salt, "aggregate", [round_num, aggregate_sha256]) if aggregate_sha256 else ""


def client_commitment(salt: bytes, client_id: str) -> str:
    """HMAC-SHA-256 (hex) of a client's id: a pseudonym that only whoever has the salt can open."""
    return _commit(salt, "client", client_id)


def _commit(salt: bytes, purpose: str, value: object) -> str:
    return hmac.new(salt, msgspec.json.encode([purpose, value]), hashlib.sha256).hexdigest()


def create_salt(directory: Path) -> bytes:
    """Returns the salt of a run that begins, which it makes and keeps with mode 0600."""
    path = Path(directory) / SALT_FILE
    if path.exists():
        return read_salt(directory)  # a kill right after the start
    salt = secrets.token_bytes(32)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(salt.hex() + "\n")
    return salt


def read_salt(directory: Path) -> bytes:
    """Returns the salt of a run's commitments.

    Raises:
      RunFolderError: it is missing or damaged.
    """
    path = Path(directory) / SALT_FILE
    try:
        salt = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        salt = b""
    if len(salt) != 32:
        raise RunFolderError(f"{path} is missing or damaged: the record's commitments can't be opened; restore it")
    return salt


def read_record(directory: Path, whole: bool = True) -> list[Entry]:
    """Returns the entries of a run's record, oldest first, after it has checked their chain.

    Args:
      directory: of the run.
      whole: False passes over a last line that a kill cut off.

    Raises:
      RunFolderError: there is none, or an entry was changed, left out or cut: it says which, and which field.
    """
    path = Path(directory) / RECORD_FILE
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError:
        raise RunFolderError(f"{path} is missing: the run was begun without a record, or it is lost") from None
    if rest and whole:
        raise RunFolderError(f"{path} is cut off in entry {len(lines)}: restore it, or resume the run")
    entries: list[Entry] = []
    previous = FIRST_PREVIOUS
    for number, line in enumerate(lines):
        entry = _decode(path, number, line)
        _check_entry(path, number, entry, previous)
        previous = entry.entry_sha256
        entries.append(entry)
    if whole and not entries:
        raise RunFolderError(f"{path} is empty: restore it")
    return entries


def _decode(path: Path, number: int, line: bytes) -> Entry:
    try:
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path}, entry {number} can't be read ({error}): it was cut or changed") from None


def _check_entry(path: Path, number: int, entry: Entry, previous: str) -> None:
    values = {name: getattr(entry, name) for name in _CHECKED}
    for name, value in values.items():
        if entry.field_checks.get(name) != _field_check(name, value):
            raise RunFolderError(f"{path}, entry {number}: {name} was changed: do not trust this record")
    if set(entry.field_checks) != set(_CHECKED):
        raise RunFolderError(f"{path}, entry {number}: field_checks was changed: do not trust this record")
    if entry.entry_sha256 != _entry_digest(values):
        raise RunFolderError(f"{path}, entry {number}: entry_sha256 was changed: do not trust this record")
    if entry.round_num != number:
        raise RunFolderError(f"{path}, entry {number} is of round {entry.round_num}: entries were left out or put in")
    if entry.previous_sha256 != previous:
        raise RunFolderError(
            f"{path}, entry {number}: previous_sha256 is not entry {number - 1}'s hash: one of the two was made anew"
        )


def check_against_reports(directory: Path, entries: Sequence[Entry], reports: Sequence[Round]) -> None:
    """Checks the record against rounds.jsonl: a chain made anew from the start to its end shows here.

    Raises:
      RunFolderError: which entry and field differ, or the record ends too early.
    """
    path, salt = Path(directory) / RECORD_FILE, read_salt(directory)
    if len(entries) <= len(reports):
        raise RunFolderError(f"{path} ends with round {len(entries) - 1}, rounds.jsonl with {len(reports)}: restore it")
    for entry, report in zip(entries[1:], reports):
        number = report.round_num
        wanted = {
            "round_num": number,
            "outcome": report.outcome,
            "cohort_commitment": cohort_commitment(salt, number, report.selected, report.survivors),
            "aggregate_commitment": aggregate_commitment(salt, number, report.aggregate_sha256),
            "weights_sha256": report.weights_sha256,
            "epsilon": report.epsilon,
        }
        for name, value in wanted.items():
            if getattr(entry, name) != value:
                raise RunFolderError(f"{path}, entry {number}: {name} is not what rounds.jsonl says: one was changed")
