"""A small text, and a run that nothing disturbed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from small_run import SMALL, fedkeys


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def trained(text, tmp_path_factory):
    """A run of 10 rounds that nothing disturbed, and what training printed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = fedkeys("train", "--run", run, "--data", text, "--rounds", 10, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    return run, json.loads(done.stdout)
