"""A model's rows mixed with those of an n-gram model: what either says of a word, in two shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.interpolated_rows import InterpolatedRows
from models.ranks import Candidates, first_places
from models.vocabulary import UNK

MIXING_WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))  # that are tried
_LISTED_FROM = 0.005  # any probability serves; with a lower one, fewer rows are looked at whole


class Mixture:
    """A model's rows at some positions, to be mixed with those of an n-gram model.

    Args:
      probabilities: float32 [n, num_rows], the model's, of the first ids of the vocabulary. Each of the others has an
        equal share of <unk>'s, as in models.inference.over_vocabulary.
      counted: the n-gram model's, of all ids.
    """

    def __init__(self, probabilities: NDArray[np.float32], counted: InterpolatedRows):
        self._probabilities, self._counted = probabilities, counted
        self._of_missing = probabilities[:, UNK] / (counted.added.shape[1] - probabilities.shape[1] + 1)
        known, num_rows = counted.candidates(), probabilities.shape[1]
        # Of a flat array they are found three times as fast.
        listed = np.divmod(np.flatnonzero(probabilities.ravel() > _LISTED_FROM), num_rows)
        self._positions = np.concatenate([known.positions, listed[0]])
        self._ids = np.concatenate([known.ids, listed[1]])
        self._own = self._own_of(self._positions, self._ids)
        self._floor = np.concatenate([known.floor, counted.at_least(*listed)])
        self._rest, self._own_rest = known.rest, np.maximum(np.float32(_LISTED_FROM), self._of_missing)

    def places(
        self, weight: np.float32, other_weight: np.float32, targets: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns (the targets' ranks as models.ranks.first_places gives them, their probabilities), [n] each.

        Args:
          weight, other_weight: the shares of the model and of the n-gram model.
          targets: [n], ids of words.
        """

        def row(position: int) -> NDArray[np.float32]:
            counted = self._counted.row(position)
            own = self._own_of(np.array(position), np.arange(len(counted)))
            return weight * own + other_weight * counted

        own = self._own_of(np.arange(len(targets)), targets)
        of_target = weight * own + other_weight * self._counted.of(targets)
        candidates = Candidates(
            self._positions,
            self._ids,
            weight * self._own + other_weight * self._floor,
            weight * self._own_rest + other_weight * self._rest,
        )
        return first_places(candidates, targets, of_target, row), of_target

    def hits(self, targets: NDArray[np.integer]) -> NDArray[np.int64]:
        """Returns for each of MIXING_WEIGHTS, as the model's share, how many of the targets are proposed first.

        Args:
          targets: [n], ids of words.
        """
        shares = ((np.float32(weight), np.float32(1 - weight)) for weight in MIXING_WEIGHTS)
        return np.array([np.count_nonzero(self.places(*both, targets)[0] == 0) for both in shares], np.int64)

    def _own_of(self, positions: NDArray[np.integer], ids: NDArray[np.integer]) -> NDArray[np.float32]:
        is_missing = ids >= self._probabilities.shape[1]
        own = self._probabilities[positions, np.where(is_missing, UNK, ids)]
        return np.where(is_missing, self._of_missing[positions], own)
