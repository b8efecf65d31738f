"""The search for who spoils sums, played through without a network."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import RunFolderError
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


@given(st.integers(3, 30), st.integers(1, 7), st.data())
def test_whatever_a_lone_liar_does_nobody_else_is_struck_off(num_clients, least, data):
    """It may send good vectors as long as it likes, and junk when it is to the harm of somebody else."""
    present, rng = [f"client {i}" for i in range(num_clients)], data.draw(st.randoms(use_true_random=False))
    liar, suspects = rng.choice(present), Suspects()
    for lies in data.draw(st.lists(st.booleans(), max_size=80)):
        here = [name for name in present if name == liar or rng.random() < 0.9]
        cohort = suspects.candidates(here, least)
        if liar in cohort and lies:
            suspects.spoiled(cohort)
        elif cohort:
            suspects.summed(cohort)
        assert suspects.struck <= {liar}


def blames_others(suspects, cohort, liar):
    """Whether others would be suspects, too, after a spoiled sum of this cohort."""
    return all(any(name != liar for name in case.suspects if name in cohort) for case in suspects._cases)


@pytest.mark.parametrize(("num_clients", "least", "most"), [(6, 3, 40), (10, 3, 30), (100, 7, 60)])
def test_a_liar_that_knows_the_search_and_is_never_found_spoils_fewer_and_fewer_sums(num_clients, least, most):
    """It lies where a spoiled sum can't yet say that it was alone."""
    present, suspects, spoiled = [f"client {i}" for i in range(num_clients)], Suspects(), []
    for round_num in range(1000):
        cohort = suspects.candidates(present, least)
        if present[0] in cohort and blames_others(suspects, cohort, present[0]):
            suspects.spoiled(cohort)
            spoiled.append(round_num)
        else:
            suspects.summed(cohort)
    assert not suspects.struck
    assert len(spoiled) <= most
    assert len([round_num for round_num in spoiled if round_num >= 500]) <= len(spoiled) // 4


@pytest.mark.parametrize(
    ("num_clients", "least", "lost"), [(4, 3, 7), (5, 3, 5), (6, 3, 5), (10, 3, 4), (12, 1, 5), (100, 7, 7)]
)
def test_a_lone_liar_is_found_before_ten_rounds_in_a_row_are_lost(num_clients, least, lost):
    """Ten end a run; from the first round on, so that nobody is known to be good."""
    present = [f"client {i}" for i in range(num_clients)]
    for liar in present:
        suspects, in_a_row, most, all_lost = Suspects(), 0, 0, 0
        for _ in range(60):
            cohort = suspects.candidates(present, least)
            in_a_row = in_a_row + 1 if liar in cohort else 0
            most, all_lost = max(most, in_a_row), all_lost + (liar in cohort)
            (suspects.spoiled if liar in cohort else suspects.summed)(cohort)
        assert suspects.struck == {liar}
        assert most < 10
        assert all_lost <= lost


@given(st.integers(3, 12), st.integers(1, 5), st.lists(st.booleans(), max_size=40))
def test_a_round_never_has_fewer_than_allowed(num_clients, least, good):
    """Nor anybody who was struck off; and if enough are there, there is a round."""
    present, suspects = NAMES[:num_clients], Suspects()
    for is_good in good:
        cohort = suspects.candidates(present, least)
        assert suspects.struck.isdisjoint(cohort)
        assert len(cohort) >= min(least, num_clients - len(suspects.struck))
        if len(cohort) < least:
            break
        (suspects.summed if is_good else suspects.spoiled)(cohort)


def test_one_who_was_good_and_begins_to_spoil_is_found():
    suspects = Suspects()
    suspects.summed(NAMES)
    assert play(suspects, {NAMES[7]}, NAMES, 2, 60) <= 5
    assert suspects.struck == {NAMES[7]}


@pytest.mark.parametrize("seed", range(10))
def test_a_server_that_restarts_after_each_round_searches_on_as_if_it_had_not(tmp_path, seed):
    """Two liars, of whom one sends junk now and then: cases, patience, vain rounds and good ones all matter."""
    rng, path = random.Random(seed), tmp_path / "suspects.json"
    whole, restarted = Suspects(), Suspects(path)
    for _ in range(40):
        present = [name for name in NAMES if rng.random() < 0.8]
        cohort = whole.candidates(present, 3)
        assert restarted.candidates(present, 3) == cohort
        is_good = NAMES[2] not in cohort and (NAMES[7] not in cohort or rng.random() < 0.5)
        for suspects in (whole, restarted):
            (suspects.summed if is_good else suspects.spoiled)(cohort)
        restarted = Suspects(path)
    assert restarted.struck == whole.struck != set()


def test_only_the_server_s_owner_reads_who_is_suspected(tmp_path):
    Suspects(tmp_path / "suspects.json").spoiled(NAMES[:3])
    assert (tmp_path / "suspects.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["suspects.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"{}", b"{\"schema\":1,\"struck\":[\"\xff\"]}", b"\xff", b"[" * 100_000,
        b'{"schema":2}', b'{"schema":1,"patience":0}', b'{"schema":1,"num_vain":-1}',
        b'{"schema":1,"cases":[{"suspects":["ann"]}]}', b'{"schema":1,"strucked":["ann"]}',
    ],
)  # fmt: skip
def test_a_damaged_file_admits_nobody_in_silence(tmp_path, content):
    (tmp_path / "suspects.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"suspects\.json is damaged: restore it, or remove it"):
        Suspects(tmp_path / "suspects.json")
