"""Degree and threshold are those of the published tables, and the graph is what they are computed for."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from scipy import stats

from orchestrator.rounds.sums import secagg_policy
from orchestrator.secagg.errors import WeakParameters
from orchestrator.secagg.graph import (
    Graph,
    GraphParameters,
    Policy,
    _upper_quantile,
    fewest_survivors,
    graph_parameters,
)
from orchestrator.settings.sections import AggregationConfig

# (clients, corrupt share, drop-out share, semi-malicious, degree, largest threshold): the expected values of
# graph_parameter_finder_test.cc in google-parfait/federated-compute (40 bits of security, 20 of correctness).
PUBLISHED = [
    (100, 0.45, 0.45, False, 92, 46),
    (1_000, 0.45, 0.45, False, 822, 417),
    (100, 0.33, 0.33, False, 68, 34),
    (1_000, 0.33, 0.33, False, 286, 150),
    (10_000, 0.33, 0.33, False, 422, 221),
    (100_000, 0.33, 0.33, False, 480, 251),
    (1_000_000, 0.33, 0.33, False, 518, 270),
    (100, 0.3, 0.3, True, 92, 62),
    (1_000, 0.3, 0.3, True, 872, 584),
    (100, 0.05, 0.33, False, 28, 6),
    (1_000, 0.05, 0.33, False, 72, 24),
    (10_000, 0.05, 0.33, False, 86, 29),
    (1_000_000, 0.05, 0.33, False, 102, 34),
    (100, 0.05, 0.33, True, 72, 39),
    (1_000, 0.05, 0.33, True, 398, 223),
    (10_000, 0.05, 0.33, True, 746, 420),
    (100, 0.33, 0.05, False, 34, 29),
    (1_000, 0.33, 0.05, False, 78, 60),
    (1_000_000, 0.33, 0.05, False, 110, 83),
    (100, 0.33, 0.05, True, 42, 37),
    (1_000, 0.33, 0.05, True, 132, 109),
    (10_000, 0.33, 0.05, True, 178, 146),
    (1_000_000, 0.33, 0.05, True, 212, 173),
    (100, 0.05, 0.05, False, 12, 6),
    (1_000, 0.05, 0.05, False, 30, 17),
    (10_000, 0.05, 0.05, False, 34, 20),
    (1_000_000, 0.05, 0.05, False, 38, 22),
    (100, 0.05, 0.05, True, 16, 11),
    (1_000, 0.05, 0.05, True, 52, 37),
    (10_000, 0.05, 0.05, True, 62, 44),
    (100_000, 0.05, 0.05, True, 68, 48),
    (1_000_000, 0.05, 0.05, True, 74, 52),
    (1_000, 0.33, 0.0, False, 38, 36),
    (1_000, 0.33, 0.0, True, 38, 37),
    (1_000_000, 0.0, 0.33, False, 50, 2),
    (1_000, 0.0, 0.33, True, 228, 115),
    (100_000, 0.0, 0.33, True, 372, 187),
]


@pytest.mark.parametrize(("num_clients", "corrupt", "dropped", "semi_malicious", "degree", "threshold"), PUBLISHED)
def test_degree_and_threshold_are_the_published_ones(num_clients, corrupt, dropped, semi_malicious, degree, threshold):
    policy = Policy(corrupt_share=corrupt, dropout_share=dropped, semi_malicious=semi_malicious, complete_up_to=0)
    found = graph_parameters(num_clients, policy)
    assert found.degree == degree
    assert found.threshold <= threshold


@pytest.mark.parametrize(
    ("num_clients", "corrupt", "dropped", "semi_malicious", "expected"),
    [
        (1_000, 0.05, 0.10, False, (36, 19)),
        (1_000, 0.05, 0.10, True, (78, 52)),
        (1_000, 0.20, 0.10, True, (140, 104)),
        (10_000, 0.05, 0.10, True, (96, 64)),
    ],
)
def test_degree_and_threshold_for_a_tenth_dropping_out(num_clients, corrupt, dropped, semi_malicious, expected):
    policy = Policy(corrupt_share=corrupt, dropout_share=dropped, semi_malicious=semi_malicious)
    found = graph_parameters(num_clients, policy)
    assert (found.degree, found.threshold) == expected


@pytest.mark.parametrize("num_clients", [3, 5, 10, 50, 99, 100])
def test_small_cohorts_use_the_complete_graph_with_a_threshold_no_liar_can_reach_twice(num_clients):
    found = graph_parameters(num_clients, Policy())
    assert found.degree == num_clients - 1
    num_corrupt = math.ceil(0.05 * num_clients)
    num_honest = found.degree - num_corrupt
    # Corrupt neighbours give shares of both secrets, honest ones of either.
    assert 2 * found.threshold > 2 * num_corrupt + num_honest
    assert found.threshold <= found.degree - math.floor(0.3 * num_clients)


def test_a_third_corrupt_asks_for_two_thirds():
    """The threshold that Bonawitz et al. 2017 give for an active server and a third of corrupt clients."""
    found = graph_parameters(99, Policy(corrupt_share=1 / 3, dropout_share=0.1))
    assert found.threshold == 2 * 99 // 3


@pytest.mark.parametrize("num_clients", [1, 2, 4])
def test_cohorts_that_hide_nobody_are_refused(num_clients):
    with pytest.raises(WeakParameters, match=f"a cohort of {num_clients}"):
        graph_parameters(num_clients, Policy())


def test_every_party_assumes_the_shares_of_the_settings_unless_it_is_told_others():
    """The docs' table once assumed a third of the drop-outs that server and clients assume."""
    policy, settings = Policy(), AggregationConfig()
    for name in ("corrupt_share", "dropout_share", "complete_up_to", "min_survivors"):
        assert getattr(policy, name) == getattr(settings, name)
    assert secagg_policy(settings) == policy
    found = graph_parameters(1_000, policy)
    assert (found.degree, found.threshold) == (314, 179)


