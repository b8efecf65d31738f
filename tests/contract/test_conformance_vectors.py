"""The vectors of edge/conformance/ are what Python's protocols compute today: other clients are tested against them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import edge

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(edge.__file__).parent / "conformance"
MOST_BYTES = 650_000


def test_making_the_vectors_again_gives_the_same_bytes(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    assert importlib.import_module("make_vectors").main(tmp_path) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in VECTORS.iterdir()}
    assert made.keys() == kept.keys()
    changed = [name for name in made if made[name] != kept[name]]
    assert not changed, "a message or a rule has changed, which old clients do not know; else run make vectors"
    assert sum(map(len, kept.values())) < MOST_BYTES
    assert len(capsys.readouterr().out.splitlines()) == len(kept)


def test_the_vectors_hold_a_refusal_of_every_name():
    refusals = json.loads((VECTORS / "secagg.json").read_text("utf-8"))["complete graph"]["refusals"]
    assert {refusal["error"] for refusal in refusals} == {
        "WireError", "UnexpectedMessage", "WeakParameters", "RosterRefused", "SharesRefused", "SurvivorsRefused",
        "SplitView", "AliveAndDead", "TooFewPeers",
    }  # fmt: skip
