"""Differential privacy as a user meets it: a killed run repeats its releases, a spent budget ends with 3."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from orchestrator.privacy.ledger import read_ledger
from orchestrator.run.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TRAIN = [sys.executable, "-m", "orchestrator.cli", "train", "--preset", "private"]
SMALL = [
    "--cohort", "6", "--workers", "1", "--aggregator", "plain", "--set", "client.epochs=1",
    "--set", "data.vocabulary_size=120", "--set", "model.vocabulary_size=60", "--set", "model.embedding_size=8",
    "--set", "model.num_cells=12", "--set", "rounds.checkpoint_every=3", "--set", "evaluation.every=100",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Thirty people with 24 sentences each; 24 of them train, in four turns of six."""
    rng, path = random.Random(0), tmp_path_factory.mktemp("text") / "people.jsonl"
    sentences = [f"i like my {thing}" for thing in ("dog", "cat", "house", "friend")]
    lines = [
        {"client_id": f"p{p:02}", "text": rng.choice(sentences), "timestamp": t} for p in range(30) for t in range(24)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_killed_run_repeats_its_releases(text, tmp_path):
    run = tmp_path / "run"
    command = [
        *TRAIN,
        "--run",
        str(run),
        "--data",
        str(text),
        "--rounds",
        "300",
        *SMALL,
        "--set",
        "privacy.mechanism=tree",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while len(RunFolder(run).rounds()) < 5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = RunFolder(run).rounds()
    _, charges = read_ledger(run)
    assert len(charges) >= len(before)  # charged first, then released and told
    seed = (run / "noise_seed").read_bytes()

    with subprocess.Popen([*command, "--resume"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not RunFolder(run).rounds() or RunFolder(run).rounds()[-1].round_num < len(charges) + 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    after = RunFolder(run).rounds()
    for told, again in zip(before, after):
        assert told.weights_sha256 == again.weights_sha256
        assert told.epsilon == again.epsilon
    _, charged = read_ledger(run)
    assert [charge.round_num for charge in charged] == list(range(1, len(charged) + 1))  # none twice
    assert charged[: len(charges)] == charges
    assert (run / "noise_seed").read_bytes() == seed


def test_a_spent_budget_ends_with_3_and_a_model(text, tmp_path):
    run = tmp_path / "run"
    done = subprocess.run(
        [*TRAIN, "--run", str(run), "--data", str(text), "--rounds", "20", *SMALL, "--set", "privacy.mechanism=central",
         "--set", "privacy.noise_multiplier=1", "--set", "privacy.epsilon=4.5", "--json"],
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "the budget is spent" in done.stderr.splitlines()[-1]
    folder = RunFolder(run)
    last = folder.rounds()[-1]
    state = folder.load_checkpoint()
    assert state.round_num == last.round_num == len(read_ledger(run)[1])
    assert 0 < last.epsilon <= 4.5


def test_canary_clients_in_training_are_audited_and_replayed(text, tmp_path):
    """The figures' worth is tested on mechanisms that are known; here it is the way from train to audit and report."""
    run = tmp_path / "run"

    def fedkeys(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    fedkeys(
        *TRAIN[3:], "--run", str(run), "--data", str(text), "--rounds", "9", *SMALL, "--aggregator", "secagg",
        "--cohort", "16", "--set", "privacy.epsilon=10", "--set", "audit.canaries=24",
        "--set", "rounds.keep_checkpoints=2",
    )  # fmt: skip
    assert read_ledger(run)[0].population == 24 + 24
    audit = json.loads(fedkeys("audit", "--run", str(run), "--json"))
    whole = audit["whole_run"]
    assert whole["rounds"] == 9
    assert whole["canaries"] == 24
    assert 0.0 <= whole["one_run"]["epsilon"] < audit["stated"]["run"]
    assert whole["all_releases"]["epsilon_interval"][0] < audit["stated"]["run"] <= 10.0
    assert json.loads(fedkeys("replay", "--run", str(run), "--round", "8", "--workers", "2", "--json"))["ok"]
    fedkeys("report", "--run", str(run))
    assert "24 canary clients took part in 9 rounds" in (run / "report.html").read_text()
