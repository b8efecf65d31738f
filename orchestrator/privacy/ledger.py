"""The privacy ledger of a run, DIR/privacy_ledger.jsonl: what is charged is on disk before anything is released.

The first line says what is charged for: mechanism, noise, population, the commitment to the noise's seed. Then a line a
charge: the round, who took part, a keyed digest of the sum, and the dp_accounting event of the whole run up to there,
for the person whom it has cost most. What clients noise is charged before there is a sum; a line without participants
then binds the charge to it. A line is never taken back: not by a crash, not by a resume.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import msgspec

from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.aggregator import Cohort
from orchestrator.errors import PrivacyStop, RunFolderError
from orchestrator.privacy.accounting import Cost, cost_of, event_from_json, event_to_json
from orchestrator.privacy.participation import History
from orchestrator.settings.kinds import MECHANISM_TRAITS, kind_of
from orchestrator.settings.noise_shape import NoiseShape, read_buffers

LEDGER_FILE = "privacy_ledger.jsonl"


class LedgerHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a ledger charges for."""

    mechanism: str
    noise_multiplier: float
    clip_norm: float
    population: int
    delta: float
    budget: float  # epsilon at that delta; 0 = none
    separation: int
    bands: int
    noise_commitment: str
    buffers: str = ""  # as the setting; of a blt

    @property
    def is_gaussian(self) -> bool:
        """False for the discrete Gaussian's sums, of which only zCDP is known."""
        return kind_of(MECHANISM_TRAITS, "privacy.mechanism", self.mechanism).is_gaussian

    @property
    def shape(self) -> NoiseShape:
        """What shapes the noise that rounds share."""
        return NoiseShape(self.bands, read_buffers(self.buffers))

    def new_history(self) -> History:
        """Returns a history without participations."""
        return History(self.mechanism, self.noise_multiplier, self.separation, self.shape)

    def cost_of(self, history: History) -> Cost:
        """Returns what a history has cost the person whom it has cost most."""
        return cost_of(history.event(), self.is_gaussian)


