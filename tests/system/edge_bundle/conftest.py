"""A run of a small text, the keys that sign its bundle, and the bundle."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from exported_run import build_run, fedkeys

from orchestrator.run.folder import RunFolder


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    things = ["dog", "cat", "house", "friend", "class", "game"]
    lines = []
    for person in range(30):
        for place in range(24):
            thing = rng.choice(things)
            sentence = rng.choice([f"i like my {thing}", f"do you like my {thing}", f"see you at {thing}", "i know"])
            lines.append({"client_id": f"p{person:02}", "text": f"{sentence} word{person}", "timestamp": place})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def run(text, tmp_path_factory) -> RunFolder:
    return build_run(tmp_path_factory.mktemp("runs") / "run", text)


@pytest.fixture(scope="session")
def keys(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    fedkeys("keygen", path)
    fedkeys("keygen", path.with_name("other"))
    return path


@pytest.fixture(scope="session")
def exported(run, keys, tmp_path_factory):
    """A bundle and what `fedkeys export --json` printed."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    return out, fedkeys("export", "--run", run.path, "--out", out, "--key", keys, "--zip", "--json")


@pytest.fixture
def bundle(exported, tmp_path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(exported[0], tmp_path / "bundle"))


@pytest.fixture(scope="session")
def text_of_one(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("device") / "messages.txt"
    path.write_text("I like my dog. Do you like my cat?\nSee you at house!\n\ni know\n" * 10)
    return path
