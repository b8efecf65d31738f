"""Secret phrases that an audit plants in people's text before training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.client_data import ClientData
from models.corpus import ClientId
from models.vocabulary import NUM_SPECIAL
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.settings.run_config import RunConfig

REPEATS = (1, 4, 16)
_SHORT, _SHARE, _FEWEST = 300, 0.3, 100  # rounds of a short copy: at most, of the run's, at least


@dataclass(frozen=True)
class Phrase:
    """A planted phrase."""

    words: NDArray[np.int32]  # ids
    client_id: ClientId  # who typed it
    repeats: int  # how often


def short_copy(config: RunConfig, phrases: int) -> RunConfig:
    """Returns the settings of a copy of a run that has phrases in its text and takes a fraction of the run's time.

    Args:
      config: of the run; without differential privacy, under which fewer rounds get another noise.
      phrases: how many are typed once, 4 times and 16 times.
    """
    count = config.rounds.count
    rounds = msgspec.structs.replace(config.rounds, count=min(count, _SHORT, max(_FEWEST, round(_SHARE * count))))
    audit = msgspec.structs.replace(config.audit, phrases=phrases)
    return msgspec.structs.replace(config, rounds=rounds, audit=audit)


def planted_phrases(config: RunConfig, data: ClientData) -> tuple[Phrase, ...]:
    """Returns a run's phrases, which depend only on its seed, so that an audit finds them again."""
    people = data.roster
    rng = simulation_rng(config.seed, Purpose.PHRASES)
    words = draw_phrases(config, data, len(REPEATS) * config.audit.phrases, rng)
    owners = rng.choice(len(people), len(words), replace=len(words) > len(people))
    repeats = np.repeat(REPEATS, config.audit.phrases)
    return tuple(Phrase(phrase, people[owner], int(count)) for phrase, owner, count in zip(words, owners, repeats))


def draw_phrases(config: RunConfig, data: ClientData, count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Returns random phrases, int32 [count, words]; every word of the model is equally likely."""
    num_rows = min(config.model.vocabulary_size, data.vocabulary.size)
    return rng.integers(NUM_SPECIAL, num_rows, (count, config.audit.phrase_words), np.int32)


def plant_phrases(config: RunConfig, data: ClientData) -> ClientData:
    """Returns the data with the run's phrases among their people's sentences, at random places."""
    if not config.audit.phrases:
        return data
    train = dict(data.train)
    for number, phrase in enumerate(planted_phrases(config, data)):
        if phrase.client_id not in train:
            continue  # forgotten
        rng = simulation_rng(config.seed, Purpose.PHRASES, number + 1)
        most = max(0, config.data.max_sentences_train - phrase.repeats)  # nobody gets more than the text's cap
        sentences = list(train[phrase.client_id])[:most]
        for _ in range(phrase.repeats):
            sentences.insert(int(rng.integers(len(sentences) + 1)), phrase.words)
        train[phrase.client_id] = tuple(sentences)
    return replace(data, train=train)
