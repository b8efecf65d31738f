"""What a run has cost the person whom it has cost most, counted round by round; a tally for each kind of noise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from dp_accounting import DpEvent, GaussianDpEvent, SelfComposedDpEvent
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.privacy.sensitivity import banded_squared
from orchestrator.settings.noise_shape import Buffer


class Tally(Protocol):
    """Counts participations as far as a mechanism's cost depends on when they were."""

    def add(self, round_num: int, members: Sequence[ClientId]) -> None:
        """Adds a round's participants; where rounds share noise, rounds come in their order."""
        ...

    def copy(self) -> Tally:
        """Returns a tally that goes on independently of this one."""
        ...

    def event(self, noise_multiplier: float, most_participations: int) -> DpEvent:
        """Returns the event, at sensitivity 1, of the person whom the run has cost most; somebody took part."""
        ...


class IndependentTally:
    """Of noise that each round has for itself: only the number of participations counts."""

    def add(self, round_num: int, members: Sequence[ClientId]) -> None:
        """See Tally.add."""

    def copy(self) -> IndependentTally:
        """See Tally.copy."""
        return self

    def event(self, noise_multiplier: float, most_participations: int) -> DpEvent:
        """See Tally.event."""
        return SelfComposedDpEvent(GaussianDpEvent(noise_multiplier), most_participations)


class BandedTally:
    """Of noise under a banded matrix: participations lie a band apart or more, so their squares add up.

    Args:
      coefficients: the first column of the matrix [bands].
    """

    def __init__(self, coefficients: NDArray[np.float64]):
        self._coefficients = coefficients

    def add(self, round_num: int, members: Sequence[ClientId]) -> None:
        """See Tally.add."""

    def copy(self) -> BandedTally:
        """See Tally.copy."""
        return self

    def event(self, noise_multiplier: float, most_participations: int) -> DpEvent:
        """See Tally.event."""
        squared = banded_squared(self._coefficients, most_participations)
        return GaussianDpEvent(noise_multiplier / math.sqrt(squared))


class BufferedTally:
    """Of noise under a BLT: what a person moved each row by up to the last round, whatever its rounds were.

    All entries of the matrix are at least 0. So a person moves the rows most if all its updates point the same way, and
    a row then holds what it adds in this round and what the buffers keep of its rounds before.

    Args:
      buffers: of the BLT.
    """

    def __init__(self, buffers: Sequence[Buffer]):
        self._buffers = buffers
        self._places: dict[ClientId, int] = {}  # of the people, in the arrays below
        self._kept = np.zeros((len(buffers), 0))  # in each buffer, of each person's participations
        self._squares = np.zeros(0)  # of what each person moved the rows by
        self._num_rounds = 0  # rows

    def add(self, round_num: int, members: Sequence[ClientId]) -> None:
        """See Tally.add."""
        while self._num_rounds < round_num - 1:  # abandoned rounds: rows in which nobody takes part
            self._add_row(())
        self._add_row(members)

    def copy(self) -> BufferedTally:
        """See Tally.copy."""
        other = BufferedTally(self._buffers)
        other._places, other._kept, other._squares = self._places.copy(), self._kept, self._squares  # none is changed
        other._num_rounds = self._num_rounds
        return other

    def event(self, noise_multiplier: float, most_participations: int) -> DpEvent:
        """See Tally.event."""
        return GaussianDpEvent(noise_multiplier / math.sqrt(float(self._squares.max())))

    def _add_row(self, members: Sequence[ClientId]) -> None:
        for member in members:
            self._places.setdefault(member, len(self._places))
        num_new = len(self._places) - len(self._squares)
        kept, squares = np.pad(self._kept, ((0, 0), (0, num_new))), np.pad(self._squares, (0, num_new))
        row = np.zeros(len(squares))
        for member in members:
            row[self._places[member]] += 1.0
        takes_part = row.copy()
        for own, buffer in zip(kept, self._buffers):
            row += buffer.scale * own
            own *= buffer.decay
            own += takes_part
        self._kept, self._squares = kept, squares + np.square(row)
        self._num_rounds += 1


class TreeTally:
    """Of noise on the nodes of a tree: the squared count of a person's participations below each complete node."""

    def __init__(self) -> None:
        self._squares: Counter[ClientId] = Counter()  # squared counts over the complete nodes
        self._nodes: list[tuple[int, Counter[ClientId]]] = []  # the complete nodes, as the bits of the round
        self._num_rounds = 0  # leaves
        self._most = 0  # of the squares

    def add(self, round_num: int, members: Sequence[ClientId]) -> None:
        """See Tally.add."""
        while self._num_rounds < round_num - 1:  # abandoned rounds: leaves with nobody
            self._add_leaf(Counter())
        self._add_leaf(Counter(members))

    def copy(self) -> TreeTally:
        """See Tally.copy."""
        other = TreeTally()
        other._squares, other._nodes = self._squares.copy(), self._nodes.copy()  # a complete node never changes
        other._num_rounds, other._most = self._num_rounds, self._most
        return other

    def event(self, noise_multiplier: float, most_participations: int) -> DpEvent:
        """See Tally.event."""
        return GaussianDpEvent(noise_multiplier / math.sqrt(self._most))

    def _add_leaf(self, members: Counter[ClientId]) -> None:
        self._num_rounds += 1
        level, node = 0, members
        self._count(node)
        while self._nodes and self._nodes[-1][0] == level:
            node = node + self._nodes.pop()[1]
            level += 1
            self._count(node)
        self._nodes.append((level, node))

    def _count(self, node: Counter[ClientId]) -> None:
        for member, times in node.items():
            self._squares[member] += times**2
            self._most = max(self._most, self._squares[member])
