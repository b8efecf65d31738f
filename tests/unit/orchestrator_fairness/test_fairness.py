"""Fairness by group: sums give what a central count gives, small groups never show, the test keeps its level."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from scipy import stats

from models.corpus import ClientText
from models.metrics import ClientSums, RecallSummary
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import PlainSum
from orchestrator.errors import BelowThreshold, FairnessError, RunFolderError
from orchestrator.evaluation.results import Personalised
from orchestrator.fairness import attributes, figures, group_sums
from orchestrator.fairness.attributes import Feature, Labels
from orchestrator.fairness.by_group import PartTaken, participation_figures, recall_figures
from orchestrator.fairness.group_sums import Secure
from orchestrator.fairness.results import read_fairness, verdict
from orchestrator.report.fairness import fairness as fairness_section
from orchestrator.report.fairness import personal as personal_section
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


@pytest.mark.parametrize("aggregator", ["plain", pytest.param("secagg", marks=pytest.mark.slow), "encrypted"])
def test_figures_by_group_are_those_of_a_central_count(aggregator):
    rng = np.random.default_rng(3)
    sums, tier = random_sums(rng), labels_of([20, 25, 15])
    bins = dict(zip(PEOPLE, map(int, rng.integers(0, 50, len(PEOPLE)))))
    feature = Feature("activity", "", 50, bins, str)
    secure = Secure(build_aggregator(AggregationConfig(aggregator=aggregator)), 10)
    got, cut = recall_figures(PEOPLE, sums, [feature], [tier], secure, seed=0)
    for own, shown in ((labels, got["attributes"][labels.name]) for labels in (tier, *cut)):
        groups = np.array([own.group_of[person] for person in PEOPLE])
        assert shown["hidden_groups"] == 0
        means = []
        for i, name in enumerate(own.groups):
            mine, row = groups == i, shown["groups"][name]
            counted = mine & (sums.positions >= figures.MIN_POSITIONS)
            recalls = sums.hits1[counted] / sums.positions[counted]
            means.append(sums.hits1[mine].sum() / sums.positions[mine].sum())
            assert row["clients"] == np.count_nonzero(sums.positions[mine])
            assert row["positions"] == sums.positions[mine].sum()
            assert row["top1"] == means[-1]
            assert row["top3"] == sums.hits3[mine].sum() / sums.positions[mine].sum()
            assert row["per_client"]["clients"] == counted.sum()
            assert row["per_client"]["mean"] == pytest.approx(recalls.mean(), abs=1e-5)
            assert row["per_client"]["std"] == pytest.approx(recalls.std(), abs=1e-4)
            worst = np.sort(recalls)[: -(-len(recalls) // 10)].mean()
            assert row["per_client"]["worst_tenth_mean"] == pytest.approx(worst, abs=0.5 / figures.BINS + 1e-9)
            jain = recalls.sum() ** 2 / (len(recalls) * (recalls**2).sum())
            assert row["per_client"]["jain"] == pytest.approx(jain, abs=1e-3)
        assert shown["gap"] == pytest.approx(max(means) - min(means), abs=1e-12)
        assert shown["ratio"] == pytest.approx(min(means) / max(means), abs=1e-12)
    assert sum(got["recall_histogram"]) == np.count_nonzero(sums.positions >= figures.MIN_POSITIONS)


def test_participation_is_that_of_a_central_count():
    rng = np.random.default_rng(4)
    tier = labels_of([30, 30])
    parts = {
        p: PartTaken(bool(rng.random() < 0.7), int(s), int(s * 0.5)) for p, s in zip(PEOPLE, rng.integers(0, 9, 60))
    }
    got = participation_figures(parts, [tier], Secure(PlainSum(), 10))["tier"]
    heard = {}
    for i, name in enumerate("ab"):
        mine = [parts[p] for p in PEOPLE if tier.group_of[p] == i]
        row = got["groups"][name]
        assert (row["clients"], row["able"]) == (30, sum(part.able for part in mine))
        assert (row["selected"], row["summed"]) == (sum(p.selected for p in mine), sum(p.summed for p in mine))
        heard[name] = row["summed"] / 30
    assert got["ratio"] == pytest.approx(min(heard.values()) / max(heard.values()))
    assert got["four_fifths"] == (got["ratio"] >= 0.8)


@pytest.mark.parametrize("sizes", [[51, 9], [30, 21, 9], [30, 12, 10, 8], [25, 26, 5, 4], [1] * 8 + [52]])
def test_a_small_group_never_shows_nor_follows_by_subtraction(sizes):
    """Nothing that the server sums or that is printed is a small group's, or the total less what is shown."""
    labels = labels_of(sizes)
    positions = np.full(len(PEOPLE), 100)
    hits = np.arange(len(PEOPLE))  # everybody's own, so that sums over different people differ
    sums = ClientSums(hits, hits, positions * 5.0, positions, 0 * hits)
    aggregator = Recording()
    got, _ = recall_figures(PEOPLE, sums, [], [labels], Secure(aggregator, 10), seed=0)
    shown = got["attributes"]["tier"]["groups"]
    groups = np.array([labels.group_of[person] for person in PEOPLE])
    for i, size in enumerate(sizes):
        name = "abcdefghi"[i]
        if size < 10:
            assert name not in shown
    hidden = np.isin(groups, [i for i in range(len(sizes)) if "abcdefghi"[i] not in shown])
    assert hidden.sum() == 0 or hidden.sum() >= 10
    assert got["attributes"]["tier"]["hidden_clients"] == hidden.sum()
    figures_seen = aggregator.totals[-1].reshape(-1, figures.WIDTH)
    assert len(figures_seen) == 1 + len(shown)
    for row in figures_seen:
        assert row[0] >= 10


