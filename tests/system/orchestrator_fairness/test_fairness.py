"""`fedkeys fairness` on a run that was trained here: the figures of `fedkeys evaluate`, and what is refused."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from models.corpus import split_people
from models.metrics import ClientSums

pytestmark = pytest.mark.slow

SMALL = [
    "--cohort=4",
    "--aggregator=encrypted",
    "--workers=1",
    *(
        f"--set={s}"
        for s in (
            "model.embedding_size=8",
            "model.num_cells=8",
            "data.max_words=8",
            "client.batch_size=4",
            "data.test_share=0.2",
        )
    ),
]


def fedkeys(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two rounds on 120 people, half of whom write words of their own."""
    folder = tmp_path_factory.mktemp("fairness")
    rng = random.Random(0)
    with open(folder / "people.jsonl", "w") as file:
        for person in range(120):
            rare = "".join(rng.choice("bcdfg") for _ in range(6)) if person % 2 else "dog"
            for _ in range(12):
                text = f"{rng.choice(['i like', 'do you see', 'see'])} my {rare} today"
                file.write(json.dumps({"client_id": f"p{person:03}", "text": text}) + "\n")
    done = fedkeys("train", "--run", folder / "run", "--data", folder / "people.jsonl", "--rounds", 2, *SMALL)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_pooled_figures_are_those_of_evaluate(run, tmp_path):
    groups = tmp_path / "groups.csv"
    split = split_people([f"p{i:03}" for i in range(120)], seed=0, test_share=0.2)
    rows = [f"{person},{'ab'[i % 2]}\n" for part in (split.test, split.train) for i, person in enumerate(part)]
    groups.write_text("client_id,side\n" + "".join(rows))
    done = fedkeys("fairness", "--run", run, "--groups", groups, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures == json.loads((run / "fairness.json").read_text())
    assert fedkeys("evaluate", "--run", run).returncode == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    for name in ("positions", "clients", "oov_rate"):
        assert figures[name] == pytest.approx(evaluation[name])
    assert figures["top1"] == pytest.approx(evaluation["model"]["top1"])
    assert figures["top3"] == pytest.approx(evaluation["model"]["top3"])
    assert figures["per_client"]["mean"] == pytest.approx(evaluation["model"]["top1_per_client_mean"], abs=1e-4)
    sides = figures["attributes"]["side"]["groups"]
    assert sum(group["positions"] for group in sides.values()) == figures["positions"]
    heard = figures["participation"]["side"]["groups"]
    assert sum(group["summed"] for group in heard.values()) == 8
    assert sum(group["clients"] for group in heard.values()) == 84
    assert set(figures["not_measured"]) == {"device tier", "network", "time zone"}
    assert fedkeys("report", "--run", run).returncode == 0
    assert "Whom does it serve well" in (run / "report.html").read_text()


def test_what_is_refused_and_how(run, tmp_path):
    groups = tmp_path / "groups.csv"
    groups.write_text("client_id,side\nzoe,a\n")
    done = fedkeys("fairness", "--run", run, "--groups", groups)
    assert done.returncode == 2
    assert "the first 'zoe'" in done.stderr.strip().splitlines()[-1]
    done = fedkeys("fairness", "--run", run, "--min-group", 30, "--no-participation")
    assert done.returncode == 3
    assert "at least 30 are needed to show a figure" in done.stderr.strip().splitlines()[-1]


def test_who_gains_and_who_loses_is_told_apart():
    """Four people, one without a word to score; one of them carries the whole gain."""
    from orchestrator.evaluation.personal import Setting, personal_gains

    def sums(hits):
        hits = np.array(hits)
        return ClientSums(hits, hits, np.array([1.0, 2.0, 3.0, 0.0]), np.array([10, 20, 30, 0]), np.zeros(4, int))

    figures = personal_gains(Setting(0.3, 3, 0.5), sums([1, 2, 3, 0]), sums([5, 2, 2, 0]))
    assert list(figures.per_person_gain) == pytest.approx([0.4, 0.0, -1 / 30])
    assert figures.top1_gain == pytest.approx(3 / 60)
    assert figures.top1_gain_of_others == pytest.approx(-1 / 50)
    assert (figures.share_better, figures.share_worse) == pytest.approx((1 / 3, 1 / 3))
