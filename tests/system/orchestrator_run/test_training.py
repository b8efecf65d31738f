"""The road as a user walks it: train, kill, resume, evaluate, predict; and what bad input gets."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import portpicker
import psutil
import pytest

from orchestrator.run.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FEDKEYS = [sys.executable, "-m", "orchestrator.cli"]
SMALL = [
    "--preset", "smoke", "--cohort", "6", "--workers", "1",
    "--set", "data.vocabulary_size=120", "--set", "model.vocabulary_size=60", "--set", "model.embedding_size=8",
    "--set", "model.num_cells=12", "--set", "rounds.checkpoint_every=3", "--set", "evaluation.every=4",
    "--set", "server.average_decay=0.5", "--set", "client.dropout=0.1",
]  # fmt: skip


def fedkeys(*args, timeout=300, **kwargs):
    return subprocess.run(
        [*FEDKEYS, *map(str, args)], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **kwargs
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Thirty people who say some of a few sentences, each with words of their own."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    things = ["dog", "cat", "house", "friend", "class", "game"]
    lines = []
    for person in range(30):
        for place in range(24):
            thing = rng.choice(things)
            sentence = rng.choice(
                [f"i like my {thing}", f"do you like my {thing}", f"see you at the {thing}", "i don't know"]
            )
            lines.append({"client_id": f"p{person:02}", "text": f"{sentence} word{person}", "timestamp": place})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A run of 10 rounds that nothing disturbed, and what training printed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = fedkeys("train", "--run", run, "--data", text, "--rounds", 10, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    return run, json.loads(done.stdout)


def test_a_run_leaves_what_was_promised(trained):
    run, printed = trained
    assert printed["rounds"] == 10
    assert printed["wall_s"] > 0
    assert printed["client_batches_per_s"] > 0
    rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    assert [r["round_num"] for r in rounds] == list(range(1, 11))
    for r in rounds:
        assert {"outcome", "selected", "survivors", "metrics", "stage_s", "cost", "weights_sha256"} <= set(r)
        assert r["epsilon"] is None
        assert r["outcome"] == "completed"
        assert len(r["survivors"]) == 6
    assert rounds[-1]["weights_sha256"] == printed["weights_sha256"]
    assert [r["round_num"] for r in rounds if "dev_top1" in r["metrics"]] == [4, 8, 10]
    assert rounds[-1]["metrics"]["train_loss"] < rounds[0]["metrics"]["train_loss"]
    assert RunFolder(run).checkpoints() == [6, 9, 10]
    assert list((run / "tensorboard").glob("events.*"))


def test_a_run_killed_at_random_points_resumes_to_the_same_weights(trained, text, tmp_path):
    run, printed = trained
    rng = random.Random(time.time_ns())
    folder = tmp_path / "killed"
    for attempt in range(2):
        child = subprocess.Popen(
            [*FEDKEYS, "train", "--run", str(folder), "--data", str(text), "--rounds", "10", *SMALL, "--resume"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wanted = rng.randrange(1 + 3 * attempt, 5 + 3 * attempt)
        deadline = time.monotonic() + 200
        while child.poll() is None and time.monotonic() < deadline:
            lines = folder / "rounds.jsonl"
            if lines.exists() and lines.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.01)
        assert child.poll() is None, "it ended before it could be killed"
        workers = psutil.Process(child.pid).children()
        child.send_signal(signal.SIGKILL)
        child.wait(30)
        psutil.wait_procs(workers, 10)
        assert not any(worker.is_running() for worker in workers)
    with open(folder / "rounds.jsonl", "ab") as file:
        file.write(b'{"round_num": 99, "cut o')  # as a kill in mid-write would leave it
    done = fedkeys("train", "--run", folder, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == printed["weights_sha256"]

    def digests(path):
        return [json.loads(line)["weights_sha256"] for line in (path / "rounds.jsonl").read_text().splitlines()]

    assert digests(folder) == digests(run)


@pytest.mark.parametrize("aggregator", ["plain", "encrypted"])
def test_every_aggregator_gives_the_weights_of_secure_aggregation(trained, text, tmp_path, aggregator):
    run, printed = trained
    assert RunFolder(run).config().aggregation.aggregator == "secagg"
    other = fedkeys(
        "train", "--run", tmp_path / "run", "--data", text, "--rounds", 10, *SMALL, "--aggregator", aggregator, "--json"
    )
    assert other.returncode == 0, other.stderr
    assert json.loads(other.stdout)["weights_sha256"] == printed["weights_sha256"]


def test_ten_rounds_in_litert_give_the_model_of_tff(text, tmp_path):
    """FedAvg: the server's step is linear. FedAdam divides by what is nearly zero and blows the last bits up."""
    plainly = ["--set", "server.algorithm=fedavg", "--set", "server.learning_rate=1.0", "--set", "client.dropout=0.0"]
    weights, digests = {}, {}
    for name, client_runtime, aggregator in (
        ("tff", "tff", "secagg"),
        ("litert", "litert", "secagg"),
        ("litert-plain", "litert", "plain"),
    ):
        arguments = [*SMALL, *plainly, "--client-runtime", client_runtime, "--aggregator", aggregator, "--json"]
        done = fedkeys("train", "--run", tmp_path / name, "--data", text, "--rounds", 10, *arguments)
        assert done.returncode == 0, done.stderr
        weights[name] = RunFolder(tmp_path / name).load_checkpoint().weights
        digests[name] = json.loads(done.stdout)["weights_sha256"]
    moved = max(
        np.abs(w - s).max() for w, s in zip(weights["tff"], RunFolder(tmp_path / "tff").load_checkpoint(6).weights)
    )
    assert moved > 1e-3, "nothing was learned: proves nothing"
    for a, b in zip(weights["tff"], weights["litert"]):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert digests["litert"] == digests["litert-plain"]
    refused = fedkeys("train", "--run", tmp_path / "x", "--client-runtime", "litert", "--set", "client.dropout=0.1")
    assert refused.returncode == 2
    assert "client.runtime = litert, client.dropout = 0.1" in refused.stderr.strip().splitlines()[-1]


