"""The demo reads each file of its run once or twice, and starts one set of TFF workers."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# A process that reports what it opens to read and which programs it starts, while it runs the demo on a tiny model.
DEMO = """
import json, os, sys

events = []

def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)) and isinstance(args[1], str) and args[1].startswith("r"):
        events.append(["read", os.fsdecode(args[0])])
    elif event == "subprocess.Popen":
        events.append(["start", " ".join(map(os.fsdecode, args[1]))])

from orchestrator.settings.presets import PRESETS

PRESETS["tiny"] = {**PRESETS["smoke"], **json.loads(sys.argv[2])}
sys.addaudithook(watch)
from orchestrator.cli.commands import cli

cli.main(["demo", "--run", sys.argv[1], "--preset", "tiny"], standalone_mode=False)
with open(sys.argv[3], "w") as file:
    json.dump(events, file)
"""
TINY = {
    "data.vocabulary_size": 200, "model.vocabulary_size": 60, "model.embedding_size": 8, "model.num_cells": 12,
    "rounds.count": 4, "rounds.cohort_size": 6, "rounds.checkpoint_every": 2, "evaluation.every": 2,
    "runtime.workers": "1",
}  # fmt: skip
# Digested besides, for the statement about the card and where the bundle takes it over.
DIGESTS = {"MODEL_CARD.md": 3, "record.jsonl": 2, "provenance.intoto.json": 1}


def test_the_demo_reads_each_file_of_its_run_at_most_twice(tmp_path):
    rng, text, run = random.Random(0), tmp_path / "people.jsonl", tmp_path / "run"
    words = [f"word{number}" for number in range(60)]
    lines = []
    for person in range(120):
        own = rng.sample(words, 12)
        lines += [{"client_id": f"p{person:03}", "text": f"i like {' '.join(rng.sample(own, 4))}"} for _ in range(24)]
    text.write_text("".join(json.dumps({**line, "timestamp": i}) + "\n" for i, line in enumerate(lines)))
    settings = json.dumps({**TINY, "data.source": str(text)})
    done = subprocess.run(
        [sys.executable, "-c", DEMO, str(run), settings, str(tmp_path / "events.json")],
        capture_output=True, text=True, timeout=550, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = json.loads((tmp_path / "events.json").read_text())
    reads = Counter(path for kind, path in events if kind == "read")
    of_run = {path[len(str(run)) + 1 :]: times for path, times in reads.items() if path.startswith(f"{run}/")}
    assert {"run.json", "config.toml", "rounds.jsonl"} <= set(of_run)  # the hook sees what it is to count
    too_often = {name: times for name, times in of_run.items() if times > 2 + DIGESTS.get(name, 0)}
    assert not too_often
    assert reads[str(text)] <= 2
    starts = [command for kind, command in events if kind == "start"]
    assert sum("worker_binary" in command for command in starts) == 1
    assert sum(command.startswith("make ") for command in starts) <= 1
