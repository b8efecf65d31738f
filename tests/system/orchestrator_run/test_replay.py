"""Replay in a fresh process: each aggregator, both client runtimes, sealed noise; and what it refuses."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FEDKEYS = [sys.executable, "-m", "orchestrator.cli"]
SMALL = [
    "--preset", "smoke", "--cohort", "6", "--rounds", "3", "--workers", "1",
    "--set", "data.vocabulary_size=120", "--set", "model.vocabulary_size=60", "--set", "model.embedding_size=8",
    "--set", "model.num_cells=12", "--set", "rounds.checkpoint_every=2", "--set", "rounds.keep_checkpoints=2",
    "--set", "evaluation.every=3",
]  # fmt: skip
# keep_checkpoints = 1 leaves only the last, so that round 2 is replayed from the initial state.
RUNS = {
    "plain": ["--aggregator", "plain", "--set", "rounds.keep_checkpoints=1", "--set", "server.average_decay=0.5"],
    "secagg": ["--aggregator", "secagg", "--client-runtime", "litert"],
    "encrypted": ["--aggregator", "encrypted"],
    "noised": ["--aggregator", "plain", "--set", "privacy.mechanism=central", "--set", "privacy.noise_multiplier=1.0",
               "--set", "privacy.clip_norm=1.0", "--set", "client.weighting=equal",
               "--set", "model.start_from_word_counts=false"],
}  # fmt: skip


def fedkeys(*args):
    return subprocess.run(
        [*FEDKEYS, *map(str, args)], capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{name: folder of a run of three rounds}, and the text."""
    rng, top = random.Random(0), tmp_path_factory.mktemp("replay")
    lines = [
        {"client_id": f"p{person:02}", "text": f"see you at the {rng.choice(['dog', 'house'])} word{person}"}
        for person in range(30)
        for _ in range(20)
    ]
    text = top / "people.jsonl"
    text.write_text("".join(json.dumps({**line, "timestamp": i}) + "\n" for i, line in enumerate(lines)))
    for name, settings in RUNS.items():
        done = fedkeys("train", "--run", top / name, "--data", text, *SMALL, *settings, "--json")
        assert done.returncode == 0, done.stderr
    return {**{name: top / name for name in RUNS}, "text": text}


def weights_of(run, round_num):
    return json.loads((run / "rounds.jsonl").read_text().splitlines()[round_num - 1])["weights_sha256"]


@pytest.mark.parametrize(
    ("name", "round_num", "begins"), [("plain", 2, 0), ("secagg", 3, 2), ("encrypted", 3, 2), ("noised", 3, 2)]
)
def test_a_round_replays_to_the_same_weights(runs, name, round_num, begins):
    done = fedkeys("replay", "--run", runs[name], "--round", round_num, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["ok"]
    assert not figures["up_to_noise"]
    assert figures["from_round"] == begins
    assert figures["weights_sha256"] == weights_of(runs[name], round_num)


def test_without_the_noise_seed_a_round_is_checked_up_to_the_noise(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["noised"], run)
    (run / "noise_seed").unlink()
    done = fedkeys("replay", "--run", run, "--round", 3, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["ok"]
    assert figures["up_to_noise"]
    assert figures["weights_sha256"] is None


def refusal(run, round_num=3):
    done = fedkeys("replay", "--run", run, "--round", round_num)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


def test_what_does_not_belong_to_the_round_is_refused(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs["plain"], run)
    path = run / "record.jsonl"
    whole = path.read_text()
    assert "has no round 9" in refusal(run, 9)
    path.write_text(whole.replace('"outcome":"completed"', '"outcome":"abandoned"', 1))
    assert "entry 1: outcome was changed" in refusal(run)
    path.write_text(whole[: len(whole) // 2])
    assert "cut off in entry" in refusal(run)
    path.write_text(whole)
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("cohort_size = 6", "cohort_size = 7"))
    assert "was changed since the run began" in refusal(run)
    other = tmp_path / "other.jsonl"
    other.write_text(runs["text"].read_text().replace("house", "horse"))
    (run / "config.toml").write_text(config.replace(str(runs["text"]), str(other)))
    assert "another text" in refusal(run)


@pytest.mark.parametrize("name", ["code_sha256", "lock_sha256"])
def test_a_round_of_another_code_or_lock_file_is_refused(runs, tmp_path, name):
    from orchestrator.run.record import Entry, build_entry, read_record

    run = tmp_path / "run"
    shutil.copytree(runs["plain"], run)
    entries, previous = [], "0" * 64
    for entry in read_record(run):
        values = {n: getattr(entry, n) for n in Entry.__struct_fields__ if n not in ("field_checks", "entry_sha256")}
        entries.append(build_entry({**values, name: "7" * 64, "previous_sha256": previous}))
        previous = entries[-1].entry_sha256
    import msgspec

    (run / "record.jsonl").write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in entries))
    assert f"entry 3: {name} differs" in refusal(run)