@pytest.mark.parametrize(
    ("num_enrolled", "corrupt_share", "fewest"),
    [(3, 0.05, 3), (20, 0.05, 3), (21, 0.05, 4), (160, 0.05, 10), (1_000, 0.05, 52), (10, 0.4, 6), (10, 0.0, 3)],
)
def test_the_fewest_survivors_hold_two_honest_ones(num_enrolled, corrupt_share, fewest):
    assert fewest_survivors(num_enrolled, corrupt_share) == fewest
    assert fewest - math.ceil(round(corrupt_share * num_enrolled, 9)) >= 2


def test_a_policy_that_no_graph_holds_is_refused():
    with pytest.raises(WeakParameters, match="select more clients or assume smaller shares"):
        graph_parameters(300, Policy(corrupt_share=0.5, dropout_share=0.4))


@pytest.mark.parametrize(
    "field", [{"corrupt_share": 1.0}, {"dropout_share": -0.1}, {"security_bits": 0}, {"min_survivors": 0}]
)
def test_policies_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Policy(**field)


@pytest.mark.parametrize("bits", [10, 30, 51])
@pytest.mark.parametrize(("population", "marked", "drawn"), [(1000, 50, 78), (101, 33, 40), (10_000, 1000, 96)])
def test_the_tail_is_that_of_the_hypergeometric_distribution(population, marked, drawn, bits):
    found = _upper_quantile(population, marked, drawn, -bits * math.log(2))
    distribution = stats.hypergeom(population, marked, drawn)
    assert distribution.sf(found) <= 2.0**-bits < distribution.sf(found - 1)


@pytest.mark.parametrize(("num_clients", "degree"), [(5, 4), (101, 26), (1000, 78)])
def test_the_graph_is_regular_and_mutual(num_clients, degree):
    graph = Graph(GraphParameters(num_clients, degree, threshold=2))
    neighbours = {index: graph.neighbours(index) for index in range(num_clients)}
    for index, others in neighbours.items():
        assert len(set(others)) == len(others) == degree
        assert others == sorted(others)
        assert index not in others
        assert all(index in neighbours[other] for other in others)


def test_the_graph_is_drawn_anew():
    """40 graphs on 101 clients of degree 2: a pair is adjacent in any with probability 2 / 100, so clients 0 and 1 in
    more than 12 of the 40 with probability below 1e-11."""
    parameters = GraphParameters(101, 2, threshold=2)
    adjacent = Counter(1 in Graph(parameters).neighbours(0) for _ in range(40))
    assert adjacent[True] <= 12
