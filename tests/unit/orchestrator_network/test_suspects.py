"""The search for who spoils sums, played through without a network."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.network.suspects import Suspects

NAMES = [f"client {i}" for i in range(12)]


def play(suspects, liars, present, least, num_rounds):
    """Rounds in which a sum is spoiled if a liar is in it; how many were."""
    num_spoiled = 0
    for _ in range(num_rounds):
        cohort = suspects.candidates(present, least)
        if len(cohort) < least:
            break
        if liars.isdisjoint(cohort):
            suspects.summed(cohort)
        else:
            suspects.spoiled(cohort)
            num_spoiled += 1
    return num_spoiled


@settings(max_examples=300, deadline=None)
@given(st.integers(3, 12), st.sets(st.integers(0, 11), max_size=4))
def test_the_liars_are_struck_off_and_nobody_else(num_clients, places):
    present = NAMES[:num_clients]
    liars = {NAMES[place] for place in places if place < num_clients}
    suspects = Suspects()
    num_spoiled = play(suspects, liars, present, least=1, num_rounds=60)
    assert suspects.struck == liars
    assert num_spoiled <= len(liars) * 5  # one and its halvings
    assert suspects.candidates(present, 1) == [name for name in present if name not in liars]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 11), st.integers(0, 1000))
def test_one_liar_among_twelve_is_found_though_others_come_and_go(place, seed):
    suspects, rng, liar = Suspects(), random.Random(seed), NAMES[place]
    for _ in range(60):
        play(suspects, {liar}, [name for name in NAMES if name == liar or rng.random() < 0.8], 3, 1)
    assert suspects.struck == {liar}


def test_a_round_never_has_fewer_than_allowed():
    suspects = Suspects()
    suspects.spoiled(NAMES)
    assert suspects.candidates(NAMES, 3) == NAMES[:6]
    for group in (NAMES[:6], NAMES[6:], NAMES[:3], NAMES[3:6], NAMES[6:9], NAMES[9:]):
        suspects.spoiled(group)
    assert suspects.candidates(NAMES, 2) == NAMES[:3]  # one, and since that is too few the two after it
    assert suspects.candidates(NAMES[:1], 2) == NAMES[:1]  # too few: no round


def test_one_who_was_good_and_begins_to_spoil_is_found():
    suspects = Suspects()
    suspects.summed(NAMES)
    assert play(suspects, {NAMES[7]}, NAMES, 2, 60) <= 5
    assert suspects.struck == {NAMES[7]}
