"""The loss that a training shows: labelled, a plain mean, and the same after a resume."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.aggregator import CostLedger
from orchestrator.cli.console import SMOOTHED_ROUNDS, ProgressObserver
from orchestrator.rounds.types import RoundReport

LOSSES = [float(loss) for loss in range(30, 0, -1)]  # of 30 rounds
DEV = {"dev_top1": 0.1234, "dev_top3": 0.2345}


def report_of(round_num, loss):
    metrics = {} if loss is None else {"train_loss": loss}
    return RoundReport(round_num, "completed", ("ann",), ("ann",), metrics, {}, CostLedger(), "0" * 64)


def shown_after(losses, capsys, first_round=1, folder=None):
    """The line on the last of some rounds."""
    with ProgressObserver(folder) as observer:
        observer.begin(first_round, 40)
        for round_num, loss in enumerate(losses, first_round):
            observer.round_done(report_of(round_num, loss), DEV)
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("losses", "shown"),
    [
        ([5.0], "round 1: loss of 1 round 5.000 nats, dev top-1 12.34% top-3 23.45%"),
        ([5.0, None, 4.0], "round 3: loss of 2 rounds 4.500 nats, dev top-1 12.34% top-3 23.45%"),
        (LOSSES, "round 30: loss of 20 rounds 10.500 nats, dev top-1 12.34% top-3 23.45%"),  # 20 down to 1
    ],
)
def test_the_loss_is_the_mean_of_the_last_rounds_and_says_so(losses, shown, capsys):
    assert SMOOTHED_ROUNDS == 20
    assert shown_after(losses, capsys) == shown


def test_a_resume_shows_the_same_loss(capsys):
    done = [SimpleNamespace(metrics={"train_loss": loss}) for loss in LOSSES[:25]]
    folder = SimpleNamespace(rounds=lambda: done)
    resumed = shown_after(LOSSES[25:], capsys, first_round=26, folder=folder)
    assert resumed == shown_after(LOSSES, capsys)
