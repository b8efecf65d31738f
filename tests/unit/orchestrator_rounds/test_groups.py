"""Several sums a round: by hand, for every kind of sum, and with clients that lie within the bounds."""

from __future__ import annotations

import numpy as np
import pytest

from models.batches import build_batches
from models.corpus import ClientId
from orchestrator.aggregator import AggregateResult, Cohort, CostLedger, DropStage, PlainSum, StageCost, total_digest
from orchestrator.encoding import Encoder
from orchestrator.errors import BelowThreshold, ConfigError
from orchestrator.rounds.build import NoStopwatch, build_aggregator, build_groups, require_summable
from orchestrator.rounds.groups import COMBINATIONS, Groups, in_turn, median, split, sum_groups, trimmed_mean
from orchestrator.rounds.round import run_round, weights_digest
from orchestrator.rounds.types import RoundFunctions, ServerState
from orchestrator.settings.files import config_digest, read_config
from orchestrator.settings.kinds import ROBUST_MEANS
from orchestrator.settings.sections import AggregationConfig

SHAPES = ((4, 3), (5,))
MEMBERS = tuple(ClientId(f"p{i}") for i in range(9))
START = tuple(np.zeros(shape, np.float32) for shape in SHAPES)
ENCODER = Encoder(clip_norm=100.0, num_clients=9, max_weight=1.0, shapes=SHAPES)
MEDIAN = Groups(3, median)


def value_of(person: ClientId, liars: dict) -> float:
    return liars.get(person, int(person[1:]) + 1.0)


def functions_of(groups, aggregator, liars):
    """Each client's update is its number plus one in every coordinate; a liar's is what it likes."""

    def train(weights, rate, seed, batches):
        for own in batches:
            person = ClientId(f"p{int(own.tokens[0, 0, 1]) - 5}")
            value = np.float32(value_of(person, liars))
            yield {
                "delta": tuple(np.full(shape, value, np.float32) for shape in SHAPES),
                "num_examples": 1,
                "num_tokens": 2,
                "loss_sum": 1.0,
                "is_finite": bool(np.isfinite(value)),
            }

    return RoundFunctions(
        batches_of=lambda person, rng: build_batches([np.array([5 + int(person[1:])] * 2)], batch_size=1, time=3),
        train_clients=train,
        weight_of=lambda update: 1.0,
        encoder=ENCODER,
        aggregator=aggregator,
        update_server=lambda state, weights, mean, rate: (state, tuple(w - m for w, m in zip(weights, mean))),
        groups=groups,
    )


def a_round(groups=MEDIAN, drops=None, aggregator=None, min_survivors=1, **liars):
    return run_round(
        ServerState(0, START, 0),
        Cohort(1, MEMBERS, min_survivors),
        functions_of(groups, aggregator or PlainSum(), {ClientId(name): value for name, value in liars.items()}),
        seed=3,
        client_learning_rate=1.0,
        server_learning_rate=1.0,
        stopwatch=NoStopwatch(),
        drops=drops,
    )


def group_means(**liars) -> list[float]:
    groups = split(Cohort(1, MEMBERS), MEDIAN, seed=3)
    return [float(np.mean([value_of(person, liars) for person in group.members])) for group in groups]


def moved(state) -> float:
    """How far the round moved the weights, which is the mean update: all coordinates are alike."""
    values = np.concatenate([-w.ravel() for w in state.weights])
    np.testing.assert_allclose(values, values[0], atol=1e-3)
    return float(values[0])


def test_each_way_to_combine_has_its_function():
    assert COMBINATIONS.keys() == ROBUST_MEANS.keys()


