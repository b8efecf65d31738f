"""Defines the tree of prefixes that a vocabulary is read from, and what one client puts into it.

A node is the start of a word; a whole word is its letters and END. The first level holds every string of FIRST_LETTERS
letters (short words are padded with END). Each further level adds a letter to the prefixes that are still open. A
client chooses its words, and with them at most `max_nodes` nodes, once, before anything is known; they do not depend on
what is opened later. So all levels together are the coordinates of one vector, in which one person changes at most
max_nodes coordinates by one.

Source: a tree that many people's counts open level by level: Zhu, Kairouz, McMahan, Sun, Li 2020, "Federated Heavy
Hitters Discovery with Differential Privacy" (TrieHH); here with noise in place of its sampling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from orchestrator.errors import VocabularyDiscoveryError

END = "\n"  # no letter, since words hold no white space
FIRST_LETTERS = 3
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'.,:"


@dataclass(frozen=True)
class Level:
    """One level of the tree: open prefixes, each to be followed by any letter or END.

    >>> level = Level("ab", ("aab", "bbb"))
    >>> level.num_slots, level.slots({"aaba", "bbb" + END, "aaaa", "aab"}).tolist()
    (6, [1, 3])
    """

    letters: str
    prefixes: tuple[str, ...]  # empty: the first level
    _place: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if END in self.letters or len(set(self.letters)) < len(self.letters) or not self.letters:
            raise VocabularyDiscoveryError(
                f"letters must differ from each other and hold no line end, got {self.letters!r}"
            )
        symbols = END + self.letters
        if self.prefixes:
            place = {p + s: i * len(symbols) + j for i, p in enumerate(self.prefixes) for j, s in enumerate(symbols)}
        else:
            place = {node: i for i, node in enumerate(_first_nodes(self.letters))}
        object.__setattr__(self, "_place", place)

    @property
    def num_slots(self) -> int:
        """The length of a client's vector at this level."""
        return len(self._place)

    @property
    def depth(self) -> int:
        """The length of its open prefixes; 0 at the first level."""
        return len(self.prefixes[0]) if self.prefixes else 0

    @cached_property
    def nodes(self) -> Sequence[str]:
        """The node of each slot."""
        return tuple(self._place)

    def slots(self, nodes: Iterable[str]) -> NDArray[np.int64]:
        """Returns the slots, ascending, of a client's nodes that are at this level and below an open prefix."""
        return np.array(sorted(self._place[node] for node in nodes if node in self._place), np.int64)


def _first_nodes(letters: str) -> list[str]:
    """Returns all strings of FIRST_LETTERS letters, and the shorter ones padded with END."""
    starts = [""]
    nodes = []
    for length in range(1, FIRST_LETTERS + 1):
        starts = [start + letter for start in starts for letter in letters]
        nodes += [start + END * (FIRST_LETTERS - length) for start in starts]
    return nodes


def nodes_of(word: str) -> list[str]:
    """Returns a word's nodes, from the first level to its END.

    >>> nodes_of("i"), nodes_of("seen")
    (['i\\n\\n'], ['see', 'seen', 'seen\\n'])
    """
    if len(word) < FIRST_LETTERS:
        return [word + END * (FIRST_LETTERS - len(word))]
    return [word[:length] for length in range(FIRST_LETTERS, len(word) + 1)] + [word + END]


def choose_nodes(counts: Mapping[str, int], max_nodes: int) -> frozenset[str]:
    """Returns the nodes of a client's most used words, as many as max_nodes allows.

    Words that are used equally often come in the order of their hash. That order is the same for everybody: people who
    can't put in all their words then leave out the same ones.

    >>> sorted(choose_nodes({"see": 2, "seen": 1}, max_nodes=3))
    ['see', 'see\\n']
    """
    chosen: set[str] = set()
    for word in sorted(counts, key=lambda w: (-counts[w], hashlib.sha256(w.encode()).digest())):
        new = [node for node in nodes_of(word) if node not in chosen]
        if len(chosen) + len(new) <= max_nodes:
            chosen.update(new)
        if len(chosen) == max_nodes:
            break
    return frozenset(chosen)
