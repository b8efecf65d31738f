"""The report's sections on groups of people and on fine-tuning for each person."""

from __future__ import annotations

import pytest

from models.metrics import RecallSummary
from orchestrator.evaluation.results import Personalised
from orchestrator.fairness.results import (
    FairnessResult,
    Part,
    PartByGroup,
    PerClient,
    Recall,
    RecallByGroup,
    write_fairness,
)
from orchestrator.report.fairness import fairness as fairness_section
from orchestrator.report.fairness import margin_of_mean
from orchestrator.report.fairness import personal as personal_section
from orchestrator.report.plots.fairness import GroupRecall, group_dots


def recall(clients, top1, mean):
    per_client = PerClient(clients=clients, mean=mean, std=0.05, worst_tenth_mean=0.06, jain=0.912)
    return Recall(clients=clients, positions=4000, top1=top1, top3=0.3, oov_rate=0.04, per_client=per_client)


def write_result(folder):
    """A fairness.json of people in one shown group and two hidden ones; one half of the people was never heard."""
    tier = RecallByGroup(
        about="as the fleet drew it",
        groups={"b": recall(26, 0.1712, 0.1613), "few": recall(9, 0.7777, 0.7777)},
        hidden_groups=2,
        hidden_clients=34,
        gap=None,
        ratio=None,
        client_mean_gap=None,
        p_value=None,
        permutations=0,
    )
    parts = {
        "a": Part(clients=30, able=30, selected=120, summed=120, share_of_clients=0.5, share_of_summed=1.0),
        "b": Part(clients=30, able=30, selected=120, summed=0, share_of_clients=0.5, share_of_summed=0.0),
    }
    heard = PartByGroup(groups=parts, hidden_groups=0, hidden_clients=0, ratio=0.0, four_fifths=False)
    everybody = recall(60, 0.1815, 0.1716)
    write_fairness(
        folder,
        FairnessResult(
            round_num=7,
            weights_sha256="0" * 64,
            people="test",
            aggregator="plain",
            min_group_size=10,
            min_positions=20,
            clients=everybody.clients,
            positions=everybody.positions,
            top1=everybody.top1,
            top3=everybody.top3,
            oov_rate=everybody.oov_rate,
            per_client=everybody.per_client,
            recall_histogram=(0,) * 100,
            attributes={"tier": tier},
            participation={"tier": heard},
            not_measured={"time zone": "nobody knows"},
        ),
    )


class Run:
    """What the sections read of a report's run."""

    def __init__(self, path, evaluation=None):
        self.path, self.evaluation = path, evaluation


def test_the_reports_section_shows_groups_that_may_show(tmp_path):
    assert "fedkeys fairness --run" in fairness_section(Run(tmp_path)).paragraphs[0]
    write_result(tmp_path)
    section = fairness_section(Run(tmp_path))
    text = " ".join(section.paragraphs)
    assert "2 groups not shown: too small" in text
    assert "17.16% on average; the worst tenth of the people: under 10 people: not shown; standard deviation" in text
    assert "below four fifths" in text
    assert section.tables[0].rows == (("b", "26", "4,000", "17.12%", "30.00%", "4.00%", "16.13%", "–"),)
    assert "under 10 people: not shown" in section.tables[0].caption
    assert "77.77" not in str(section)  # of nine people, in a file of an older version
    assert len(section.figures) == 2
    assert all(figure.svg.startswith("<svg") for figure in section.figures)
    assert section.points == ("Not measured: time zone: nobody knows.",)


def test_the_section_on_fine_tuning_shows_winners_and_losers(tmp_path):
    class Evaluation:
        fine_tuning = Personalised(
            learning_rate=0.3,
            epochs=1,
            step=1.0,
            history_share=0.8,
            clients=30,
            positions=300,
            before=RecallSummary(0.18, 0.3, 5.0, None, None, None, 50, 0, 3, 300, 0, 0.0),
            after=RecallSummary(0.19, 0.31, 4.9, None, None, None, 50, 0, 3, 300, 0, 0.0),
            top1_gain=0.01,
            top1_gain_of_others=0.0,
            share_better=2 / 3,
            share_worse=1 / 3,
            top1_gain_interval=(0.002, 0.018),
            setting="learning rate 0.3",
            per_person_gain=(0.0345, *[0.02] * 9, *[0.0] * 10, *[-0.01] * 9, -0.0456),
        )

    section = personal_section(Run(tmp_path, Evaluation))
    assert "+1.00 points; 95% over people: +0.20 to +1.80" in section.paragraphs[0]
    assert "better for 67% of them, worse for 33%" in section.paragraphs[0]
    svg = section.figures[0].svg
    # Ten people gain 0.18 + 0.0345 together, and ten others lose 0.09 + 0.0456.
    assert all(f">{own}<" in svg for own in ("+2.1", "+0.0", "-1.4"))
    assert not any(own in str(section) for own in ("3.45", "+3.5", "4.56", "-4.6"))
    assert personal_section(Run(tmp_path)) is None


def test_the_axis_of_the_groups_begins_at_zero_and_their_means_have_intervals():
    """Ten people with a standard deviation of 5 points: t is 2.262 at 9 degrees, so the margin is 3.77 points."""
    per_client = PerClient(clients=10, mean=0.2, std=0.05, worst_tenth_mean=None, jain=0.9)
    assert margin_of_mean(per_client) == pytest.approx(0.0377, abs=1e-4)
    svg = group_dots([GroupRecall("tier", "b", 0.18, 0.2, 0.0377)], over_all=0.19)
    assert ">0%<" in svg
