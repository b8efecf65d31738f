"""docs/extending.md, taken at its word: its examples are one file outside the tree, and training knows their names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = {
    "server.algorithm": "fedrmsprop",
    "server.schedule": "step",
    "client.weighting": "root",
    "aggregation.aggregator": "two_servers",
    "privacy.mechanism": "halving",
}
TINY = {
    "data.vocabulary_size": 60,
    "model.vocabulary_size": 40,
    "model.embedding_size": 8,
    "model.num_cells": 12,
    "rounds.count": 3,
    "rounds.cohort_size": 4,
    "evaluation.every": 3,
}
PRIVATE = {
    "aggregation.aggregator": "two_servers",
    "privacy.mechanism": "halving",
    "privacy.clip_norm": 1.0,
    "privacy.epsilon": 50.0,
    "client.weighting": "equal",
    "model.start_from_word_counts": "false",
}


def run(program: Path, *args: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(program), *map(str, args)],
        capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, env=environment, cwd=program.parent,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr
    return done


def flags(settings: dict[str, object]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's Python, in a folder of its own with a text for its data source."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "extending.md").read_text(), re.M | re.S)
    assert len(blocks) == 6
    path = tmp_path_factory.mktemp("outside") / "mine.py"
    path.write_text("".join(blocks), encoding="utf-8")
    lines = [f"p{i:02},see you at the {thing}" for i in range(20) for thing in ("game", "dog", "class") * 5]
    (path.parent / "people.csv").write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def plain_fedkeys(program: Path) -> Path:
    """`fedkeys` without the page's rows, in the same folder."""
    path = program.with_name("plain.py")
    path.write_text("from orchestrator.cli.app import main\n\nmain()\n")
    return path


def test_the_settings_list_the_names(program: Path) -> None:
    listed = run(program, "config").stdout
    for setting, name in NAMES.items():
        explained = listed[
            : listed.index(f"\n{setting.rpartition('.')[2]} = ", listed.index(f"[{setting.split('.')[0]}]"))
        ]
        assert f" or {name})" in " ".join(explained[-600:].replace("\n#", " ").split()), setting


def test_without_the_file_the_names_are_refused(program: Path, plain_fedkeys: Path) -> None:
    for setting, name in NAMES.items():
        said = run(plain_fedkeys, "train", "--run", "run", "--set", f"{setting}={name}", expect=2).stderr
        assert f"command line: {setting} = {name!r}: must be " in said
    assert "unknown kind of file '.csv'" in run(plain_fedkeys, "data", "--data", "people.csv", expect=2).stderr
    assert not (program.parent / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_trains_with_them_and_is_exported(program: Path, plain_fedkeys: Path) -> None:
    named = {**TINY, **{name: kind for name, kind in NAMES.items() if name != "privacy.mechanism"}}
    first = run(program, "train", "--run", "first", "--data", "people.csv", "--workers", 1, *flags(named), "--json")
    assert json.loads(first.stdout)["rounds"] == 3
    plain = {**named, "aggregation.aggregator": "plain"}
    same = run(program, "train", "--run", "plain", "--data", "people.csv", "--workers", 1, *flags(plain), "--json")
    assert json.loads(same.stdout)["weights_sha256"] == json.loads(first.stdout)["weights_sha256"]

    run(program, "export", "--run", "first", "--out", "bundle", "--no-parity")
    (phase,) = json.loads((program.parent / "bundle" / "manifest.json").read_text())["phase"]
    assert {tensor["kind"] for tensor in phase["io_router"]["aggregations"].values()} == {"secure"}
    refused = run(plain_fedkeys, "export", "--run", "first", "--out", "other", expect=2).stderr
    assert "first/config.toml: client.weighting = 'root': must be tokens, " in refused  # the first name that it meets
    assert not (program.parent / "other").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_private_run_trains_and_is_accounted(program: Path) -> None:
    run(program, "train", "--run", "private", "--data", "people.csv", "--workers", 1, *flags({**TINY, **PRIVATE}))
    told = json.loads(run(program, "privacy", "--run", "private", "--json").stdout)
    assert told["mechanism"] == "halving"
    assert "halving" in [row["mechanism"] for row in told["mechanisms"]]
    assert 0 < told["epsilon"][f"{told['delta']:.3g}"] <= 50.0
