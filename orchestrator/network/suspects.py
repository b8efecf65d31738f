"""Finds out who spoils sums, by rounds with fewer and fewer suspects; no single upload is ever opened.

A ciphertext that is no encryption of a vector looks like any other, and so does a masked vector that no update encodes
to. It shows only when the sum is opened: the sum is lost, and nothing says whose it was. Its clients are then the
suspects of a *case*. The next rounds take half of them at most, with clients that are no suspects and were in a good
sum; in each sum that is spoiled some suspect is left out, so that fewer remain, and the last one is struck off. Every
round has fresh keys and at least its minimum of contributions, so what is opened is a sum like any other.

A good sum clears nobody, since a liar may send a good vector when it likes. A lone liar is in every sum that it spoils,
and so among the suspects to the end: whatever it does, nobody else is struck off. Two that work together can choose
sums that have an honest client in common.

A case ends without a culprit after as many good sums as it has suspects, and the next one after twice as many: a liar
that waits for whole cohorts spoils fewer and fewer rounds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Optional

import msgspec

from models.corpus import ClientId
from models.files import write_atomically
from orchestrator.errors import RunFolderError

_SCHEMA = 1
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Case(msgspec.Struct, forbid_unknown_fields=True):
    """Clients of whom one spoiled sums, in the order in which they are tried."""

    suspects: Annotated[list[ClientId], msgspec.Meta(min_length=2)]
    good_sums: _Count = 0  # with some of them, since the last that was spoiled


class _Page(msgspec.Struct, forbid_unknown_fields=True):
    """The file in which a server keeps what it knows; each field is an attribute of Suspects."""

    schema: int
    struck: list[ClientId] = []
    good: list[ClientId] = []
    cases: list[_Case] = []
    patience: Annotated[int, msgspec.Meta(ge=1)] = 1
    was_trial: bool = False
    num_vain: _Count = 0


class Suspects:
    """What a server knows about who spoils its sums.

    Args:
      path: of the file that keeps it, for the server's next process; None keeps it in memory.

    Raises:
      RunFolderError: the file is damaged or can't be read.

    >>> suspects = Suspects()
    >>> suspects.spoiled(["ann", "bob", "dan", "eve"])  # a sum of these could not be opened
    >>> suspects.candidates(["ann", "bob", "dan", "eve"], least=1)
    ['ann', 'bob']
    >>> suspects.summed(["ann", "bob"])
    >>> suspects.candidates(["ann", "bob", "dan", "eve"], least=1)
    ['dan', 'eve']
    >>> suspects.spoiled(["dan", "eve"])
    >>> suspects.candidates(["ann", "bob", "dan", "eve"], least=1)
    ['ann', 'bob', 'dan']
    >>> suspects.spoiled(["ann", "bob", "dan"])
    >>> suspects.struck
    {'dan'}
    """

    def __init__(self, path: Optional[Path] = None):
        self._path = path
        page = _Page(_SCHEMA) if path is None else _read(path)
        self.struck, self._good = set(page.struck), set(page.good)  # good: who was in a sum that could be opened
        self._cases = page.cases
        self._patience = page.patience  # good sums for each suspect, until a case ends without a culprit
        self._was_trial = page.was_trial  # whether the last sum had suspects
        self._num_vain = page.num_vain  # spoiled sums that told nothing

    def candidates(self, present: Sequence[ClientId], least: int) -> list[ClientId]:
        """Returns the clients present that the next round may take: at least `least`, if that many are allowed.

        While a spoiler is searched for, the round must take as many of them as it can.
        """
        self._cases = [case for case in self._cases if self.struck.isdisjoint(case.suspects)]
        allowed = [client for client in present if client not in self.struck]
        if not self._cases:
            return allowed
        suspects = {client for case in self._cases for client in case.suspects}
        others = [client for client in allowed if client not in suspects]
        good = [client for client in others if client in self._good]
        chosen = self._chosen(allowed, others, good, least) or self._window(allowed, least)
        return [client for client in present if client in chosen]

    def _chosen(
        self, allowed: Collection[ClientId], others: list[ClientId], good: list[ClientId], least: int
    ) -> list[ClientId]:
        """The next round's clients: suspects of one case with good ones, or those who are no suspects, in turn."""
        num_missing = max(1, least - len(good))
        here = [([client for client in case.suspects if client in allowed], len(case.suspects)) for case in self._cases]
        halves = [own[: max(1, num // 2)] for own, num in here]
        trials = [own for own in halves if len(own) >= num_missing]
        is_unproven = len(others) > len(good)  # without good ones a spoiled sum would not say that a suspect did it
        if is_unproven and len(others) >= least and (self._was_trial or not trials):
            return others
        # Where half of the suspects are too few for a sum, all but one still leave somebody out.
        trials += [own[:num_missing] for own, num in here if num_missing < num and num_missing <= len(own)]
        return trials[0] + good if trials else []

    def _window(self, allowed: list[ClientId], least: int) -> list[ClientId]:
        """Some clients, others after each vain round, where nobody is known to be good: a good sum makes them so."""
        start = self._num_vain % max(1, len(allowed))
        return (allowed[start:] + allowed[:start])[:least]

    def most_doubtful(self, members: Sequence[ClientId], num: int) -> list[ClientId]:
        """Returns `num` of the members, in their order, where not all can be summed: first those of no sum so far.

        >>> suspects = Suspects()
        >>> suspects.summed(["ann", "bob", "eve"])
        >>> suspects.most_doubtful(["ann", "bob", "dan", "eve"], 3)
        ['ann', 'bob', 'dan']
        """
        kept = sorted(members, key=lambda client: client in self._good)[:num]
        return [client for client in members if client in kept]

    def summed(self, members: Collection[ClientId]) -> None:
        """Records that a sum of these clients was opened."""
        self._good.update(members)
        self._was_trial = False
        for case in self._cases:
            tried = [client for client in case.suspects if client in members]
            if tried:
                self._was_trial = True
                case.suspects = [client for client in case.suspects if client not in members] + tried
                case.good_sums += 1
        ended = [case for case in self._cases if case.good_sums >= self._patience * len(case.suspects)]
        if ended:
            self._cases = [case for case in self._cases if case not in ended]
            self._patience *= 2
        self._keep()

    def strike(self, client_id: ClientId) -> None:
        """Records that another proof names a client."""
        self.struck.add(client_id)
        self._keep()

    def spoiled(self, members: Sequence[ClientId]) -> None:
        """Records that a sum of these clients could not be opened, or is none that honest clients can give."""
        self._search(members)
        self._keep()

    def _search(self, members: Sequence[ClientId]) -> None:
        known = [case for case in self._cases if not set(members).isdisjoint(case.suspects)]
        self._was_trial = bool(known)
        if not known:
            known = [_Case(sorted(members, key=lambda client: client in self._good))]
            self._cases += known
        elif len(known) > 1 or not self._good.union(known[0].suspects).issuperset(members):
            self._num_vain += 1  # somebody else may have done it
            return
        (case,) = known
        left = [client for client in case.suspects if client in members]
        self._num_vain += left == case.suspects
        case.suspects, case.good_sums = left, 0
        if len(case.suspects) == 1:
            self.struck.update(case.suspects)
            self._cases.remove(case)

    def _keep(self) -> None:
        """Writes what is known, at once: a kill of the server must wash nobody. Only its owner may read it."""
        if self._path is not None:
            struck, good = sorted(self.struck), sorted(self._good)
            page = _Page(_SCHEMA, struck, good, self._cases, self._patience, self._was_trial, self._num_vain)
            write_atomically(self._path, msgspec.json.format(msgspec.json.encode(page)) + b"\n", private=True)


def _read(path: Path) -> _Page:
    try:
        page = msgspec.json.decode(path.read_bytes(), type=_Page)
    except FileNotFoundError:
        return _Page(_SCHEMA)
    except OSError as error:
        raise RunFolderError(f"{path}: {error.strerror}: it says who is struck off; let it be read") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        page = _Page(0)
    if page.schema != _SCHEMA:
        raise RunFolderError(f"{path} is damaged: restore it, or remove it and so admit everybody again")
    return page
