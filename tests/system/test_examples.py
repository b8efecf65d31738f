"""Each example runs, and prints what it promises; the notebook's cells run beside an event loop."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import CorpusError
from orchestrator import api
from orchestrator.errors import ConfigError, RunFolderError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

PRINTS = {
    "train_and_predict.py": r"%  (?:my|<unk>|[a-z]+)\n.*first guess right: \d+\.\d% of the words",
    "own_optimizer.py": r"loss (\d\.\d\d) -> (\d\.\d\d) nats",
    "own_aggregator.py": r"^240 vectors in 30 rounds$",
    "own_observer.py": r"round 10: 8 clients, completed\nround 20: .*\nround 30: ",
    "train_keras.py": r"^round 20: \d\d\.\d% of the digits that.*worst: person \d, \d+\.\d%$",
    "export_for_phones.py": r"trains as TFF does: at most \d\.\de-\d\d apart .*bytes  train\.tflite",
}

NETWORKS = {"own_keras_model.py", "own_pure_network.py"}  # orchestrator_run/test_own_network.py trains them


def test_every_example_is_tested_and_named_in_the_readme():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*PRINTS, *NETWORKS}
    pages = (ROOT / "README.md").read_text() + (ROOT / "docs" / "python.md").read_text()
    for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")):
        assert f"examples/{path.name}" in pages


def test_the_page_calls_what_there_is():
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    calls = [node for node in ast.walk(ast.parse(block[1])) if isinstance(node, ast.Call)]
    called = {node.func.attr: node for node in calls if ast.unparse(node.func).startswith("api.")}
    assert set(called) == {"train", "predict", "evaluate", "export"}
    for name, call in called.items():
        arguments = [None] * len(call.args), {keyword.arg: None for keyword in call.keywords}
        inspect.signature(getattr(api, name)).bind(*arguments[0], **arguments[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTS)
def test_an_example_runs(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), str(tmp_path / "run")],
        capture_output=True, text=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(PRINTS[name], done.stdout, re.DOTALL)
    assert found, done.stdout
    if name == "own_optimizer.py":
        assert float(found[2]) < 0.7 * float(found[1]), "it learnt nothing"
    if name != "train_keras.py":  # it has no texts
        assert (tmp_path / "run-texts.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_the_notebook_runs_beside_an_event_loop():
    cells = json.loads((EXAMPLES / "first_steps.ipynb").read_text())["cells"]
    names: dict[str, object] = {}

    async def run_cells():
        for cell in cells:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)

    asyncio.run(run_cells())
    run, figures = names["run"], names["figures"]
    assert len(run.rounds) == 30
    assert 0.3 < figures.model.top1 <= 1.0  # "i like my" and "do you like my" leave only the thing open


def test_mistakes_are_told_before_anything_is_trained(tmp_path):
    with pytest.raises(ConfigError, match="no setting rounds.cuont, did you mean rounds.count"):
        api.train(tmp_path / "run", settings={"rounds.cuont": 3})
    with pytest.raises(ConfigError, match="rounds.cuont"):
        api.train(tmp_path / "run", {"ann": ["hi"]}, settings={"rounds.cuont": 3})
    with pytest.raises(CorpusError, match="is one string: give a list of messages"):
        api.train(tmp_path / "run", {"ann": "hi"})
    with pytest.raises(CorpusError, match="texts is empty"):
        api.train(tmp_path / "run", {})
    with pytest.raises(CorpusError, match="take at least 10 people"):  # known once it is read
        api.train(tmp_path / "run", {"ann": ["hi"]})
    assert list(tmp_path.iterdir()) == []  # no text stays behind
    (tmp_path / "run-texts.jsonl").write_text("other")
    with pytest.raises(CorpusError, match="holds other texts"):
        api.train(tmp_path / "run", {"ann": ["hi"]})
    assert (tmp_path / "run-texts.jsonl").read_text() == "other"
    with pytest.raises(RunFolderError, match="holds no run"):
        api.open_run(tmp_path / "none")
    assert not (tmp_path / "run").exists()