def test_suppression_holds_for_any_sizes():
    rng = np.random.default_rng(5)
    for _ in range(3000):
        counted = rng.integers(0, 25, rng.integers(1, 7))
        sizes = np.stack([counted + rng.integers(0, 3, len(counted)), counted], axis=1)
        shown = group_sums.groups_to_show(sizes, 0, 10)
        hidden = [i for i in range(len(sizes)) if i not in shown]
        assert all(sizes[i, 1] >= 10 for i in shown)
        assert not shown or sizes[hidden, 0].sum() == 0 or sizes[hidden, 1].sum() >= 10


def test_too_few_people_give_nothing():
    few = PEOPLE[:9]
    with pytest.raises(BelowThreshold):
        recall_figures(few, random_sums(np.random.default_rng(0), 9), [], [], Secure(PlainSum(), 10), seed=0)


def test_a_sum_that_would_wrap_is_refused():
    with pytest.raises(ValueError, match="entries must lie in"):
        Secure(PlainSum(), 1).total({"a": np.array([2**31]), "b": np.array([2**31])}, step=1)


def test_the_permutation_test_keeps_its_level(monkeypatch):
    """n = 400 data sets without a difference between groups; rejections at 5 % are binomial: false alarm below 1e-6."""
    monkeypatch.setattr(figures, "NUM_PERMUTATIONS", 499)
    rng = np.random.default_rng(6)
    num_sets, level = 400, 0.05
    rejected = 0
    for i in range(num_sets):
        histograms = np.zeros((3, figures.BINS), np.int64)
        for group, size in enumerate((12, 40, 60)):  # unequal, skewed, with ties: what a test of normals would dislike
            recalls = rng.beta(2, 9, size)
            np.add.at(histograms[group], (figures.BINS * recalls).astype(int), 1)
        rejected += figures.permutation_test(histograms, seed=i)["p_value"] < level
    assert rejected <= stats.binom.isf(1e-6, num_sets, level)
    assert rejected >= stats.binom.ppf(1e-6, num_sets, level)


def test_the_permutation_test_sees_a_difference():
    rng = np.random.default_rng(7)
    histograms = np.zeros((2, figures.BINS), np.int64)
    for group, mean in enumerate((0.15, 0.25)):
        np.add.at(histograms[group], (figures.BINS * rng.normal(mean, 0.03, 40)).astype(int), 1)
    assert figures.permutation_test(histograms, seed=0)["p_value"] == 1e-4


