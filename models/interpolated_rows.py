"""Rows of probabilities as n-gram models give them: a share of a shorter context's row, and what a longer one adds.

Few words of a row can be among the first three: those that something was added to, and the likeliest of the shorter
context. `InterpolatedRows.candidates` lists them, so that most rows need not be written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.ranks import Candidates, first_places
from models.vocabulary import NUM_SPECIAL

_LISTED = 8  # any number from 3 on serves; with more, fewer ties make somebody look at whole rows


class Likeliest(NamedTuple):
    """The likeliest words of some rows; an attribute's first axis is that of the rows."""

    ids: NDArray[np.int32]  # [rows, 2 * _LISTED]; a word may stand there twice
    bound: NDArray[np.float32]  # [rows]; no other word is likelier

    def of(self, rows: NDArray[np.integer]) -> Likeliest:
        """Returns those of some of the rows."""
        return Likeliest(self.ids[rows], self.bound[rows])


def list_likeliest(general: NDArray[np.float32], left_over: NDArray[np.float32], seen: sparse.csr_matrix) -> Likeliest:
    """Returns the likeliest words of the rows `general * left_over + seen`: the first of both parts.

    Args:
      general: [vocabulary_size], the row of the shortest context.
      left_over: [rows], in 0..1.
      seen: float32 [rows, vocabulary_size], from 0.
    """
    first = np.argsort(-general[NUM_SPECIAL:], kind="stable")[:_LISTED] + NUM_SPECIAL
    ids = np.tile(np.resize(first, 2 * _LISTED), (len(left_over), 1)).astype(np.int32)
    bound = left_over * general[first[-1]]
    rows, words = np.repeat(np.arange(len(left_over)), np.diff(seen.indptr)), seen.indices
    values = left_over[rows] * general[words] + seen.data
    order = np.lexsort((-values, rows))
    order = order[words[order] >= NUM_SPECIAL]
    rows, words, values = rows[order], words[order], values[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    is_listed, is_last = place < _LISTED, place == _LISTED - 1
    ids[rows[is_listed], place[is_listed]] = words[is_listed]
    bound[rows[is_last]] = np.maximum(bound[rows[is_last]], values[is_last])
    return Likeliest(ids, bound)


@dataclass(frozen=True)
class InterpolatedRows:
    """The rows p(next id | context) of some positions: `shorter[shorter_of] * share + added`, in float32."""

    shorter: NDArray[np.float32]  # [distinct, vocabulary_size], the rows of the shorter contexts
    shorter_of: NDArray[np.int64]  # [n], a position's
    likeliest: Likeliest  # of the shorter contexts' rows
    share: NDArray[np.float32]  # [n], in 0..1
    added: sparse.csr_matrix  # [n, vocabulary_size], from 0

    def row(self, position: int) -> NDArray[np.float32]:
        """Returns the row of a position, [vocabulary_size]."""
        row = self.shorter[self.shorter_of[position]] * self.share[position]
        stored = slice(*self.added.indptr[position : position + 2])
        row[self.added.indices[stored]] += self.added.data[stored]
        return row

    def dense(self) -> NDArray[np.float32]:
        """Returns all rows, [n, vocabulary_size]."""
        return np.stack([self.row(position) for position in range(len(self.share))])

    def places(self, targets: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns (the targets' ranks as models.ranks.first_places gives them, their probabilities), [n] each.

        Args:
          targets: [n], ids of words.
        """
        of_target = self.of(targets)
        return first_places(self.candidates(), targets, of_target, self.row), of_target

    def of(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Returns the probability of one id at each position, [n]."""
        positions = np.arange(len(self.share))
        return self.at_least(positions, ids) + np.asarray(self.added[positions, ids]).ravel()

    def at_least(self, positions: NDArray[np.integer], ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Returns what ids have without what was added to them: all that they have, where nothing was."""
        return self.shorter[self.shorter_of[positions], ids] * self.share[positions]

    def candidates(self) -> Candidates:
        """Returns the words of which the first three are at each position."""
        places, listed = np.arange(len(self.share)), self.likeliest.ids[self.shorter_of]
        positions = np.concatenate([np.repeat(places, np.diff(self.added.indptr)), places.repeat(listed.shape[1])])
        ids = np.concatenate([self.added.indices, listed.ravel()])
        floor = self.at_least(positions, ids)
        floor[: self.added.nnz] += self.added.data
        return Candidates(positions, ids, floor, self.likeliest.bound[self.shorter_of] * self.share)
