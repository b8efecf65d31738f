"""Who trains, who picks and who tests."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.corpus import (
    ClientId,
    split_people,
)
from models.errors import CorpusError


def people(count):
    return [ClientId(f"u{number:04d}") for number in range(count)]


@pytest.mark.parametrize("seed", [0, 1])
def test_split_people_is_the_measured_protocol(seed):
    split = split_people(reversed(people(1315)), seed)
    order = people(1315)
    random.Random(seed).shuffle(order)
    assert split.test == tuple(order[:131])
    assert split.dev == tuple(order[131:262])
    assert split.train == tuple(order[262:])


@given(st.integers(10, 200), st.integers(0, 5))
def test_everyone_is_in_one_part(count, seed):
    split = split_people(people(count), seed)
    assert sorted(split.train + split.dev + split.test) == people(count)
    assert min(len(split.train), len(split.dev), len(split.test)) >= 1


def test_too_few_people_to_split():
    counts = "9 people split into 9 for training, 0 for dev and 0 for test: take at least 10 people"
    with pytest.raises(CorpusError, match=counts):
        split_people(people(9), seed=0)
    with pytest.raises(CorpusError, match="take at least 4 people"):
        split_people(people(3), seed=0, dev_share=0.3, test_share=0.3)
    assert split_people(people(4), seed=0, dev_share=0.3, test_share=0.3).train


@pytest.mark.parametrize(("dev_share", "test_share"), [(0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_that_leave_a_part_out(dev_share, test_share):
    with pytest.raises(ValueError, match=f"dev_share={dev_share}, test_share={test_share}"):
        split_people(people(100), 0, dev_share, test_share)


def test_nobody_is_given_twice():
    with pytest.raises(ValueError, match="1 repeated"):
        split_people(people(20) + people(1), seed=0)
