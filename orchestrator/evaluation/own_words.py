"""The cache: the best pooled n-gram, mixed with a bigram of a person's own earlier text. No training takes part.

It is the baseline of a fine-tuned model: what is gained by merely remembering what a person has typed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.client_data import Sentences
from models.corpus import ClientId
from models.metrics import ClientSums, PositionScores, score_ranks
from models.ngram import MAX_ORDER, build_kneser_ney
from models.vocabulary import UNK
from orchestrator.evaluation.mixture import MIXING_WEIGHTS, Mixture
from orchestrator.evaluation.pooled_ngrams import PooledNgrams

HELD_OUT_SHARE = 0.2
_OWN_ORDER = 2


def split_text(sentences: Sequence[NDArray[np.integer]]) -> tuple[Sentences, Sentences]:
    """Returns (the earlier sentences, to learn from; the later fifth, at least one, to score).

    >>> tuple(map(len, split_text([np.array([4])] * 21)))
    (17, 4)
    """
    cut = len(sentences) - max(1, round(HELD_OUT_SHARE * len(sentences)))
    return tuple(sentences[:cut]), tuple(sentences[cut:])


class _Chunk(NamedTuple):
    """Positions of one person's later text."""

    person: int
    targets: NDArray[np.int32]
    mixture: Mixture  # of the person's own bigram, and the pooled n-gram


@dataclass(frozen=True)
class Cache:
    """Mixes the pooled n-gram of an order with each person's own words."""

    ngrams: PooledNgrams
    order: int

    def best_share(self, texts: Mapping[ClientId, Sentences]) -> float:
        """Returns the share of a person's own words that gives the highest pooled top-1 recall on these texts."""
        hits = np.zeros(len(MIXING_WEIGHTS), np.int64)
        for chunk in self._chunks(texts):
            hits += chunk.mixture.hits(chunk.targets)
        return MIXING_WEIGHTS[int(hits.argmax())]

    def sums(self, texts: Mapping[ClientId, Sentences], share: float) -> ClientSums:
        """Returns the sums per person over the later text, with this share of the person's own words."""
        parts, weight = [], np.float32(share)
        for chunk in self._chunks(texts):
            places = chunk.mixture.places(weight, 1 - weight, chunk.targets)
            parts.append(score_ranks(*places, np.full(len(chunk.targets), chunk.person)))
        later = [split_text(own)[1] for own in texts.values()]
        oov = [sum(int(np.sum(s[: self.ngrams.time_steps] == UNK)) for s in own) for own in later]
        return PositionScores.join(parts).client_sums(len(texts), np.array(oov))

    def _chunks(self, texts: Mapping[ClientId, Sentences]) -> Iterator[_Chunk]:
        for person, sentences in enumerate(texts.values()):
            earlier, later = split_text(sentences)
            own = build_kneser_ney(earlier, self.ngrams.vocabulary_size, order=_OWN_ORDER)
            for contexts, targets in self.ngrams.positions([later]):
                rows = own.probabilities(contexts[:, 1 - MAX_ORDER :])
                yield _Chunk(person, targets, Mixture(rows, self.ngrams.after(contexts).rows(self.order)))