def test_evaluate_predict_and_report(trained):
    run, _ = trained
    done = fedkeys("evaluate", "--run", run, "--personalise", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    for name in ("model", "unigram", "bigram", "trigram", "mixed"):
        row = figures[name]
        assert 0 <= row["top1"] <= row["top3"] <= 1
        assert row["loss_nats_per_token"] > 0
        assert row["top1_interval"][0] <= row["top1"] <= row["top1_interval"][1]
    assert figures["clients"] == 3
    assert figures["positions"] > 50
    personal = figures["personalised"]
    assert personal["clients"] == len(personal["per_person_gain"]) == 3
    assert personal["top1_gain"] == pytest.approx(personal["after"]["top1"] - personal["before"]["top1"])
    assert personal["share_better"] + personal["share_worse"] <= 1
    assert figures["trigram"]["top1"] > figures["unigram"]["top1"]
    prediction = fedkeys("predict", "--run", run, "see you", "--json")
    words = json.loads(prediction.stdout)["predictions"]
    assert len(words) == 3
    assert words[0]["probability"] >= words[1]["probability"] >= words[2]["probability"]
    asked = subprocess.run(
        [*FEDKEYS, "predict", "--run", str(run)], input="see you\n\n", capture_output=True, text=True
    )
    assert asked.returncode == 0
    assert words[0]["word"] in asked.stdout
    assert fedkeys("report", "--run", run).returncode == 0
    assert (run / "report.html").read_text().count("<svg") + (run / "report.html").read_text().count("data:image") >= 3


def test_federated_and_local_scores_agree(trained):
    """What the workers sum up is what the same weights score here."""
    from models.batches import build_batches
    from models.inference import recall_sums
    from orchestrator.run.data import load_client_data

    folder = RunFolder(trained[0])
    config, weights = folder.config(), folder.load_checkpoint().model
    _, data = load_client_data(config)
    hits = positions = 0.0
    for sentences in data.dev.values():
        sentences = sentences[: config.evaluation.max_sentences]
        batches = build_batches(sentences, batch_size=7, time=config.data.max_words)
        for batch in zip(*batches):
            sums = recall_sums(weights, *batch, data.vocabulary.size)
            hits, positions = hits + float(sums.hits1), positions + float(sums.positions)
    assert folder.rounds()[-1].metric("dev_top1") == pytest.approx(hits / positions, abs=1e-9)


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


def test_remote_workers_give_the_same_weights(trained, text, tmp_path):
    _, printed = trained
    port = portpicker.pick_unused_port()
    worker = subprocess.Popen(
        [*FEDKEYS, "worker", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not _listens(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        run = tmp_path / "remote"
        done = fedkeys(
            "train", "--run", run, "--data", text, "--rounds", 10, *SMALL, "--workers", f"localhost:{port}", "--json"
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["weights_sha256"] == printed["weights_sha256"]
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)
    assert not _listens(port)


def _listens(port: int) -> bool:
    return any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in psutil.net_connections("tcp"))


def test_help_is_quick_and_teaches():
    done = fedkeys("--help")
    assert done.returncode == 0
    assert "fedkeys train --run" in done.stdout
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "orchestrator.cli", "--help"], capture_output=True, text=True
    ).stderr
    for heavy in ("tensorflow", "tensorflow_federated", "matplotlib", "scipy", "numpy"):
        assert f" {heavy}\n" not in imported, f"--help imports {heavy}"


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


def test_ten_people_are_enough_and_one_of_them_has_no_interval(tmp_path):
    path = tmp_path / "few.jsonl"
    lines = [{"client_id": f"p{i}", "text": f"i like my dog number {j}"} for i in range(10) for j in range(12)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = tmp_path / "run"
    done = fedkeys("train", "--run", run, "--data", path, "--rounds", 2, *SMALL, "--cohort", 5)
    assert done.returncode == 0, done.stderr
    done = fedkeys("evaluate", "--run", run, "--personalise", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["clients"] == 1
    assert figures["model"]["top1_interval"] is None
    assert figures["personalised"] is None
    assert "no fine-tuning: no dev or no test person has 20 sentences" in done.stderr
    assert fedkeys("evaluate", "--run", run).returncode == 0
    wrong = fedkeys("evaluate", "--run", run, "--workers", "abc")
    assert wrong.returncode == 2
    assert "runtime.workers" in wrong.stderr.strip().splitlines()[-1]
