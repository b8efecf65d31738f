"""The n-gram models that a run is compared with: they saw all the training text in one place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from models.batches import build_batches
from models.client_data import Sentences
from models.corpus import ClientId
from models.metrics import PositionScores, score_ranks
from models.modified_kneser_ney import Continuations, build_modified_kneser_ney, previous_ids
from models.ngram import MAX_ORDER, build_kneser_ney
from models.vocabulary import NUM_SPECIAL
from orchestrator.evaluation.results import BASELINES, MODIFIED

_CONTEXT = max(MODIFIED) - 1  # ids that the longest n-grams look back


class PooledNgrams:
    """The baselines, counted from the pooled text of the training people.

    Args:
      pooled: their sentences.
      vocabulary_size: number of ids.
      time_steps: words of a sentence that are scored.
    """

    def __init__(self, pooled: Sentences, vocabulary_size: int, time_steps: int):
        self.vocabulary_size, self.time_steps = vocabulary_size, time_steps
        self._trigram = build_kneser_ney(pooled, vocabulary_size)
        self._modified = build_modified_kneser_ney(pooled, vocabulary_size, max(MODIFIED))

    def contexts(self, tokens: NDArray[np.integer]) -> NDArray[np.int32]:
        """Returns the ids before each position of the model's input, as the other methods take them."""
        return previous_ids(tokens, _CONTEXT)

    def best_order(self, people: Mapping[ClientId, Sentences]) -> int:
        """Returns the order of the modified Kneser-Ney model with the highest pooled top-1 recall on these people."""
        hits = dict.fromkeys(MODIFIED, 0)
        for contexts, targets in self.positions(people.values()):
            after = self.after(contexts)
            for order in MODIFIED:
                hits[order] += int(np.count_nonzero(after.rows(order).places(targets)[0] == 0))
        return max(hits, key=lambda order: hits[order])

    def after(self, contexts: NDArray[np.integer]) -> Continuations:
        """Returns what the modified Kneser-Ney models say after these contexts: many rows, to be asked for once."""
        return self._modified.after(contexts)

    def score(
        self,
        contexts: NDArray[np.integer],
        after: Continuations,
        targets: NDArray[np.integer],
        person: NDArray[np.integer],
    ) -> Iterator[tuple[str, PositionScores]]:
        """Yields (name, how each position went) for every baseline, by the names of results.NGRAMS.

        Args:
          contexts: [n, ids], before each position.
          after: of these contexts.
          targets: [n], ids of words.
          person: [n], see models.metrics.score_positions.
        """
        for order, name in enumerate(BASELINES, 1):
            rows = self._trigram.rows(contexts[:, 1 - MAX_ORDER :], order)
            yield name, score_ranks(*rows.places(targets), person)
        for order, name in MODIFIED.items():
            yield name, score_ranks(*after.rows(order).places(targets), person)

    def positions(self, texts: Iterable[Sentences]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Yields (contexts [n, ids], targets [n]) of the words of people's texts that are scored."""
        for sentences in texts:
            for tokens, targets, mask in zip(*build_batches(sentences, batch_size=128, time=self.time_steps)):
                scored = (mask > 0) & (targets >= NUM_SPECIAL)
                if scored.any():
                    yield self.contexts(tokens)[scored], targets[scored]
