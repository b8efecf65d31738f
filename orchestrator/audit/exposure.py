"""Secret phrases planted in people's text, and how well the finished model remembers them.

A phrase is random words of the model's vocabulary; nothing but having seen it makes it likelier than another such
phrase. Its exposure is how far it ranks up among so many others that nobody typed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.client_data import ClientData
from models.corpus import ClientId
from models.vocabulary import NUM_SPECIAL
from orchestrator.config import RunConfig
from orchestrator.seeds import Purpose, simulation_rng

REPEATS = (1, 4, 16)


@dataclass(frozen=True)
class Phrase:
    """A planted phrase."""

    words: NDArray[np.int32]  # ids
    client_id: ClientId  # who typed it
    repeats: int  # how often


def planted_phrases(config: RunConfig, data: ClientData) -> tuple[Phrase, ...]:
    """The phrases of a run: a function of its seed, so that an audit finds them again."""
    people = tuple(data.train)
    rng = simulation_rng(config.seed, Purpose.PHRASES)
    words = draw_phrases(config, data, len(REPEATS) * config.audit.phrases, rng)
    owners = rng.choice(len(people), len(words), replace=len(words) > len(people))
    repeats = np.repeat(REPEATS, config.audit.phrases)
    return tuple(Phrase(phrase, people[owner], int(count)) for phrase, owner, count in zip(words, owners, repeats))


def draw_phrases(config: RunConfig, data: ClientData, count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Random phrases, int32 [count, words]; every word of the model is equally likely."""
    num_rows = min(config.model.vocabulary_size, data.vocabulary.size)
    return rng.integers(NUM_SPECIAL, num_rows, (count, config.audit.phrase_words), np.int32)


def plant_phrases(config: RunConfig, data: ClientData) -> ClientData:
    """The data with the run's phrases among their people's sentences, at random places."""
    if not config.audit.phrases:
        return data
    train = dict(data.train)
    for number, phrase in enumerate(planted_phrases(config, data)):
        rng = simulation_rng(config.seed, Purpose.PHRASES, number + 1)
        most = max(0, config.data.max_sentences_train - phrase.repeats)  # nobody gets more than the text's cap
        sentences = list(train[phrase.client_id])[:most]
        for _ in range(phrase.repeats):
            sentences.insert(int(rng.integers(len(sentences) + 1)), phrase.words)
        train[phrase.client_id] = tuple(sentences)
    return replace(data, train=train)


def exposure(loss: float, reference_losses: Sequence[float]) -> float:
    """How far a phrase ranks up, in bits: log2(phrases) - log2(its rank among them).

    0 is the last place, log2(len(reference_losses) + 1) the first, and the mean over phrases that nobody typed 1.44.
    Ties rank behind.

    Args:
      loss: of the planted phrase.
      reference_losses: of phrases from the same distribution that nobody typed.

    Source: Carlini et al. 2019, https://arxiv.org/abs/1802.08232, definition 2, on a sample of the space.

    >>> exposure(1.0, [2.0] * 7), exposure(3.0, [2.0] * 7), exposure(2.5, [2.0] * 3 + [3.0] * 4)
    (3.0, 0.0, 1.0)
    """
    rank = 1 + sum(other <= loss for other in reference_losses)
    return math.log2(len(reference_losses) + 1) - math.log2(rank)
