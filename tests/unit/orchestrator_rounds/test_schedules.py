from __future__ import annotations

import pytest

from orchestrator.errors import ConfigError
from orchestrator.rounds.schedules import learning_rate_at


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_holds_until_the_decay_starts_and_ends_at_the_floor(schedule: str) -> None:
    rates = [learning_rate_at(r, 100, 2.0, schedule, decay_start=0.4, decay_floor=0.05) for r in range(1, 101)]
    assert rates[:40] == [2.0] * 40
    assert all(later < earlier for earlier, later in zip(rates[39:], rates[40:]))
    assert rates[-1] == pytest.approx(0.1)


def test_linear_and_cosine_meet_half_way_down_and_differ_before() -> None:
    linear, cosine = (
        [learning_rate_at(r, 8, 1.0, schedule, decay_floor=0.5) for r in range(1, 9)]
        for schedule in ("linear", "cosine")
    )
    assert linear[3] == pytest.approx(0.75)
    assert cosine[3] == pytest.approx(0.75)
    # Half a cosine after a quarter of the way: (1 + cos(pi / 4)) / 2 = 0.853553
    assert linear[1] == pytest.approx(0.875)
    assert cosine[1] == pytest.approx(0.5 + 0.5 * 0.853553, abs=1e-6)


def test_constant_ignores_the_decay() -> None:
    assert {learning_rate_at(r, 10, 0.3, "constant", 0.0, 0.0) for r in range(1, 11)} == {0.3}


def test_warm_up_climbs_in_equal_steps_to_the_full_rate() -> None:
    rates = [learning_rate_at(r, 10, 1.0, warmup_rounds=3) for r in range(1, 6)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_a_decay_that_starts_at_the_end_never_comes() -> None:
    assert learning_rate_at(10, 10, 1.0, "linear", decay_start=1.0, decay_floor=0.0) == 1.0


def test_a_run_of_one_round_is_its_own_last_round() -> None:
    assert learning_rate_at(1, 1, 1.0, "linear", decay_start=0.4, decay_floor=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("round_num", [0, 11])
def test_a_round_outside_the_run_is_refused(round_num: int) -> None:
    with pytest.raises(ValueError, match=f"round_num={round_num}, num_rounds=10"):
        learning_rate_at(round_num, 10, 1.0)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="schedule = 'step'"):
        learning_rate_at(1, 10, 1.0, "step")
