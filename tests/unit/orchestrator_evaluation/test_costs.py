"""The bill of small runs, and what it says beside it."""

from __future__ import annotations

import json

import msgspec
import pytest

from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import CostLedger, StageCost
from orchestrator.cli.tables import print_costs
from orchestrator.errors import RunFolderError
from orchestrator.evaluation.costs import read_costs
from orchestrator.rounds.types import RoundReport
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import SCHEMA, RunIdentity, digest_of_what_matters
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config

NUM_WEIGHTS = 5_000


def begin_run(path, **overrides):
    config = read_config(overrides={"rounds.cohort_size": 6, "aggregation.min_survivors": 2, **overrides})
    vocabulary = Vocabulary(SPECIAL_WORDS + ("see", "you"))
    folder = RunFolder(path)
    digest = digest_of_what_matters(config)
    identity = RunIdentity(SCHEMA, digest, "texts", "1" * 64, vocabulary.digest, NUM_WEIGHTS, {})
    folder.create(config, vocabulary, identity)
    return folder


def add_round(folder, round_num, cost, outcome="completed"):
    report = RoundReport(round_num, outcome, ("ann",), ("ann",), {}, {}, cost, "0" * 64, reason="too few")
    folder.append_round(report, wall_s=1.0)


@pytest.fixture(scope="module")
def billed(tmp_path_factory):
    """A run of two completed rounds and an abandoned one, and its figures."""
    folder = begin_run(tmp_path_factory.mktemp("runs") / "run")
    add_round(
        folder,
        1,
        CostLedger(
            per_client={"shares": StageCost(100, 50, 0.001), "upload": StageCost(4000, 0, 0.5)},
            server={"upload": StageCost(0, 24_000, 0.25)},
        ),
    )
    add_round(folder, 2, CostLedger(), outcome="abandoned")
    add_round(
        folder,
        3,
        CostLedger(
            per_client={"upload": StageCost(6000, 20, 0.7)},
            server={"upload": StageCost(0, 36_000, 0.75)},
            decryptor={"decrypt": StageCost(8, 16, 0.5)},
        ),
    )
    notes = []
    return read_costs(read_run(folder), notes.append), notes


def test_the_bill_is_the_mean_of_the_completed_rounds(billed):
    figures, _ = billed
    printed = json.loads(msgspec.json.encode(figures))
    assert printed["per_client"] == {
        "shares": {"bytes_up": 50, "bytes_down": 25, "cpu_s": 0.0005},
        "upload": {"bytes_up": 5000, "bytes_down": 10, "cpu_s": 0.6},
    }
    assert printed["server"] == {"upload": {"bytes_up": 0, "bytes_down": 30_000, "cpu_s": 0.5}}
    assert printed["decryptor"] == {"decrypt": {"bytes_up": 4, "bytes_down": 8, "cpu_s": 0.25}}
    assert (figures.rounds, figures.cohort) == (2, 6)
    assert figures.vector_bytes == 4 * (NUM_WEIGHTS + 1)


def test_each_aggregator_sums_the_same_vectors_once(billed):
    figures, notes = billed
    assert list(figures.same_vector) == ["plain", "secagg", "encrypted", "split"]
    assert len(notes) == 4
    uploads = {
        name: sum(cost.bytes_up for cost in bill.per_client.values()) for name, bill in figures.same_vector.items()
    }
    vector_bytes = figures.vector_bytes
    assert uploads["plain"] == vector_bytes
    assert vector_bytes < uploads["secagg"] < vector_bytes + 3000
    assert 3.5 * vector_bytes < uploads["encrypted"] < 6 * vector_bytes
    assert vector_bytes < uploads["split"] < vector_bytes + 300
    for name, bill in figures.same_vector.items():
        assert sum(cost.cpu_s for cost in bill.server.values()) > 0, name
        assert bool(bill.decryptor) == (name == "encrypted")
        assert bool(bill.helpers) == (name == "split")


def test_the_time_on_phones_follows_bytes_and_cpu(billed):
    figures, _ = billed
    phones = figures.on_phones
    for name, bill in figures.same_vector.items():
        up, down, cpu_s = (
            sum(getattr(c, f) for c in bill.per_client.values()) for f in ("bytes_up", "bytes_down", "cpu_s")
        )
        for access, speed in phones.networks.items():
            expected = 8 * up / (1e3 * speed.uplink_kbit_per_s) + 8 * down / (1e3 * speed.downlink_kbit_per_s)
            assert phones.transfer_s[name][access] == pytest.approx(expected)
        for tier, factor in phones.slowdown.items():
            assert phones.cpu_s_at_most[name][tier] == pytest.approx(cpu_s * factor)
    factors = [factor for _, factor in sorted(phones.slowdown.items())]  # high, low, mid
    assert factors[0] < factors[2] < factors[1]
    assert all(phones.transfer_s["encrypted"][a] > phones.transfer_s["plain"][a] for a in phones.networks)


def test_people_can_read_it(billed, capsys):
    print_costs(billed[0])
    printed = capsys.readouterr().out
    for text in (
        "mean of 2 completed rounds of 6 clients",
        "5.00 kB",
        "600 ms",
        "the decryptor",
        "20.0 kB",
        "encrypted",
        "transfer over 4G",
        "CPU at most, low: Nexus 6",
    ):
        assert text in printed, text


def test_an_aggregator_that_can_t_serve_the_cohort_says_why(tmp_path, capsys):
    folder = begin_run(tmp_path / "run", **{"rounds.cohort_size": 2, "aggregation.aggregator": "plain"})
    add_round(folder, 1, CostLedger(per_client={"upload": StageCost(4000)}))
    figures = read_costs(read_run(folder), lambda text: None)
    assert "a cohort of 2" in figures.same_vector["secagg"].error
    print_costs(figures)
    assert "secagg: not possible here: a cohort of 2" in capsys.readouterr().out


def test_a_run_without_a_completed_round_has_no_bill(tmp_path):
    folder = begin_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="has no round yet"):
        read_costs(read_run(folder), print)
    add_round(folder, 1, CostLedger(), outcome="abandoned")
    with pytest.raises(RunFolderError, match="has no completed round to bill: its last says: too few"):
        read_costs(read_run(folder), print)
    with pytest.raises(RunFolderError, match="holds no run"):
        read_costs(read_run(RunFolder(tmp_path / "nothing")), print)
