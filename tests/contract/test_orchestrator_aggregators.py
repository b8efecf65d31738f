"""What every aggregator does: the same total, bit for bit, for the same cohort and the same drop-outs."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.audit.witness import Witness
from orchestrator.errors import BelowThreshold
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import SUMS
from orchestrator.settings.kinds import SUM_TRAITS
from orchestrator.settings.sections import AggregationConfig

NUM_CLIENTS, NUM_SLOTS = 7, 33
MEMBERS = tuple(ClientId(f"client-{i}") for i in range(NUM_CLIENTS))
COHORT = Cohort(round_num=4, members=MEMBERS, min_survivors=3)


@pytest.fixture(params=[*SUMS, "split of five", "witness"])
def aggregator(request):
    """Each kind of sum, the one with most helpers, and secure aggregation with a witness, who must change nothing."""
    if request.param == "witness":
        return Witness(AggregationConfig(), MEMBERS[::2])
    if request.param == "split of five":
        return build_aggregator(AggregationConfig(aggregator="split", helpers=5))
    return build_aggregator(AggregationConfig(aggregator=request.param))


@pytest.fixture
def vectors():
    rng = np.random.default_rng(1)
    return {member: rng.integers(0, 2**32, NUM_SLOTS, dtype=np.uint32) for member in MEMBERS}


def _sum_of(vectors, members):
    return np.sum([vectors[member] for member in members], axis=0, dtype=np.uint64).astype(np.uint32)


def test_there_are_four_and_each_can_be_set():
    assert set(SUMS) == set(SUM_TRAITS) == {"plain", "secagg", "encrypted", "split"}
    assert all(kind.traits is SUM_TRAITS[name] for name, kind in SUMS.items())


@pytest.mark.parametrize("name", SUMS)
def test_an_aggregator_has_the_name_that_it_is_set_by(name):
    assert build_aggregator(AggregationConfig(aggregator=name)).name == name


def test_the_total_is_the_sum_modulo_two_to_the_32(aggregator, vectors):
    result = aggregator.sum(iter(vectors.items()), COHORT, {})
    assert result.total.dtype == np.uint32
    assert np.array_equal(result.total, _sum_of(vectors, MEMBERS))
    assert result.survivors == MEMBERS


def test_the_extremes_add_up(aggregator):
    for value in (0, 1, 2**31, 2**32 - 1):
        vectors = {member: np.full(NUM_SLOTS, value, np.uint32) for member in MEMBERS}
        result = aggregator.sum(iter(vectors.items()), COHORT, {})
        assert set(result.total) == {NUM_CLIENTS * value % 2**32}


@pytest.mark.parametrize("stage", DropStage)
@pytest.mark.parametrize("place", [0, 3, NUM_CLIENTS - 1])
def test_the_sum_is_that_of_the_survivors(aggregator, vectors, stage, place):
    result = aggregator.sum(iter(vectors.items()), COHORT, {MEMBERS[place]: stage})
    counts = stage in (DropStage.NONE, DropStage.BEFORE_UNMASK)
    expected = MEMBERS if counts else MEMBERS[:place] + MEMBERS[place + 1 :]
    assert result.survivors == expected
    assert np.array_equal(result.total, _sum_of(vectors, expected))


def test_drop_outs_at_two_stages_at_once(aggregator, vectors):
    drops = {MEMBERS[1]: DropStage.BEFORE_UPLOAD, MEMBERS[4]: DropStage.BEFORE_UNMASK}
    result = aggregator.sum(iter(vectors.items()), COHORT, drops)
    expected = MEMBERS[:1] + MEMBERS[2:]
    assert result.survivors == expected
    assert np.array_equal(result.total, _sum_of(vectors, expected))


def test_a_member_without_a_vector_is_a_drop_out(aggregator, vectors):
    """Its training diverged, or it dropped out before it had a vector at all."""
    for missing in (MEMBERS[0], MEMBERS[5]):
        some = {member: vector for member, vector in vectors.items() if member != missing}
        result = aggregator.sum(iter(some.items()), COHORT, {missing: DropStage.BEFORE_UPLOAD})
        assert result.survivors == tuple(some)
        assert np.array_equal(result.total, _sum_of(vectors, some))


def test_vectors_are_taken_one_at_a_time_and_not_kept(aggregator):
    made, most_alive = [], 0

    def one_by_one():
        nonlocal most_alive
        for member in MEMBERS:
            vector = np.ones(NUM_SLOTS, np.uint32)
            made.append(weakref.ref(vector))
            most_alive = max(most_alive, sum(reference() is not None for reference in made))
            yield member, vector

    assert set(aggregator.sum(one_by_one(), COHORT, {}).total) == {NUM_CLIENTS}
    assert most_alive <= 2  # the one that comes, and the last


def test_the_inputs_are_left_alone(aggregator, vectors):
    before = {member: vector.copy() for member, vector in vectors.items()}
    aggregator.sum(iter(vectors.items()), COHORT, {})
    assert all(np.array_equal(vectors[member], before[member]) for member in MEMBERS)


@pytest.mark.parametrize("stage", [DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD])
def test_fewer_than_the_minimum_is_no_sum(aggregator, vectors, stage):
    cohort = Cohort(round_num=4, members=MEMBERS, min_survivors=NUM_CLIENTS)
    with pytest.raises(BelowThreshold, match=r"^round 4: .* needed$"):
        aggregator.sum(iter(vectors.items()), cohort, {MEMBERS[2]: stage})


def test_no_vectors_is_no_sum(aggregator):
    with pytest.raises(BelowThreshold, match="^round 4: 0 of 7 clients are left, 3 needed$"):
        aggregator.sum(iter([]), COHORT, {})


def test_everybody_gone_is_no_sum(aggregator, vectors):
    with pytest.raises(BelowThreshold):
        aggregator.sum(iter(vectors.items()), COHORT, dict.fromkeys(MEMBERS, DropStage.BEFORE_UPLOAD))


def test_one_aggregator_sums_round_after_round(aggregator, vectors):
    for round_num in range(3):
        cohort = Cohort(round_num, MEMBERS[round_num:], min_survivors=3)
        some = {member: vectors[member] for member in cohort.members}
        result = aggregator.sum(iter(some.items()), cohort, {})
        assert np.array_equal(result.total, _sum_of(vectors, cohort.members))


def test_the_bill_has_what_was_sent(aggregator, vectors):
    drops = {MEMBERS[1]: DropStage.BEFORE_UPLOAD}
    cost = aggregator.sum(iter(vectors.items()), COHORT, drops).cost
    entries = [*cost.per_client.values(), *cost.server.values(), *cost.decryptor.values(), *cost.helpers.values()]
    assert all(min(entry.bytes_up, entry.bytes_down, entry.cpu_s) >= 0 for entry in entries)
    sent = sum(entry.bytes_up for entry in cost.per_client.values())
    received = sum(entry.bytes_down for entry in cost.server.values())
    assert sent >= 4 * NUM_SLOTS
    assert received >= (NUM_CLIENTS - 1) * 4 * NUM_SLOTS
    assert sum(entry.cpu_s for entry in cost.server.values()) > 0