def test_the_combinations_by_hand():
    means = np.float32([[1, 0], [2, 10], [3, -10], [4, 1], [100, 2], [5, 3], [6, 4], [-100, 5]])
    np.testing.assert_array_equal(median(means), np.float32([3.5, 2.5]))
    np.testing.assert_array_equal(trimmed_mean(means), np.float32([3.5, 2.5]))  # of 2, 3, 4, 5 and of 1, 2, 3, 4
    np.testing.assert_array_equal(median(means[:3]), np.float32([2, 0]))
    np.testing.assert_array_equal(trimmed_mean(means[:3]), np.float32([2, 0]))
    assert {median(means).dtype, trimmed_mean(means).dtype} == {np.dtype("float32")}


def test_every_member_is_in_one_group_and_rounds_differ():
    members = tuple(ClientId(f"c{i}") for i in range(11))
    drawn = set()
    for round_num in range(1, 30):
        groups = split(Cohort(round_num, members, 3), Groups(4, median), seed=1)
        assert sorted(len(group.members) for group in groups) == [2, 3, 3, 3]
        assert set(in_turn(groups).members) == set(members)
        assert len(in_turn(groups).members) == 11
        assert {(group.round_num, group.min_survivors) for group in groups} == {(round_num, 3)}
        assert all(list(group.members) == sorted(group.members, key=members.index) for group in groups)
        assert groups == split(Cohort(round_num, members, 3), Groups(4, median), seed=1)
        drawn.add(groups[0].members)
    assert len(drawn) > 20
    assert split(Cohort(1, members), None, seed=1) == (Cohort(1, members),)


def test_a_round_is_the_median_of_its_groups_means():
    state, report = a_round()
    assert moved(state) == pytest.approx(sorted(group_means())[1], abs=1e-4)
    assert report.selected == MEMBERS
    assert set(report.survivors) == set(MEMBERS)
    assert moved(a_round(groups=None)[0]) == pytest.approx(5.0, abs=1e-4)


@pytest.mark.parametrize("robust", sorted(COMBINATIONS))
def test_one_liar_does_not_carry_the_model_away(robust):
    """It sends the longest update that passes. The plain mean follows it; the combined one stays among the honest."""
    groups, lie = Groups(3, COMBINATIONS[robust]), -24.0  # times the square root of 17 coordinates: 99 long
    assert moved(a_round(groups=None, p4=lie)[0]) == pytest.approx((45 - 5 + lie) / 9, abs=1e-3)
    honest = sorted(group_means())
    assert honest[0] - 1e-3 <= moved(a_round(groups, p4=lie)[0]) <= honest[-1] + 1e-3


@pytest.mark.parametrize("aggregator", ["secagg", "encrypted"])
def test_every_kind_of_sum_gives_the_same_bits(aggregator):
    plain_state, plain = a_round()
    settings = AggregationConfig(aggregator=aggregator, groups=3, poly_degree=2048, coeff_modulus_bits=54)
    state, report = a_round(aggregator=build_aggregator(settings))
    assert weights_digest(state.weights) == weights_digest(plain_state.weights)
    assert report.aggregate_sha256 == plain.aggregate_sha256
    assert report.survivors == plain.survivors


def test_a_group_that_can_not_be_summed_is_left_out_and_half_of_them_end_the_round():
    first, second, _ = (group.members for group in split(Cohort(1, MEMBERS), MEDIAN, seed=3))
    gone = dict.fromkeys(first, DropStage.BEFORE_SHARES)
    state, report = a_round(drops=gone)
    assert moved(state) == pytest.approx(np.mean(group_means()[1:]), abs=1e-4)
    assert not set(report.survivors) & set(first)
    state, report = a_round(drops={**gone, second[0]: DropStage.BEFORE_UPLOAD}, min_survivors=3)
    assert report.outcome == "abandoned"
    assert report.reason.startswith("round 1: 1 of 3 groups can be summed, more than half are needed; the first that")
    assert moved(state) == 0.0


def test_a_group_whose_members_all_diverge_is_left_out():
    liars = dict.fromkeys(split(Cohort(1, MEMBERS), MEDIAN, seed=3)[0].members, np.nan)
    state, report = a_round(**liars)
    assert moved(state) == pytest.approx(np.mean(group_means()[1:]), abs=1e-4)
    assert report.outcome == "completed"


