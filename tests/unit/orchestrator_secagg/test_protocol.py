"""The sum is that of the survivors, whoever drops out and when, or there is none."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_session import SEMI_HONEST, STAGES, Session

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, DropStage, PlainSum
from orchestrator.errors import BelowThreshold
from orchestrator.secagg import Policy, SecAgg
from orchestrator.secagg.client import ClientState
from orchestrator.secagg.errors import (
    WeakParameters,
)
from orchestrator.secagg.server import Stage


# Honest runs
@pytest.mark.parametrize("num_clients", [3, 5, 12])
def test_the_total_is_the_sum(num_clients):
    session = Session(num_clients)
    for stage in STAGES:
        session.run(stage)
    total, survivors = session.server.total()
    assert np.array_equal(total, session.sum_of(range(num_clients)))
    assert survivors == tuple(range(num_clients))
    assert not session.server.refused
    assert {client.state for client in session.clients} == {ClientState.DONE}


def _aggregate(aggregator, num_clients, drops, min_survivors=1):
    members = tuple(ClientId(f"client-{i}") for i in range(num_clients))
    rng = np.random.default_rng(num_clients)
    vectors = [(member, rng.integers(0, 2**32, 7, dtype=np.uint32)) for member in members]
    by_member = {members[i]: stage for i, stage in enumerate(drops)}
    return aggregator.sum(iter(vectors), Cohort(1, members, min_survivors), by_member)


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "needed"), [(Policy(), 4), (SEMI_HONEST, 3)], ids=["semi-malicious", "semi-honest"])
def test_every_pattern_of_drop_outs_for_five(policy, needed):
    """All 4**5 patterns: the sum is that of the survivors if `threshold` neighbours of each are left, else none."""
    aggregator = SecAgg(policy, num_threads=1)
    outcomes = Counter()
    for drops in itertools.product(DropStage, repeat=5):
        if drops.count(DropStage.NONE) >= needed:
            found, expected = _aggregate(aggregator, 5, drops), _aggregate(PlainSum(), 5, drops)
            assert np.array_equal(found.total, expected.total)
            assert found.survivors == expected.survivors
            outcomes["summed"] += 1
        else:
            with pytest.raises(BelowThreshold):
                _aggregate(aggregator, 5, drops)
            outcomes["stopped"] += 1
    assert outcomes["summed"] + outcomes["stopped"] == 4**5
    assert min(outcomes.values()) >= 16


@settings(max_examples=25, deadline=None)
@given(data=st.data(), num_clients=st.integers(6, 24), complete=st.booleans(), semi_malicious=st.booleans())
def test_random_drop_outs_of_larger_cohorts(data, num_clients, complete, semi_malicious):
    """Complete and regular graphs: the survivors' sum, or a stop; never another sum."""
    policy = Policy(
        security_bits=3,  # so that a graph on so few clients is not complete
        correctness_bits=3,
        semi_malicious=semi_malicious,
        complete_up_to=100 if complete else 0,
    )
    stage = st.sampled_from(DropStage)
    drops = [data.draw(stage) if data.draw(st.integers(0, 4)) == 0 else DropStage.NONE for _ in range(num_clients)]
    try:
        found = _aggregate(SecAgg(policy), num_clients, drops)
    except BelowThreshold:
        return
    expected = _aggregate(PlainSum(), num_clients, drops)
    assert set(found.survivors) <= set(expected.survivors)
    members = [f"client-{i}" for i in range(num_clients)]
    kept = [stage if m in found.survivors else DropStage.BEFORE_UPLOAD for m, stage in zip(members, drops)]
    assert np.array_equal(found.total, _aggregate(PlainSum(), num_clients, kept).total)


def test_a_regular_graph_sums_too():
    policy = Policy(complete_up_to=0, security_bits=20)
    drops = [DropStage.NONE] * 120
    drops[5:8] = (DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD, DropStage.BEFORE_UNMASK)
    found, expected = _aggregate(SecAgg(policy), 120, drops), _aggregate(PlainSum(), 120, drops)
    assert np.array_equal(found.total, expected.total)
    assert found.survivors == expected.survivors
    assert found.cost.per_client["shares"].bytes_up < 119 * 100  # not the complete graph


@pytest.mark.slow
def test_drop_outs_within_the_assumed_share_do_not_stop_a_hundred():
    drops = [DropStage.NONE] * 90 + [DropStage.BEFORE_UPLOAD] * 5 + [DropStage.BEFORE_UNMASK] * 5
    found, expected = _aggregate(SecAgg(), 100, drops), _aggregate(PlainSum(), 100, drops)
    assert np.array_equal(found.total, expected.total)


def test_a_drop_out_without_living_neighbours_hides_no_mask_of_the_next():
    """Client 0 masks with nobody, since its neighbours never shared. The other drop-out's masks must still go."""
    loose = Policy(
        corrupt_share=0.0,
        dropout_share=0.1,
        security_bits=5,
        correctness_bits=5,
        semi_malicious=False,
        complete_up_to=0,
    )
    session = Session(20, loose)  # four neighbours each, of whom two recover a secret
    neighbours = session.server._graph.neighbours
    near = [{0}]
    for _ in range(3):
        near.append({other for index in near[-1] for other in neighbours(index)} | near[-1])
    silent = near[1] - {0}
    far = min(set(range(20)) - near[3])  # all its neighbours share, and none needs a client that is silent
    session.run("advertise")
    session.run("share", silent=silent)
    session.run("mask", silent={0, far})
    total, survivors = session.finish(after="mask")
    assert set(survivors) == set(range(20)) - silent - {0, far}
    assert np.array_equal(total, session.sum_of(survivors))


def test_a_client_may_consent_and_then_vanish():
    session = Session()
    for stage in STAGES[:-1]:
        session.run(stage)
    session.run("unmask", silent={4})
    total, survivors = session.server.total()
    assert np.array_equal(total, session.sum_of(range(5)))
    assert survivors == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("stage", STAGES)
def test_below_the_threshold_the_round_stops_with_a_reason(stage):
    session = Session()
    for earlier in STAGES[: STAGES.index(stage)]:
        session.run(earlier)
    session.run(stage, silent={0, 1, 2})
    closing = [*STAGES[1:], None][STAGES.index(stage)]
    with pytest.raises(BelowThreshold, match=r"^round 3: 2 .* needed$"):
        session.outgoing(closing) if closing else session.server.total()
    assert session.server.stage is Stage.CLOSED


def test_fewer_survivors_than_the_cohorts_minimum_stop_the_round():
    session = Session(min_survivors=5)
    for stage in ("advertise", "share"):
        session.run(stage)
    session.run("mask", silent={2})
    with pytest.raises(BelowThreshold, match="4 clients sent masked vectors, 5 needed"):
        session.outgoing("consent")


@pytest.mark.parametrize("num_clients", [1, 2])
def test_a_cohort_of_one_or_two_is_no_cohort(num_clients):
    with pytest.raises(WeakParameters):
        _aggregate(SecAgg(), num_clients, [DropStage.NONE] * num_clients)


def test_no_vectors_at_all_is_below_the_threshold():
    with pytest.raises(BelowThreshold, match="0 of 5 clients"):
        SecAgg().sum(iter([]), Cohort(1, tuple(ClientId(str(i)) for i in range(5))), {})
