"""Each kind of network that is not the default goes down the whole road, as docs/models.md says."""

from __future__ import annotations

import json

import pytest
from exported_run import fedkeys
from small_run import SMALL

from edge.bundle.parity import GATE
from models.architectures import ARCHITECTURES, CIFG
from models.errors import RoleError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind != CIFG])
def test_a_kind_goes_down_the_road(kind, text, tmp_path):
    run, phone, key = tmp_path / "run", tmp_path / "phone", tmp_path / "key"
    kind_of = ("--set", f"model.kind={kind}", "--set", "client.learning_rate=0.5")  # at smoke's rate of 3 one diverges
    fedkeys("train", "--run", run, "--data", text, "--rounds", 3, *SMALL, *kind_of)
    figures = fedkeys("evaluate", "--run", run, "--personalise", "--json")
    assert 0.0 < figures["model"]["top3"] <= 1.0
    assert len(fedkeys("predict", "--run", run, "i like", "--json")["predictions"]) == 3
    assert fedkeys("replay", "--run", run, "--round", 2, "--json")["ok"]
    if ARCHITECTURES[kind].is_tied:
        fedkeys("attack", "--run", run, "--sentences", 3)
    else:
        with pytest.raises(RoleError, match=kind):
            fedkeys("attack", "--run", run, "--sentences", 3)
    for command in ("card", "report"):
        fedkeys(command, "--run", run)
    assert ARCHITECTURES[kind].label in (run / "MODEL_CARD.md").read_text()
    fedkeys("keygen", key)
    fedkeys("export", "--run", run, "--out", phone, "--key", key)
    fedkeys("verify", phone, "--public-key", f"{key}.pub")
    measured = json.loads((phone / "parity.json").read_text())["runtimes"]
    assert {"litert", "litert-stateless", "tensorflow"} <= set(measured)  # and the C client, where it can be built
    assert all(own["max_abs_diff"] <= GATE for own in measured.values())
    assert fedkeys("benchmark", phone, "--batch", 4, "--runs", 5, "--json")["train_step_ms"]
