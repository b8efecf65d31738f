"""Which groups may show beside the total, and sums that can't wrap."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.corpus import ClientId
from orchestrator.aggregator import PlainSum
from orchestrator.fairness import group_sums
from orchestrator.fairness.attributes import Labels
from orchestrator.fairness.group_sums import Secure, choose_groups, few_drop_out, least_difference
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.sums import secagg_policy
from orchestrator.secagg.graph import graph_parameters
from orchestrator.settings.sections import AggregationConfig


def test_suppression_holds_for_any_sizes():
    rng = np.random.default_rng(5)
    for _ in range(3000):
        counted = rng.integers(0, 25, rng.integers(1, 7))
        sizes = np.stack([counted + rng.integers(0, 3, len(counted)), counted], axis=1)
        shown = group_sums.groups_to_show(sizes, 0, 10)
        hidden = [i for i in range(len(sizes)) if i not in shown]
        assert all(sizes[i, 1] >= 10 for i in shown)
        assert not shown or sizes[hidden, 0].sum() == 0 or sizes[hidden, 1].sum() >= 10


def test_a_sum_that_would_wrap_is_refused():
    with pytest.raises(ValueError, match="entries must lie in"):
        Secure(PlainSum(), 1).total({"a": np.array([2**31]), "b": np.array([2**31])}, step=1)


@pytest.mark.parametrize("moved", [1, 9])
def test_two_groupings_that_differ_by_few_people_do_not_give_them_away(moved):
    people = [ClientId(f"p{i}") for i in range(60)]
    first = {person: int(i < 30) for i, person in enumerate(people)}
    second = {person: int(i < 30 + moved) for i, person in enumerate(people)}
    turned = {person: 1 - group for person, group in second.items()}
    for other in (second, turned):
        attributes = [Labels("a", "", ("x", "y"), first), Labels("b", "", ("x", "y"), other)]
        chosen = choose_groups(attributes, people, people, Secure(PlainSum(), 10), step=2)
        assert [groups.shown for groups in chosen] == [(0, 1), ()]


def test_groupings_that_differ_by_nobody_or_by_many_are_shown():
    people = [ClientId(f"p{i}") for i in range(60)]
    first = {person: int(i < 30) for i, person in enumerate(people)}
    for moved in (0, 10):
        second = {person: int(i < 30 + moved) for i, person in enumerate(people)}
        attributes = [Labels("a", "", ("x", "y"), first), Labels("b", "", ("x", "y"), second)]
        chosen = choose_groups(attributes, people, people, Secure(PlainSum(), 10), step=2)
        assert [groups.shown for groups in chosen] == [(0, 1), (0, 1)]


def test_a_union_of_groups_that_differs_by_one_person_is_found():
    # By hand: rows 0 and 1 together are column 0 less one person; no two single groups differ by fewer than 19.
    assert least_difference(np.array([[20, 0], [19, 1], [0, 40]])) == 1
    assert least_difference(np.array([[20, 20], [20, 20]])) == 40


def test_people_who_train_nothing_need_fewer_neighbours_and_are_as_safe():
    """docs/fairness.md: 78 neighbours of 1,053 people, of whom as many as in a round of training may be corrupt."""
    trained = AggregationConfig()
    evaluated = few_drop_out(trained)
    degrees = [graph_parameters(1053, secagg_policy(own)).degree for own in (trained, evaluated)]
    assert degrees == [314, 78]
    assert msgspec.structs.replace(evaluated, dropout_share=trained.dropout_share) == trained
    assert few_drop_out(AggregationConfig(dropout_share=0.02)).dropout_share == 0.02


def test_the_sum_is_the_same_with_fewer_neighbours():
    vectors = {ClientId(f"p{i}"): np.arange(i, i + 3) for i in range(12)}
    sums = []
    for aggregation in (AggregationConfig(complete_up_to=0), few_drop_out(AggregationConfig(complete_up_to=0))):
        sums.append(Secure(build_aggregator(aggregation), 10).total(vectors, 1).tolist())
    assert sums == [[66, 78, 90]] * 2