class Charge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the ledger."""

    round_num: int
    participants: tuple[str, ...]  # empty: charges nothing, and binds the charge before to a sum
    event: dict  # of the run up to here, see accounting.event_to_json
    sum_digest: str = ""  # of what is released for it, under a key; empty where it is charged before there is a sum


class Ledger:
    """An open ledger; one process has it, under the run folder's lock.

    Args:
      directory: of the run; a file that is there is read back and gone on with.
      head: what is charged for.

    Raises:
      RunFolderError: the file is damaged or of another run.
      PrivacyStop: it holds an event that the accountant does not know.
    """

    def __init__(self, directory: Path, head: LedgerHead):
        self.head = head
        self._path = Path(directory) / LEDGER_FILE
        self._history = head.new_history()
        self._digests: dict[int, set[str]] = {}
        self._costs: dict[int, Cost] = {}  # by then, of each round's last charge
        if not self._path.exists():
            write_atomically(self._path, msgspec.json.encode(head) + b"\n", private=True)
            _sync(self._path.parent)
            return
        found, charges = read_ledger(directory)
        if found != head:
            raise RunFolderError(f"{self._path} was begun with other settings of privacy: name another folder")
        self._history = history_of(head, charges)
        for charge in charges:
            self._digests.setdefault(charge.round_num, set()).add(charge.sum_digest)
            if charge.participants:
                self._costs[charge.round_num] = cost_of(event_from_json(charge.event), head.is_gaussian)
        self._end_cut_line()

    def check(self, cohort: Cohort) -> None:
        """Checks before anyone trains that a round of these people may be charged.

        Raises:
          PrivacyStop: it would exceed the budget, or someone took part too recently.
        """
        if cohort.round_num <= self._history.last_round:
            return  # a resume: what was charged stands, what was abandoned will be; else the release decides
        self._history.require_apart(cohort)
        if self.head.budget:
            self._require_budget(cohort.round_num, self._history.after(cohort.round_num, cohort.members))

    def is_charged(self, round_num: int, sum_digest: Optional[str] = None) -> bool:
        """True if a round was charged: for this very sum, or for any."""
        digests = self._digests.get(round_num, set())
        return bool(digests) if sum_digest is None else sum_digest in digests

    def has_sum(self, round_num: int) -> bool:
        """True if a round was charged for a sum that is known."""
        return any(self._digests.get(round_num, ()))

    def charge(self, round_num: int, participants: Sequence[ClientId], sum_digest: str = "") -> None:
        """Charges a round; when it returns, the charge is on disk.

        Raises:
          PrivacyStop: it would exceed the budget.
        """
        history = self._history.after(round_num, participants)
        self._require_budget(round_num, history)
        self._append(Charge(round_num, tuple(participants), event_to_json(history.event()), sum_digest))
        self._history = history
        self._costs[round_num] = self.head.cost_of(history)
        self._digests.setdefault(round_num, set()).add(sum_digest)

    def bind(self, round_num: int, sum_digest: str) -> None:
        """Says which sum a round was charged for, so that the same sum is free in a resume."""
        self._append(Charge(round_num, (), event_to_json(self._history.event()), sum_digest))
        self._digests.setdefault(round_num, set()).add(sum_digest)

    def epsilon(self, round_num: Optional[int] = None) -> float:
        """Returns the epsilon, at the head's delta, of the person whom the run has cost most.

        Args:
          round_num: what had been charged by its last charge counts, so that a resumed round says what it said before;
            None counts all charges.
        """
        cost = self._costs.get(round_num) if round_num is not None else None
        return (cost or self.head.cost_of(self._history)).epsilon(self.head.delta)

    def _require_budget(self, round_num: int, history: History) -> None:
        budget = self.head.budget
        epsilon = self.head.cost_of(history).epsilon(self.head.delta)
        if budget and epsilon > budget:
            raise PrivacyStop(
                f"round {round_num} would bring epsilon to {epsilon:.3f} at delta "
                f"{self.head.delta:.1e}, and privacy.epsilon = {budget:g}: the budget is spent, the model of the last "
                "round stands"
            )

    def _append(self, line: msgspec.Struct) -> None:
        with open(self._path, "ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _end_cut_line(self) -> None:
        """Ends a line that a kill cut off: nothing was released for it, since its charge never returned."""
        whole = self._path.read_bytes()
        if whole.endswith(b"\n"):
            return
        with open(self._path, "rb+") as file:
            file.truncate(whole.rfind(b"\n") + 1)
            os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Waits until the names in a directory are on disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def history_of(head: LedgerHead, charges: Sequence[Charge]) -> History:
    """Returns the participations that were charged.

    Raises:
      RunFolderError: a charge's event does not follow from the charges before it.
    """
    history = head.new_history()
    for charge in charges:
        if charge.participants:
            history.add(charge.round_num, [ClientId(name) for name in charge.participants])
        if event_to_json(history.event()) != charge.event:
            raise RunFolderError(
                f"{LEDGER_FILE}: the charge of round {charge.round_num} does not follow from those before: restore it"
            )
    return history


def read_ledger(directory: Path) -> tuple[LedgerHead, list[Charge]]:
    """Returns the head and the charges of a run's ledger, oldest first; a last line that a kill cut off is passed over.

    Raises:
      RunFolderError: there is none, or it is damaged.
      PrivacyStop: it holds an event that the accountant does not know.
    """
    path = Path(directory) / LEDGER_FILE
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line's end was cut off
    except OSError:
        raise RunFolderError(f"{path} is missing: the run has no differential privacy, or its ledger is lost") from None
    try:
        head = msgspec.json.decode(lines[0], type=LedgerHead)
        charges = [msgspec.json.decode(line, type=Charge) for line in lines[1:]]
    except (IndexError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}): restore it; without it no epsilon can be told") from None
    for charge in charges:
        event_from_json(charge.event)
    return head, charges


def take_over(source: Path, target: Path, without: ClientId) -> None:
    """Copies a ledger into another folder, less one person: what the others were charged stays spent.

    Raises: as read_ledger.
    """
    head, charges = read_ledger(source)
    history, lines = head.new_history(), [msgspec.json.encode(head)]
    for charge in charges:
        left = tuple(name for name in charge.participants if name != without)
        if left:
            history.add(charge.round_num, [ClientId(name) for name in left])
        own = msgspec.structs.replace(charge, participants=left, event=event_to_json(history.event()))
        lines.append(msgspec.json.encode(own))
    write_atomically(Path(target) / LEDGER_FILE, b"\n".join((*lines, b"")), private=True)


def epsilon_by_round(directory: Path) -> dict[int, float]:
    """Returns, by round, the epsilon of all that a run had been charged for by then; {} without a ledger.

    Raises: as epsilon_spent.
    """
    if not (Path(directory) / LEDGER_FILE).exists():
        return {}
    head, charges = read_ledger(directory)
    history_of(head, charges)  # each event follows from the participants
    costs = ((charge.round_num, cost_of(event_from_json(charge.event), head.is_gaussian)) for charge in charges)
    return {round_num: cost.epsilon(head.delta) for round_num, cost in costs}


def epsilon_spent(directory: Path) -> Optional[float]:
    """Returns the epsilon of all that a run was charged for, at its delta; None if it has no ledger.

    Rounds that were abandoned or cut off after their charge count. No line of rounds.jsonl says so much.

    Raises:
      RunFolderError: the ledger is damaged.
      PrivacyStop: it holds an event that the accountant does not know.
    """
    return epsilon_of((directory,)) if (Path(directory) / LEDGER_FILE).exists() else None


def epsilon_of(directories: Sequence[Path], beside_zcdp: float = 0.0) -> float:
    """The epsilon of all that some runs were charged for together, at the largest of their deltas.

    For several runs an upper bound: it adds what each has cost the person whom it has cost most.

    Args:
      directories: of the runs.
      beside_zcdp: rho of Gaussian releases that are on no ledger of theirs.

    Raises: as read_ledger.
    """
    ledgers = [read_ledger(directory) for directory in directories]
    zcdp = beside_zcdp + sum(head.cost_of(history_of(head, charges)).zcdp for head, charges in ledgers)
    is_gaussian = all(head.is_gaussian for head, _ in ledgers)
    return Cost(zcdp, is_gaussian).epsilon(max(head.delta for head, _ in ledgers))
