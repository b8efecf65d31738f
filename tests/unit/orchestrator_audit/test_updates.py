"""Whom an attack plays against."""

from __future__ import annotations

import numpy as np
import pytest

from models.client_data import ClientData
from models.corpus import ClientId, PeopleSplit
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.audit.updates import choose_people
from orchestrator.errors import RunFolderError


def data_of(num_sentences):
    """People p0, p1, ... with so many sentences each."""
    sentence = np.array([4], np.int32)
    train = {ClientId(f"p{i}"): (sentence,) * count for i, count in enumerate(num_sentences)}
    return ClientData(Vocabulary((*SPECIAL_WORDS, "see")), PeopleSplit(tuple(train), (), ()), train, {}, {}, ())


def test_targets_have_enough_sentences_and_everybody_else_is_the_crowd():
    people = choose_people(data_of([1, 9, 2, 30, 9, 1]), 0, 1, None, num_sentences=9, num_targets=3)
    assert set(people.targets) == {"p1", "p3", "p4"}
    assert set(people.crowd) == {"p0", "p2", "p5"}


def test_who_is_named_comes_first_however_little_there_is():
    people = choose_people(data_of([1, 9, 9, 9]), 0, 1, "p0", num_sentences=9, num_targets=2)
    assert people.targets[0] == "p0"
    assert len(people.targets) == 2


def test_the_draw_follows_the_seed_and_the_round():
    data = data_of([9] * 20)
    first, again, other_round, other_seed = (
        choose_people(data, seed, round_num, None, 9, 5) for seed, round_num in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert first == again
    assert first.targets not in (other_round.targets, other_seed.targets)


def test_a_stranger_can_not_be_attacked():
    with pytest.raises(RunFolderError, match="client zoe is no training person.*p0, p1, p2, p3, p4 and 2 more"):
        choose_people(data_of([1] * 7), 0, 1, "zoe", 9, 5)
