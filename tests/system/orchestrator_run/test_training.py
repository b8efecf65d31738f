"""The way of a user: train, kill, resume, evaluate, predict."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import portpicker
import psutil
import pytest
from small_run import FEDKEYS, SMALL, fedkeys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orchestrator.run.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


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
    assert printed["folder"] == str(run)
    for name in ("train_loss", "dev_loss", "dev_top1", "dev_top3"):
        assert printed[name] == rounds[-1]["metrics"][name]
    assert [r["round_num"] for r in rounds if "dev_top1" in r["metrics"]] == [4, 8, 10]
    assert rounds[-1]["metrics"]["train_loss"] < rounds[0]["metrics"]["train_loss"]
    assert RunFolder(run).checkpoints() == [6, 9, 10]
    scalars = EventAccumulator(str(run / "tensorboard"))
    scalars.Reload()
    tags = scalars.Tags()["tensors"]
    assert {"train/loss", "train/num_tokens", "dev/top1", "dev/top3", "dev/loss", "dev/people"} <= set(tags)
    assert all("/" in tag for tag in tags)


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


@pytest.mark.parametrize("aggregator", ["plain", "encrypted", "split"])
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
    page = (run / "report.html").read_text()
    assert page.count("<svg") == 2  # the loss and the stages
    assert "3 test people, under 10 people: not shown." in page


def test_federated_and_local_scores_agree(trained):
    """What the workers sum up is what the same weights score here."""
    from models.batches import build_batches
    from models.inference import recall_sums
    from models.model import load_model
    from orchestrator.rounds.build import model_size
    from orchestrator.run.data import load_client_data

    folder = RunFolder(trained[0])
    config, weights = folder.config(), folder.load_checkpoint().model
    _, data = load_client_data(config)
    model = load_model(model_size(config.model, data.vocabulary.size))
    hits = positions = 0.0
    for sentences in data.dev.values():
        sentences = sentences[: config.evaluation.max_sentences]
        batches = build_batches(sentences, batch_size=7, time=config.data.max_words)
        for batch in zip(*batches):
            sums = recall_sums(model, weights, *batch, data.vocabulary.size)
            hits, positions = hits + float(sums.hits1), positions + float(sums.positions)
    assert folder.rounds()[-1].metric("dev_top1") == pytest.approx(hits / positions, abs=1e-9)


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