def test_thirds_are_cut_where_the_histogram_says():
    bins = {f"u{i}": i // 2 for i in range(30)}
    labels = attributes.thirds(Feature("x", "", 20, bins, str), np.bincount(list(bins.values()), minlength=20))
    assert np.bincount(list(labels.group_of.values())).tolist() == [10, 10, 10]
    everyone_alike = attributes.thirds(Feature("x", "", 3, {"u": 1}, str), np.array([0, 7, 0]))
    assert everyone_alike.groups == ("everybody",)
    assert everyone_alike.group_of == {"u": 0}


def test_features_come_from_the_clients_own_text():
    vocabulary = Vocabulary(SPECIAL_WORDS + tuple(f"w{i}" for i in range(1500)))
    text = ClientText("u", ("w0 w1 w999", "w1000 never"), (None, None))
    assert attributes.vocabulary_distance({"u": text}, vocabulary).bin_of == {"u": 80}  # two words of five: 40 %
    assert attributes.activity({"u": text}).bin_of == {"u": 9}  # 4 log2(5) = 9.29


def test_a_groups_file_labels_people(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("client_id,age,city\na,30,x\nb,9,\n")
    age, city = attributes.read_groups(path, ["a", "b", "c"], ["a", "b", "c"])
    assert age.groups == ("9", "30", attributes.NOT_GIVEN)
    assert age.group_of == {"a": 1, "b": 0, "c": 2}
    assert city.groups == ("x", attributes.NOT_GIVEN)
    as_json = tmp_path / "groups.json"
    as_json.write_text(json.dumps({"a": {"age": 30}, "b": {"age": 9}}))
    assert attributes.read_groups(as_json, "abc", "abc") == [
        Labels("age", "age, from groups.json", age.groups, age.group_of)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.csv", "client_id,age\na,1\nzoe,2\n", "names 1 clients that the run's text has not, the first 'zoe'"),
        ("g.csv", "person,age\na,1\n", "line 1: must name the columns, one of them client_id"),
        ("g.csv", "client_id,age\na,1\na,2\n", "'a' is there twice"),
        ("g.csv", "client_id,age\na\n", "must have as many columns as line 1"),
        ("g.csv", "client_id\na\n", "has no groups"),
        ("g.json", "[1]", "write {"),
        ("g.csv", b"client_id,age\na,\xff\n", "is not UTF-8"),
        (None, "", "can't be read"),
    ],
)
def test_a_bad_groups_file_is_refused_in_one_line(tmp_path, name, content, message):
    path = tmp_path / (name or "missing.csv")
    if name:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FairnessError) as caught:
        attributes.read_groups(path, ["a", "b"], ["a", "b"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_no_groups(tmp_path):
    path = tmp_path / "g.csv"
    people = [f"u{i}" for i in range(50)]
    path.write_text("client_id,name\n" + "".join(f"{p},{p}\n" for p in people))
    with pytest.raises(FairnessError, match="put them together"):
        attributes.read_groups(path, people, people)


def test_devices_of_a_fleet_become_attributes(tmp_path):
    path = tmp_path / "fleet_devices.json"
    path.write_bytes(msgspec.json.encode({"a": {"tier": "low", "access": "wifi", "time_zone": -7}}))
    tier, network, zone = attributes.read_devices(path, ["a", "b"])
    assert (tier.name, network.name, zone.name) == ("device tier", "network", "time zone")
    assert zone.groups == ("-7", attributes.NOT_GIVEN)
    assert tier.says_something(["a", "b"])
    assert not tier.says_something(["b"])  # a fleet knows training people only


def write_figures(folder):
    """A fairness.json of people in two shown groups and a hidden one, and participation that leaves one group out."""
    tier = labels_of([26, 26, 8])
    secure = Secure(PlainSum(), 10)
    own, _ = recall_figures(PEOPLE, random_sums(np.random.default_rng(1)), [], [tier], secure, seed=0)
    parts = {person: PartTaken(True, 4, 4 * (tier.group_of[person] == 0)) for person in PEOPLE}
    figures_of_run = {
        "round_num": 7,
        "people": "test",
        "aggregator": "plain",
        "min_group_size": 10,
        "min_positions": 20,
        **own,
        "participation": participation_figures(parts, [labels_of([30, 30])], secure),
        "not_measured": {"time zone": "nobody knows"},
    }
    (folder / "fairness.json").write_bytes(msgspec.json.encode(figures_of_run))
    return figures_of_run


class Run:
    """What the sections read of a report's run."""

    def __init__(self, path, evaluation=None):
        self.path, self.evaluation = path, evaluation


def test_the_reports_section_shows_groups_that_may_show(tmp_path):
    assert "fedkeys fairness --run" in fairness_section(Run(tmp_path)).paragraphs[0]
    written = write_figures(tmp_path)
    assert list(written["attributes"]["tier"]["groups"]) == ["b"]  # a is hidden lest c follow by subtraction
    section = fairness_section(Run(tmp_path))
    text = " ".join(section.paragraphs)
    assert "2 groups too small to show" in text
    assert "below four fifths" in text
    assert [row[0] for row in section.tables[0].rows] == ["b"]
    assert len(section.figures) == 2
    assert all(figure.svg.startswith("<svg") for figure in section.figures)
    assert section.points == ("Not measured: time zone: nobody knows.",)


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "fairness.json").write_text("{")
    with pytest.raises(RunFolderError, match="is damaged"):
        read_fairness(tmp_path)


def test_a_verdict_counts_attributes():
    attribute = {"hidden_groups": 0, "gap": 0.05, "ratio": 0.8, "client_mean_gap": 0.05, "p_value": 0.02}
    assert "more than chance." in verdict(attribute, 1)
    assert "no more than chance would give (that takes p < 0.017)." in verdict(attribute, 3)


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
