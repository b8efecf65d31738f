"""A network of one's own goes down the road: trained, scored, explained, exported, proven and replayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exported_run import fedkeys
from small_run import SMALL

from edge.bundle.parity import GATE
from edge.clients import c_client
from models import own_network
from models.errors import OwnNetworkError, RoleError
from orchestrator.errors import ConfigError, RunFolderError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CODE = Path(__file__).resolve().parents[3] / "examples" / "own_keras_model.py"
OWN = [*SMALL, "--set", "data.max_words=6", "--set", "client.dropout=0", "--set", "client.learning_rate=0.5"]


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A run of a network of one's own; this process has forgotten its code."""
    run = tmp_path_factory.mktemp("own") / "run"
    printed = fedkeys("train", "--run", run, "--data", text, "--rounds", 3, *OWN, "--model", f"{CODE}:build")
    assert f"running the code of {CODE}" in printed.stderr
    own_network._LOADED.clear()
    return run


def test_it_goes_down_the_road(trained, tmp_path):
    phone, trust, mine = tmp_path / "phone", "--trust-model", tmp_path / "mine.txt"
    assert (trained / "network.py").read_bytes() == CODE.read_bytes()
    with pytest.raises(OwnNetworkError, match=r"own_keras_model\.py:build .* --trust-model"):
        fedkeys("predict", "--run", trained, "i like")
    assert 0.0 < fedkeys("evaluate", "--run", trained, trust, "--json")["model"]["top3"] <= 1.0
    assert len(fedkeys("predict", "--run", trained, trust, "i like", "--json")["predictions"]) == 3
    assert fedkeys("replay", "--run", trained, "--round", 2, trust, "--json")["ok"]
    for command in ("card", "report"):
        fedkeys(command, "--run", trained, trust)
    assert "own_keras_model.py:build" in (trained / "MODEL_CARD.md").read_text()
    with pytest.raises(RoleError, match="a network of somebody's own"):
        fedkeys("attack", "--run", trained, "--sentences", 3, trust)
    fedkeys("export", "--run", trained, "--out", phone, trust)
    measured = json.loads((phone / "parity.json").read_text())["runtimes"]
    in_c = set() if c_client.why_not() else {"c-client"}
    assert {"litert", "litert-stateless", "tensorflow", *in_c} == set(measured)
    assert all(runtime["max_abs_diff"] <= GATE for runtime in measured.values())
    # Its bundle holds no code, and needs none.
    assert not list(phone.rglob("*.py"))
    own_network._LOADED.clear()
    assert fedkeys("verify", phone, "--json")["ok"]
    steps = fedkeys("benchmark", phone, "--runs", 5, "--json")["train_step_ms"]
    assert {row["runtime"] for row in steps} == {"litert", *in_c}
    mine.write_text("i like my dog\nsee you at the game\n")
    assert fedkeys("device-update", phone, "--data", mine, "--out", tmp_path / "update", "--json")["num_examples"] == 2


def test_a_resume_takes_the_same_code_only(trained, tmp_path):
    other = tmp_path / CODE.name
    other.write_text(CODE.read_text() + "\n# changed\n")
    own_network._LOADED.clear()
    with pytest.raises(OwnNetworkError, match="--trust-model"):
        fedkeys("train", "--run", trained, "--resume")
    with pytest.raises(RunFolderError, match="begun with another config"):
        fedkeys("train", "--run", trained, "--resume", "--model", f"{other}:build")
    assert fedkeys("train", "--run", trained, "--resume", "--model", f"{CODE}:build", "--json")["rounds"] == 3


def test_a_server_sends_nobody_code(trained):
    with pytest.raises(ConfigError, match="clients would have to run its code"):
        fedkeys("serve", "--run", trained, "--resume", "--trust-model")
