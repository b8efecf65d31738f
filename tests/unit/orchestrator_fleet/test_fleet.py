"""A fleet under its server: conservation, over-selection, determinism, refused policies, FedBuff, the self-check."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args, get_type_hints

import msgspec
import numpy as np
import pytest

from models.weights import ModelSize
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.errors import ConfigError
from orchestrator.fleet.checkin import Outcome
from orchestrator.fleet.plan import plan_figures, plan_fleet
from orchestrator.fleet.self_check import self_check
from orchestrator.fleet.simulation import HARDWARE, build_simulation
from orchestrator.fleet.source import FleetSource
from orchestrator.rounds.build import build_aggregator
from orchestrator.rounds.cohort import select_cohort
from orchestrator.rounds.fedbuff import buffered_functions, remember
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import ServerState
from orchestrator.settings.files import read_config, read_fleet_settings
from orchestrator.settings.fleet import FLEET_PRESETS, FleetConfig
from orchestrator.settings.sections import AggregationConfig

SMALL = {"rounds.cohort_size": 20, "fleet.devices": 3000}
SIZE = ModelSize(50, 4, 5)


def plan(preset="gboard-2018", hours=6, **settings):
    return plan_fleet(read_config(preset=preset, overrides={**SMALL, **settings}, presets=FLEET_PRESETS), hours)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fleet.max_participations": 1},
        {"fleet.separation_s": 7200.0, "fleet.failure_share": 0.5},
        {"fleet.policy": "fedbuff", "fleet.max_staleness": 1},
    ],
)
def test_each_check_in_ends_exactly_once(settings):
    check_ins = plan(**settings).simulation.check_ins
    assert check_ins.outcomes.sum() == check_ins.check_ins.sum() > 500


def test_what_rounds_say_is_what_the_desk_counted():
    done = plan()
    told = np.bincount(np.concatenate([r.outcomes for r in done.rounds]), minlength=len(Outcome))
    counted = done.simulation.check_ins.outcomes
    in_rounds = [Outcome.COMPLETED, Outcome.LATE, Outcome.PICKED_UP, Outcome.SESSION_ENDED, Outcome.FAILED]
    assert [told[o] for o in in_rounds] == [counted[o] for o in in_rounds]


def test_nobody_takes_part_twice_within_the_least_separation():
    last: dict[int, float] = {}
    for done in plan(hours=12, **{"fleet.separation_s": 10_000.0}).rounds:
        for device in done.devices:
            assert done.started_s - last.get(device, -np.inf) >= 10_000.0
            last[device] = done.started_s


def test_a_cap_holds():
    assert plan(hours=12, **{"fleet.max_participations": 2}).simulation.check_ins.selected.max() == 2


def test_a_round_ends_with_the_last_wanted_of_the_selected():
    """Equal phones with log-normal times: the k-th of m is the order statistic of the closed form.

    n rounds of 26 selected for 20 wanted; mean of the 20th order statistic by numerical integration over its beta
    distribution; false-alarm rate 1e-6 (4.9 standard errors).
    """
    from scipy.stats import beta, norm

    quiet = {
        "fleet.failure_share": 0.0, "fleet.pickups_per_hour": 0.0, "fleet.sessions_per_day": 0.0,
        "fleet.day_swing": 1.0, "fleet.round_trip_s": 0.0, "fleet.hardware": "ideal", "fleet.report_deadline_s": 1e6,
        "fleet.jitter": 0.5,
        "fleet.min_ram_mib": 0,
    }  # fmt: skip
    config = read_config(preset="gboard-2018", overrides={**SMALL, **quiet}, presets=FLEET_PRESETS)
    simulation = build_simulation(config, SIZE, 3000)
    simulation.fleet.step_s[:] = 1.0  # a batch takes a second, so 40 take 40 seconds times the jitter
    lengths = [simulation.rounds.next_round(i + 1).ended_s for i in range(400)]
    lengths = np.diff([0.0, *lengths])
    u = (np.arange(200_000) + 0.5) / 200_000
    mean = float(np.mean(40 * np.exp(0.5 * norm.ppf(beta.ppf(u, 20, 7)))))
    assert abs(lengths.mean() - mean) < 4.9 * lengths.std(ddof=1) / np.sqrt(len(lengths))


def test_the_same_seed_gives_the_same_fleet():
    first, again = plan_figures(plan()), plan_figures(plan())
    assert msgspec.structs.replace(again, wall_s=first.wall_s, peak_rss_mib=first.peak_rss_mib) == first
    assert plan_figures(plan(seed=1)).check_ins != first.check_ins


def test_the_preset_lies_in_the_published_bands():
    config = read_config(preset="gboard-2018", overrides={"fleet.devices": 30_000}, presets=FLEET_PRESETS)
    figures = plan_figures(plan_fleet(config, 24))
    checks = self_check(
        msgspec.structs.replace(figures, round_s={"p50": 150.0})
    )  # so few phones wait longer for each other
    assert [check.name for check in checks if not check.ok] == []
    assert [
        c.name
        for c in self_check(msgspec.structs.replace(figures, drop_out_rate=0.2))
        if c.name == "drop-out rate" and not c.ok
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregation.min_survivors": 21}, "aggregation.min_survivors = 21, rounds.cohort_size = 20"),
        ({"fleet.devices": 10}, "rounds.cohort_size = 20, .*: 26 phones are wanted, and only"),
        ({"fleet.report_deadline_s": 3.0}, "fleet.report_deadline_s = 3.0: the fastest phone takes"),
        ({"fleet.min_pace_s": 99_999.0}, "fleet.min_pace_s = 99999.0, fleet.max_pace_s"),
        ({"fleet.policy": "fedbuff", "aggregation.aggregator": "secagg"}, "fleet.policy = fedbuff, .*secagg"),
        ({"fleet.policy": "fedbuff", "fleet.concurrency": 5}, "fleet.concurrency = 5, fleet.buffer_size = 10"),
        ({"privacy.mechanism": "central"}, "privacy.mechanism"),
        ({"faults.before_upload": 0.1}, "faults.before_upload = 0.1"),
    ],
)
def test_a_policy_that_can_never_be_met(settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(**settings)


def people(num=40):
    return {f"p{i:02}": tuple([np.array([4])] * (10 + i)) for i in range(num)}


def test_an_ideal_fleet_draws_the_cohorts_of_no_fleet():
    config = read_config(overrides={**read_fleet_settings("ideal"), "rounds.cohort_size": 5})
    source = FleetSource(config, SIZE, people())
    for round_num in range(1, 30):
        own = source(round_num)
        assert own.cohort == select_cohort(tuple(people()), round_num, 5, config.seed, 2)
        assert not own.drops
        assert not own.reason


def busy(**settings):
    return read_config(
        overrides={
            **read_fleet_settings("gboard-2018"), "rounds.cohort_size": 6, "fleet.sessions_per_day": 8.0,
            "fleet.day_swing": 2.0, "fleet.min_ram_mib": 0, "fleet.failure_share": 0.2, **settings,
        }
    )  # fmt: skip


def test_a_resumed_source_goes_on_as_it_would_have():
    whole, resumed = FleetSource(busy(), SIZE, people()), FleetSource(busy(), SIZE, people())
    plans = [whole(i) for i in range(1, 21)]
    again = resumed(20)
    assert (again.cohort, again.drops) == (plans[-1].cohort, plans[-1].drops)
    assert again.fleet["ended_s"] == plans[-1].fleet["ended_s"]


def test_drop_outs_reach_the_sum_by_stage():
    source = FleetSource(busy(), SIZE, people())
    plans = [source(i) for i in range(1, 61)]
    stages = {stage for own in plans for stage in own.drops.values()}
    assert {DropStage.BEFORE_UPLOAD, DropStage.BEFORE_SHARES} <= stages
    for own in plans:
        reported = [m for m in own.cohort.members if own.drops.get(m) in (None, DropStage.BEFORE_UNMASK)]
        assert own.reason or 5 <= len(reported) <= 6


@pytest.fixture
def road():
    """The fake road of the round's own tests."""
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location(
        "road", Path(__file__).parents[1] / "orchestrator_rounds" / "test_round.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fedbuff_with_a_buffer_of_one_and_no_delay_is_sequential_sgd(road):
    """Server's step 1, no staleness: the weights walk by each client's own update, within the code's grid."""
    state, expected = ServerState(0, road.START, 0), [w.copy() for w in road.START]
    for round_num, member in enumerate(road.MEMBERS, 1):
        cohort = Cohort(round_num, (member,), staleness={member: 0})
        functions = buffered_functions(road.functions(), cohort, state, 0.5)
        after, _ = run_round(
            state, cohort, functions, seed=7, client_learning_rate=1.0, server_learning_rate=1.0,
            stopwatch=road.NoClock(),
        )  # fmt: skip
        state = remember(after, state, 0)
        batches = road.batches_of(member, np.random.default_rng(0))
        expected = [w - d for w, d in zip(expected, road.delta_of(batches))]
    for own_weights, wanted in zip(state.weights, expected):
        np.testing.assert_allclose(own_weights, wanted, atol=1e-4)


def test_a_stale_update_counts_less_and_trains_from_its_own_version(road):
    """With updates that depend on the weights: delta = weights, so each member shows where it began."""

    def train_clients(weights, learning_rate, seed, batches):
        for own in batches:
            yield {
                "delta": weights,
                "num_examples": own.num_examples,
                "num_tokens": 1,
                "loss_sum": 0.0,
                "is_finite": True,
            }

    base = replace(road.functions(), train_clients=train_clients)
    old = tuple(w + 8 for w in road.START)
    state = ServerState(3, road.START, 0, earlier=(old,))
    cohort = Cohort(4, ("p1", "p2"), staleness={"p1": 1, "p2": 0})
    batches = [road.batches_of(m, np.random.default_rng(0)) for m in cohort.members]
    stale, fresh = buffered_functions(base, cohort, state, 1.0).train_clients(state.weights, 1.0, 0, iter(batches))
    np.testing.assert_array_equal(stale["delta"][0], old[0] / 2)
    np.testing.assert_array_equal(fresh["delta"][0], road.START[0])
    with pytest.raises(ValueError, match="staleness"):
        buffered_functions(base, replace(cohort, staleness={"p1": 2}), state, 1.0)


def test_a_buffer_of_stale_updates_has_the_same_sum_under_masks(road):
    """In the split sum each upload names the version that it began with; FedBuff's scaling is in the update."""
    old = tuple(w + 8 for w in road.START)
    state = ServerState(3, road.START, 0, earlier=(old, old))
    members, staleness = road.MEMBERS, {"p0": 2, "p1": 1, "p2": 1}
    cohort = Cohort(4, members, min_survivors=5, staleness=staleness)
    after = []
    for aggregation in (AggregationConfig("plain"), AggregationConfig("split"), AggregationConfig("split", helpers=3)):
        base = road.functions(aggregator=build_aggregator(aggregation))
        functions = buffered_functions(base, cohort, state, 0.5)
        after.append(
            run_round(
                state, cohort, functions, seed=7, client_learning_rate=1.0, server_learning_rate=1.0,
                stopwatch=road.NoClock(),
            )[1]
        )  # fmt: skip
    assert {report.outcome for report in after} == {"completed"}
    assert {report.survivors for report in after} == {members}
    assert len({report.aggregate_sha256 for report in after}) == 1
    assert len({report.weights_sha256 for report in after}) == 1


def test_the_versions_that_phones_work_from_are_kept():
    config = busy(**{"fleet.policy": "fedbuff", "fleet.buffer_size": 3, "fleet.concurrency": 9,
                     "aggregation.aggregator": "plain"})  # fmt: skip
    source, state = FleetSource(config, SIZE, people()), ServerState(0, (np.zeros(1, np.float32),), None)
    seen = set()
    for round_num in range(1, 60):
        own = source(round_num)
        assert len(set(own.cohort.members)) == 3
        versions = (state.weights, *state.earlier)
        for staleness in own.cohort.staleness.values():
            assert versions[staleness][0][0] == round_num - 1 - staleness  # the weights hold their own version
        seen |= set(own.cohort.staleness.values())
        after = ServerState(round_num, (np.full(1, round_num, np.float32),), None)
        state = remember(after, state, own.versions_kept)
    assert max(seen) >= 1


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
def test_an_update_may_be_as_stale_as_allowed_and_no_more(max_staleness):
    """With 60 phones at work for a buffer of 5 many updates are some steps old: the limit is met, never passed."""
    settings = {"fleet.policy": "fedbuff", "fleet.buffer_size": 5, "fleet.concurrency": 60}
    done = plan(hours=3, **settings, **{"fleet.max_staleness": max_staleness})
    staleness = np.concatenate([step.staleness for step in done.rounds])
    assert staleness.max() == max_staleness
    assert done.simulation.check_ins.outcomes[Outcome.STALE] > 0


def test_every_hardware_that_can_be_set_can_be_drawn():
    assert get_args(get_args(get_type_hints(FleetConfig, include_extras=True)["hardware"])[0]) == tuple(HARDWARE)
