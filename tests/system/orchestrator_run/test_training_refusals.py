"""What stops a training: bad input, a full disk, damage, another process; and what is left after it."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from small_run import FEDKEYS, SMALL, fedkeys

from orchestrator.run.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_second_run_does_not_overwrite_the_first(trained, text):
    run, _ = trained
    before = (run / "rounds.jsonl").read_bytes()
    again = fedkeys("train", "--run", run, "--data", text, "--rounds", 3, *SMALL)
    assert again.returncode == 2
    assert again.stderr.strip().splitlines()[-1].startswith(f"fedkeys: {run} already holds a run")
    other = fedkeys("train", "--run", run, "--data", text, "--rounds", 11, *SMALL, "--resume")
    assert other.returncode == 2
    assert "was begun with another config" in other.stderr
    assert (run / "rounds.jsonl").read_bytes() == before


def test_a_full_disk_is_one_line_and_the_run_goes_on_afterwards(trained, text, tmp_path):
    run, printed = trained
    folder = tmp_path / "full"
    limited = f"ulimit -f 6; exec {' '.join(FEDKEYS)} train --run {folder} --data {text} --rounds 10 {' '.join(SMALL)}"
    full = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=300)
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    assert "File too large" in full.stderr.strip().splitlines()[-1]
    assert not list(folder.glob("checkpoints/*partial*"))
    done = fedkeys("train", "--run", folder, "--data", text, "--rounds", 10, *SMALL, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == printed["weights_sha256"]


def test_a_damaged_checkpoint_falls_back_and_a_changed_one_is_refused(trained, text, tmp_path):
    run, printed = trained
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    newest = copy / "checkpoints" / "round_000010.npz"
    newest.write_bytes(newest.read_bytes()[:1000])
    done = fedkeys("train", "--run", copy, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert f"{newest} is damaged: going on from round " in done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == printed["weights_sha256"]
    arrays = dict(np.load(newest))
    arrays["average/0"] = arrays["average/0"] + 1
    np.savez(newest, **arrays)
    refused = fedkeys("evaluate", "--run", copy)
    assert refused.returncode == 2
    assert "does not hold the weights" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--run", "{tmp}/a", "--data", "{tmp}/missing.jsonl"], "missing.jsonl"),
        (["train", "--run", "{tmp}/a", "--set", "rounds.cuont=3"], "rounds.cuont"),
        (["train", "--run", "{tmp}/a", "--set", "rounds.count=many"], "rounds.count"),
        (["train", "--run", "{tmp}/a", "--preset", "tiny"], "there is no preset 'tiny'"),
        (["train", "--run", "{tmp}/a", "--workers", "nowhere"], "runtime.workers"),
        (["train", "--run", "{tmp}/a", "--data", "{text}", "--cohort", "500"], "rounds.cohort_size = 500"),
        (
            ["train", "--run", "{tmp}/a", "--cohort", "4"],
            "rounds.cohort_size = 4 with aggregation.aggregator = 'secagg'",
        ),
        (["evaluate", "--run", "{tmp}/none"], "holds no run"),
        (["predict", "--run", "{tmp}/none", "hello"], "holds no run"),
        (["report", "--run", "{tmp}/none"], "holds no run"),
        (["train", "--run", "{text}"], "is not an empty folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, message, text, tmp_path):
    arguments = [a.format(tmp=tmp_path, text=text) for a in arguments]
    done = fedkeys(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_schema_is_refused(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    identity = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**identity, "schema": 99}))
    done = fedkeys("evaluate", "--run", copy)
    assert done.returncode == 2
    assert "has schema 99, this fedkeys reads 1" in done.stderr


def test_two_processes_cannot_train_one_run(trained, tmp_path):
    folder = RunFolder(trained[0])
    folder.lock()
    try:
        done = fedkeys("train", "--run", folder.path, "--resume")
        assert done.returncode == 2
        assert "is in use by another process" in done.stderr
    finally:
        folder._unlock()


def test_a_run_that_diverges_stops_with_its_reason(text, tmp_path):
    wild = ["--set", "client.learning_rate=1e30", "--set", "client.clip_norm=0.0"]
    done = fedkeys("train", "--run", tmp_path / "wild", "--data", text, "--rounds", 20, *SMALL, *wild)
    assert done.returncode == 3, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "10 rounds in a row were abandoned, the last because: round 10: the training of all 6 clients" in last
    assert "diverged" in last
    rounds = RunFolder(tmp_path / "wild").rounds()
    assert [r.outcome for r in rounds] == ["abandoned"] * 10
    assert rounds[0].metric("non_finite_clients") == 6
