"""The report's sections on groups of people and on fine-tuning for each person."""

from __future__ import annotations

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
from orchestrator.report.fairness import personal as personal_section


def recall(clients, top1, mean):
    per_client = PerClient(clients=clients, mean=mean, std=0.05, worst_tenth_mean=0.06, jain=0.912)
    return Recall(clients=clients, positions=4000, top1=top1, top3=0.3, oov_rate=0.04, per_client=per_client)


def write_result(folder):
    """A fairness.json of people in one shown group and two hidden ones; one half of the people was never heard."""
    tier = RecallByGroup(
        about="as the fleet drew it",
        groups={"b": recall(26, 0.1712, 0.1613)},
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
    assert "2 groups are too small to show" in text
    assert "17.16% on average, 6.00% for the worst tenth; standard deviation 5.00 points" in text
    assert "below four fifths" in text
    assert section.tables[0].rows == (("b", "26", "4,000", "17.12%", "30.00%", "4.00%", "16.13%", "6.00%"),)
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
            clients=3,
            positions=300,
            before=RecallSummary(0.18, 0.3, 5.0, None, None, None, 50, 0, 3, 300, 0, 0.0),
            after=RecallSummary(0.19, 0.31, 4.9, None, None, None, 50, 0, 3, 300, 0, 0.0),
            top1_gain=0.01,
            top1_gain_of_others=0.0,
            share_better=2 / 3,
            share_worse=1 / 3,
            top1_gain_interval=(0.002, 0.018),
            setting="learning rate 0.3",
            per_person_gain=(0.03, -0.01, 0.02),
        )

    section = personal_section(Run(tmp_path, Evaluation))
    assert "+1.00 points; 95% over people: +0.20 to +1.80" in section.paragraphs[0]
    assert "better for 67% of them, worse for 33%" in section.paragraphs[0]
    assert personal_section(Run(tmp_path)) is None
