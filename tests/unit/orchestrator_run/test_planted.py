"""Secret phrases are planted in people's text, and found again from the seed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.client_data import ClientData
from models.corpus import ClientId, PeopleSplit
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.errors import ConfigError
from orchestrator.run.planted import REPEATS, plant_phrases, planted_phrases, short_copy
from orchestrator.settings.files import read_config


def people(count=60):
    vocabulary = Vocabulary((*SPECIAL_WORDS, *(f"word{i}" for i in range(100))))
    train = {ClientId(f"p{i:02}"): (np.array([4, 5], np.int32),) * 3 for i in range(count)}
    return ClientData(vocabulary, PeopleSplit(tuple(train), (), ()), train, {}, {}, ())


def test_phrases_are_planted_as_often_as_they_say():
    config = read_config(overrides={"audit.phrases": 5})
    data = people()
    planted = planted_phrases(config, data)
    assert [sum(phrase.repeats == r for phrase in planted) for r in REPEATS] == [5, 5, 5]
    after = plant_phrases(config, data)
    for phrase in planted:
        own = after.train[phrase.client_id]
        assert sum(np.array_equal(sentence, phrase.words) for sentence in own) == phrase.repeats
        assert len(own) == 3 + phrase.repeats
    assert sum(map(len, after.train.values())) == 3 * 60 + 5 * sum(REPEATS)
    assert all(len(own) == 3 for own in data.train.values())


def test_phrases_are_off_by_default():
    data = people()
    assert plant_phrases(read_config(), data) is data


def test_phrases_that_would_be_cut_are_refused():
    with pytest.raises(ConfigError, match=r"audit\.phrase_words = 9, data\.max_words = 8"):
        read_config(overrides={"audit.phrases": 1, "audit.phrase_words": 9, "data.max_words": 8})


@pytest.mark.parametrize(
    ("preset", "rounds", "of_copy"),
    [("small", None, 300), ("smoke", None, 100), ("quality", None, 300), ("smoke", 60, 60), ("small", 800, 240)],
)
def test_a_short_copy_differs_in_phrases_and_rounds_alone(preset, rounds, of_copy):
    config = read_config(preset=preset, overrides={} if rounds is None else {"rounds.count": rounds})
    copy = short_copy(config, 8)
    assert (copy.rounds.count, copy.audit.phrases) == (of_copy, 8)
    same = {"rounds": config.rounds, "audit": config.audit}
    assert msgspec.structs.replace(copy, **same) == config
