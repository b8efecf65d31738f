"""The loop over rounds: where it ends, and when it gives up."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.aggregator import CostLedger
from orchestrator.errors import BelowThreshold, Diverged
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.lines import line_of
from orchestrator.run.loop import MAX_ABANDONED, WallClock, require_completed, run_rounds

STATE = ServerState(0, (np.zeros(2, np.float32),), {})


def rounds_that(abandoned):
    """(runs one round, which rounds it ran); those in `abandoned` are."""
    ran = []

    def run_one(state):
        number = state.round_num + 1
        ran.append(number)
        outcome = "abandoned" if number in abandoned else "completed"
        report = RoundReport(number, outcome, (), (), {}, {}, CostLedger(), "0" * 64, f"reason {number}")
        return ServerState(number, state.weights, {}), report

    return run_one, ran


def test_it_runs_from_where_the_run_stands_to_the_last_round():
    run_one, ran = rounds_that(abandoned=())
    assert run_rounds(ServerState(3, STATE.weights, {}), 6, run_one).round_num == 6
    assert ran == [4, 5, 6]
    assert run_rounds(ServerState(6, STATE.weights, {}), 6, run_one).round_num == 6
    assert ran == [4, 5, 6]


def test_ten_abandoned_rounds_in_a_row_end_it_and_nine_do_not():
    nine = range(1, MAX_ABANDONED)
    run_one, _ = rounds_that(abandoned=(*nine, *(MAX_ABANDONED + number for number in nine)))
    assert run_rounds(STATE, 30, run_one).round_num == 30
    run_one, ran = rounds_that(abandoned=range(3, 30))
    with pytest.raises(BelowThreshold, match="10 rounds in a row were abandoned, the last because: reason 12"):
        run_rounds(STATE, 30, run_one)
    assert ran == list(range(1, 13))


def test_a_stage_within_another_takes_its_time_from_it():
    clock = WallClock()
    with clock.stage("outer"), clock.stage("inner"):
        pass
    taken = clock.take()
    assert list(taken) == ["outer", "inner"]
    assert clock.take() == {}


def test_a_run_without_a_completed_round_has_no_model():
    def lines(*rounds):
        reports = (RoundReport(n, o, (), (), {}, {}, CostLedger(), "", why) for n, (o, why) in enumerate(rounds, 1))
        return [line_of(report, 0.1) for report in reports]

    require_completed([])
    require_completed(lines(("abandoned", "too few"), ("completed", ""), ("abandoned", "too few")))
    with pytest.raises(BelowThreshold, match="no round of 2 was completed.*the last because: too few"):
        require_completed(lines(("abandoned", "too few"), ("abandoned", "too few")))
    with pytest.raises(Diverged, match="the training of all 5 clients diverged") as caught:
        require_completed(lines(("abandoned", "the training of all 5 clients diverged: lower it")))
    assert caught.value.exit_code == 3
