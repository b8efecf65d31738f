"""Training under a fleet in TFF: an ideal one changes nothing; a killed run goes on to the same weights; the report."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SMALL = [
    "--preset", "smoke", "--cohort", "6", "--rounds", "8", "--set", "data.vocabulary_size=120",
    "--set", "model.vocabulary_size=60", "--set", "model.embedding_size=8", "--set", "model.num_cells=12",
    "--set", "rounds.checkpoint_every=3", "--set", "evaluation.every=4",
]  # fmt: skip
FLEET = """
[fleet]
policy = "{policy}"
sessions_per_day = 8.0
day_swing = 2.0
min_ram_mib = 0
failure_share = 0.2
buffer_size = 3
concurrency = 8
[aggregation]
aggregator = "{aggregator}"
"""


def fedkeys(*args):
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *map(str, args)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    lines = [
        {"client_id": f"p{person:02}", "text": f"i like my {rng.choice(['dog', 'cat', 'game'])} word{person}"}
        for person in range(60)
        for _ in range(24)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def train(run, text, *args):
    return json.loads(fedkeys("train", "--run", run, "--data", text, *SMALL, *args, "--json"))["weights_sha256"]


def test_an_ideal_fleet_gives_the_weights_of_no_fleet(text, tmp_path):
    without = train(tmp_path / "without", text, "--workers", "1")
    assert train(tmp_path / "ideal", text, "--workers", "2", "--fleet", "ideal") == without


@pytest.mark.parametrize(("policy", "aggregator"), [("sync", "secagg"), ("fedbuff", "split")])
def test_a_killed_run_goes_on_to_the_same_weights(text, tmp_path, policy, aggregator):
    settings = tmp_path / "fleet.toml"
    settings.write_text(FLEET.format(policy=policy, aggregator=aggregator))
    whole = tmp_path / "whole"
    digest = train(whole, text, "--workers", "1", "--fleet", settings)
    cut = tmp_path / "cut"
    shutil.copytree(whole, cut)
    (cut / "checkpoints" / "round_000008.npz").unlink()
    resumed = json.loads(fedkeys("train", "--run", cut, "--resume", "--workers", "1", "--json"))
    assert resumed["weights_sha256"] == digest
    lines = [json.loads(line) for line in (cut / "rounds.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (whole / "rounds.jsonl").read_text().splitlines()]
    assert [line["fleet"] for line in lines] == [line["fleet"] for line in before]
    assert len(json.loads((whole / "fleet_devices.json").read_text())) >= 40
    assert json.loads(fedkeys("replay", "--run", whole, "--round", 8, "--json"))["weights_sha256"] == digest
    fedkeys("report", "--run", whole)
    assert "The fleet: who is awake" in (whole / "report.html").read_text()
