"""Finds out who spoils sums, by rounds with fewer and fewer suspects; no single upload is ever opened.

A ciphertext that is no encryption of a vector looks like any other, and so does a masked vector that no update encodes
to. It shows only when the sum is opened: the sum is lost, and nothing says whose it was. After such a round its clients
are split into two halves, and the next round takes one half with the clients that are known to be good (group testing
by binary splitting). A half that sums well is good; a half that does not is split again; a single client that spoils
its sum is struck off. Every round has fresh keys and at least its minimum of contributions, so what is opened is a sum
like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from models.corpus import ClientId


class Suspects:
    """What a server knows about who spoils its sums; it ends with the server's process.

    Callers may add to `struck` the clients that another proof names.

    >>> suspects = Suspects()
    >>> suspects.spoiled(["ann", "bob", "eve"])  # a sum of these could not be opened
    >>> suspects.candidates(["ann", "bob", "eve"], least=1)
    ['ann']
    >>> suspects.summed(["ann"])
    >>> suspects.candidates(["ann", "bob", "eve"], least=1)
    ['ann', 'bob', 'eve']
    >>> suspects.spoiled(["ann", "bob", "eve"])
    >>> suspects.candidates(["ann", "bob", "eve"], least=1)
    ['ann', 'bob']
    >>> suspects.spoiled(["ann", "bob"])
    >>> suspects.struck
    {'bob'}
    """

    def __init__(self) -> None:
        self.struck: set[ClientId] = set()
        self._good: set[ClientId] = set()
        self._groups: list[list[ClientId]] = []  # each to be tried without the others

    def candidates(self, present: Sequence[ClientId], least: int) -> list[ClientId]:
        """Returns the clients present that the next round may take: at least `least`, if that many are allowed.

        While a spoiler is searched for, the round must take as many of them as it can.
        """
        waiting = {client for group in self._groups for client in group}
        allowed = [client for client in present if client not in waiting and client not in self.struck]
        is_tried = False
        for group in self._groups:
            if is_tried and len(allowed) >= least:
                break
            here = [client for client in present if client in group]
            is_tried = is_tried or bool(here)
            allowed += here
        return [client for client in present if client in allowed]

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
        self._forget(members)

    def spoiled(self, members: Sequence[ClientId]) -> None:
        """Records that a sum of these clients could not be opened, or is none that honest clients can give."""
        doubtful = [client for client in members if client not in self._good]
        if not doubtful:  # one who was good before has begun to spoil
            self._good.clear()
            doubtful = list(members)
        self._forget(doubtful)
        if len(doubtful) == 1:
            self.struck.update(doubtful)
            return
        half = len(doubtful) // 2
        self._groups += [doubtful[:half], doubtful[half:]]  # last: the sooner there are good ones to go with

    def _forget(self, members: Collection[ClientId]) -> None:
        rest = ([client for client in group if client not in members] for group in self._groups)
        self._groups = [group for group in rest if group]
