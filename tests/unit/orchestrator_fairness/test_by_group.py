"""Recall and participation by group: sums give what a central count gives, and small groups never show."""

from __future__ import annotations

import numpy as np
import pytest

from models.metrics import ClientSums
from orchestrator.aggregator import PlainSum
from orchestrator.errors import BelowThreshold
from orchestrator.fairness import figures
from orchestrator.fairness.attributes import Feature, Labels
from orchestrator.fairness.by_group import PartTaken, measure_participation, measure_recall
from orchestrator.fairness.group_sums import Secure
from orchestrator.rounds.build import build_aggregator
from orchestrator.settings.sections import AggregationConfig

PEOPLE = tuple(f"p{i:03}" for i in range(60))


def random_sums(rng, num_clients=60):
    positions = rng.integers(0, 400, num_clients)
    positions[0] = 0
    hits3 = rng.binomial(positions, 0.3)
    hits1 = rng.binomial(hits3, 0.6)
    return ClientSums(hits1, hits3, positions * 5.0, positions, rng.integers(0, 9, num_clients))


def labels_of(sizes, name="tier"):
    """PEOPLE in groups a, b, ... of these sizes, in order."""
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    return Labels(name, "", tuple("abcdefghi"[: len(sizes)]), dict(zip(PEOPLE, map(int, group_of))))


class Recording:
    """The plain sum, keeping every total: what the server learns."""

    name = "plain"

    def __init__(self):
        self.totals = []

    def sum(self, vectors, cohort, drops):
        result = PlainSum().sum(vectors, cohort, drops)
        self.totals.append(result.total.astype(np.int64))
        return result


@pytest.mark.parametrize("aggregator", ["plain", pytest.param("secagg", marks=pytest.mark.slow), "encrypted", "split"])
def test_figures_by_group_are_those_of_a_central_count(aggregator):
    rng = np.random.default_rng(3)
    sums, tier = random_sums(rng), labels_of([20, 25, 15])
    bins = dict(zip(PEOPLE, map(int, rng.integers(0, 50, len(PEOPLE)))))
    feature = Feature("activity", "", 50, bins, str)
    secure = Secure(build_aggregator(AggregationConfig(aggregator=aggregator)), 10)
    got = measure_recall(PEOPLE, sums, [feature], [tier], secure, seed=0)
    for own, shown in ((labels, got.by_attribute[labels.name]) for labels in (tier, *got.thirds)):
        groups = np.array([own.group_of[person] for person in PEOPLE])
        assert shown.hidden_groups == 0
        means = []
        for i, name in enumerate(own.groups):
            mine, row = groups == i, shown.groups[name]
            counted = mine & (sums.positions >= figures.MIN_POSITIONS)
            recalls = sums.hits1[counted] / sums.positions[counted]
            means.append(sums.hits1[mine].sum() / sums.positions[mine].sum())
            assert row.clients == np.count_nonzero(sums.positions[mine])
            assert row.positions == sums.positions[mine].sum()
            assert row.top1 == means[-1]
            assert row.top3 == sums.hits3[mine].sum() / sums.positions[mine].sum()
            assert row.per_client.clients == counted.sum()
            assert row.per_client.mean == pytest.approx(recalls.mean(), abs=1e-5)
            assert row.per_client.std == pytest.approx(recalls.std(), abs=1e-4)
            assert row.per_client.worst_tenth_mean is None  # of 25 people, it would be three
            jain = recalls.sum() ** 2 / (len(recalls) * (recalls**2).sum())
            assert row.per_client.jain == pytest.approx(jain, abs=1e-3)
        assert shown.gap == pytest.approx(max(means) - min(means), abs=1e-12)
        assert shown.ratio == pytest.approx(min(means) / max(means), abs=1e-12)
    assert sum(got.histogram) == np.count_nonzero(sums.positions >= figures.MIN_POSITIONS)


def test_participation_is_that_of_a_central_count():
    rng = np.random.default_rng(4)
    tier = labels_of([30, 30])
    parts = {
        p: PartTaken(bool(rng.random() < 0.7), int(s), int(s * 0.5)) for p, s in zip(PEOPLE, rng.integers(0, 9, 60))
    }
    got = measure_participation(parts, [tier], Secure(PlainSum(), 10))["tier"]
    heard = {}
    for i, name in enumerate("ab"):
        mine = [parts[p] for p in PEOPLE if tier.group_of[p] == i]
        row = got.groups[name]
        assert (row.clients, row.able) == (30, sum(part.able for part in mine))
        assert (row.selected, row.summed) == (sum(p.selected for p in mine), sum(p.summed for p in mine))
        heard[name] = row.summed / 30
    assert got.ratio == pytest.approx(min(heard.values()) / max(heard.values()))
    assert got.four_fifths == (got.ratio >= 0.8)


@pytest.mark.parametrize("sizes", [[51, 9], [30, 21, 9], [30, 12, 10, 8], [25, 26, 5, 4], [1] * 8 + [52]])
def test_a_small_group_never_shows_nor_follows_by_subtraction(sizes):
    """Nothing that the server sums or that is printed is a small group's, or the total less what is shown."""
    labels = labels_of(sizes)
    positions = np.full(len(PEOPLE), 100)
    hits = np.arange(len(PEOPLE))  # everybody's own, so that sums over different people differ
    sums = ClientSums(hits, hits, positions * 5.0, positions, 0 * hits)
    aggregator = Recording()
    got = measure_recall(PEOPLE, sums, [], [labels], Secure(aggregator, 10), seed=0)
    shown = got.by_attribute["tier"].groups
    groups = np.array([labels.group_of[person] for person in PEOPLE])
    for i, size in enumerate(sizes):
        name = "abcdefghi"[i]
        if size < 10:
            assert name not in shown
    hidden = np.isin(groups, [i for i in range(len(sizes)) if "abcdefghi"[i] not in shown])
    assert hidden.sum() == 0 or hidden.sum() >= 10
    assert got.by_attribute["tier"].hidden_clients == hidden.sum()
    figures_seen = aggregator.totals[-1].reshape(-1, figures.WIDTH)
    assert len(figures_seen) == 1 + len(shown)
    for row in figures_seen:
        assert row[0] >= 10


def test_too_few_people_give_nothing():
    few = PEOPLE[:9]
    with pytest.raises(BelowThreshold):
        measure_recall(few, random_sums(np.random.default_rng(0), 9), [], [], Secure(PlainSum(), 10), seed=0)