def test_who_gives_a_group_up_half_way_does_not_mix_the_groups():
    class Impatient(PlainSum):
        """Takes one vector of its first group only."""

        def sum(self, vectors, cohort, drops):
            if cohort.members == first:
                next(iter(vectors))
                raise BelowThreshold("no more")
            return super().sum(vectors, cohort, drops)

    first = split(Cohort(1, MEMBERS), MEDIAN, seed=3)[0].members
    state, report = a_round(aggregator=Impatient())
    assert moved(state) == pytest.approx(np.mean(group_means()[1:]), abs=1e-4)
    assert set(report.survivors) == set(MEMBERS) - set(first)


def test_totals_and_costs_are_those_of_all_groups():
    class Billed(PlainSum):
        def sum(self, vectors, cohort, drops):
            result, num = super().sum(vectors, cohort, drops), len(cohort.members)
            bill = {"upload": StageCost(10.0 * num, 1.0, 0.5)}
            return AggregateResult(result.total, result.survivors, CostLedger(bill, bill, bill))

    cohorts = (Cohort(1, MEMBERS[:2]), Cohort(1, MEMBERS[2:4]), Cohort(1, MEMBERS[4:8]))
    rng = np.random.default_rng(0)
    vectors = [(m, ENCODER.encode(tuple(np.ones(s, np.float32) for s in SHAPES), 1.0, rng)) for m in MEMBERS[:8]]
    result, mean = sum_groups(Billed(), iter(vectors), cohorts, {}, ENCODER, MEDIAN)
    np.testing.assert_allclose(mean[0], 1.0, atol=1e-4)
    totals = [sum((v for _, v in part[1:]), part[0][1].copy()) for part in (vectors[:2], vectors[2:4], vectors[4:8])]
    assert total_digest(result.total) == total_digest(np.concatenate(totals))
    assert result.cost.per_client["upload"] == StageCost(0.25 * 20 + 0.25 * 20 + 0.5 * 40, 1.0, 0.5)
    assert result.cost.server["upload"] == result.cost.decryptor["upload"] == StageCost(80.0, 3.0, 1.5)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"aggregation.groups": 2}, "at least 3"),
        ({"aggregation.groups": 4}, "a group would have fewer clients"),
        ({"aggregation.groups": 3, "aggregation.robust": "mode"}, "median or trimmed"),
        ({"aggregation.groups": 3, "fleet.policy": "fedbuff", "aggregation.aggregator": "plain"}, "a buffer's members"),
    ],
)
def test_settings_that_can_not_be_are_refused(settings, advice):
    with pytest.raises(ConfigError, match=advice):
        read_config(overrides={"rounds.cohort_size": 9, "aggregation.min_survivors": 3, **settings})


def test_groups_are_refused_where_an_epsilon_would_not_hold():
    with pytest.raises(ConfigError, match="would not cover sums of its parts"):
        read_config(preset="private", overrides={"aggregation.groups": 3})


@pytest.mark.parametrize(("cohort_size", "holds"), [(9, True), (12, False), (15, True)])
def test_secure_aggregation_must_be_able_to_protect_every_group(cohort_size, holds):
    """With the default shares no threshold protects exactly four clients."""
    config = read_config(overrides={"rounds.cohort_size": cohort_size, "aggregation.groups": 3})
    if holds:
        require_summable(config)
        return
    with pytest.raises(ConfigError, match="rounds.cohort_size = 12 in aggregation.groups = 3"):
        require_summable(config)


def test_one_sum_is_the_default_and_its_digest_is_that_of_before():
    assert build_groups(AggregationConfig()) is None
    groups = build_groups(AggregationConfig(groups=3, robust="trimmed"))
    assert (groups.count, groups.combine) == (3, trimmed_mean)
    configs = [read_config(overrides={"aggregation.groups": 3, "aggregation.robust": r}) for r in COMBINATIONS]
    assert len({config_digest(config) for config in (read_config(), *configs)}) == 3
