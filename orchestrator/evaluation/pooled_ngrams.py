"""The n-gram models that a run is compared with: they saw all the training text in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.batches import build_batches
from models.client_data import Sentences
from models.corpus import ClientId
from models.metrics import PositionScores, score_positions, score_ranks
from models.modified_kneser_ney import build_modified_kneser_ney, previous_ids
from models.ngram import MAX_ORDER, build_kneser_ney
from models.ranks import rank_in
from models.vocabulary import NUM_SPECIAL
from orchestrator.evaluation.results import BASELINES, MODIFIED

_CONTEXT = max(MODIFIED) - 1  # ids that the longest n-grams look back


class Mixture(NamedTuple):
    """Another model's rows, mixed with those of a modified Kneser-Ney model.

    Attributes:
      rows: float32 [n, vocabulary_size], the other model's.
      weight: their share.
      order: of the n-gram.
    """

    rows: NDArray[np.float32]
    weight: float
    order: int


class PooledNgrams:
    """The baselines, counted from the pooled text of the training people.

    Args:
      pooled: their sentences.
      vocabulary_size: number of ids.
      time_steps: words of a sentence that are scored.
    """

    def __init__(self, pooled: Sentences, vocabulary_size: int, time_steps: int):
        self.vocabulary_size, self._time = vocabulary_size, time_steps
        self._trigram = build_kneser_ney(pooled, vocabulary_size)
        self._modified = build_modified_kneser_ney(pooled, vocabulary_size, max(MODIFIED))

    def contexts(self, tokens: NDArray[np.integer]) -> NDArray[np.int32]:
        """Returns the ids before each position of the model's input, as the other methods take them."""
        return previous_ids(tokens, _CONTEXT)

    def best_order(self, people: Mapping[ClientId, Sentences]) -> int:
        """Returns the order of the modified Kneser-Ney model with the highest pooled top-1 recall on these people."""
        hits = dict.fromkeys(MODIFIED, 0)
        for contexts, targets in self._positions(people):
            after = self._modified.after(contexts)
            for order in MODIFIED:
                hits[order] += int(np.count_nonzero(ranked(after.rows(order), targets)[0] == 0))
        return max(hits, key=lambda order: hits[order])

    def rows(self, contexts: NDArray[np.integer], order: int) -> Iterator[NDArray[np.float32]]:
        """Yields the modified Kneser-Ney model's p(next id | context), each [vocabulary_size] in the same memory."""
        return self._modified.after(contexts).rows(order)

    def score(
        self,
        contexts: NDArray[np.integer],
        targets: NDArray[np.integer],
        person: NDArray[np.integer],
        mixtures: Mapping[str, Mixture],
    ) -> Iterator[tuple[str, PositionScores]]:
        """Yields (name, how each position went) for every baseline, by the names of results.NGRAMS, and every mixture.

        Args:
          contexts: [n, ids], before each position.
          targets: [n], ids of words.
          person: [n], see models.metrics.score_positions.
          mixtures: {name: how another model's rows are mixed with a baseline's}.
        """
        for order, name in enumerate(BASELINES, 1):
            # What is asked twice in one chunk is worked out once.
            ids = (*contexts[:, _CONTEXT + 1 - order :].T, targets)
            packed = np.ravel_multi_index(ids, [self.vocabulary_size] * order)
            _, at, inverse = np.unique(packed, return_index=True, return_inverse=True)
            rows = self._trigram.probabilities(contexts[at][:, 1 - MAX_ORDER :], order)
            once = score_positions(rows, targets[at], person[at])
            yield (
                name,
                PositionScores(once.hit1[inverse], once.hit3[inverse], once.nll_nats[inverse], person.astype(np.int64)),
            )
        after = self._modified.after(contexts)
        for order, name in MODIFIED.items():
            yield name, score_ranks(*ranked(after.rows(order), targets), person)
        for name, mixture in mixtures.items():
            weight, counted = np.float32(mixture.weight), after.rows(mixture.order)
            mixed = (weight * own + (1 - weight) * other for own, other in zip(mixture.rows, counted))
            yield name, score_ranks(*ranked(mixed, targets), person)

    def _positions(self, people: Mapping[ClientId, Sentences]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Yields (contexts [n, _CONTEXT], targets [n]) of the words that are scored."""
        for sentences in people.values():
            for tokens, targets, mask in zip(*build_batches(sentences, batch_size=128, time=self._time)):
                scored = (mask > 0) & (targets >= NUM_SPECIAL)
                if scored.any():
                    yield self.contexts(tokens)[scored], targets[scored]


def ranked(
    rows: Iterator[NDArray[np.float32]], targets: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns (the rank of each target in its row, its probability), [n] each."""
    ranks, chances = np.empty(len(targets), np.int64), np.empty(len(targets), np.float32)
    for position, (row, target) in enumerate(zip(rows, targets)):
        ranks[position], chances[position] = rank_in(row, target), row[target]
    return ranks, chances
