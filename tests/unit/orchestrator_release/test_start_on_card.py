"""What a card and its statement say of the model that a run began with."""

from __future__ import annotations

import json

import msgspec

from edge.bundle.dsse import open_envelope
from orchestrator.release.model_card import write_card
from orchestrator.release.provenance import CARD_FILE, STATEMENT_FILE
from orchestrator.run.saved import read_run
from orchestrator.run.start_origin import Start, StartText


def test_a_card_and_its_statement_tell_what_the_run_began_with(folder):
    path = folder.path / "run.json"
    start = Start("run", "before", 9, "5" * 64, "b", 5, 4, (StartText("chats", "6" * 64),))
    path.write_bytes(msgspec.json.encode({**json.loads(path.read_bytes()), "start": start}))
    write_card(read_run(folder), None)
    card = (folder.path / CARD_FILE).read_text()
    assert "began with the run `before` after round 9; it knew 4 of the 5 words" in card
    assert "(chats) without differential privacy: no epsilon covers" in card
    payload, _ = open_envelope(folder.path / STATEMENT_FILE)
    (named,) = [
        own["digest"]["sha256"]
        for own in json.loads(payload)["predicate"]["buildDefinition"]["resolvedDependencies"]
        if own["uri"] == "urn:fedkeys:start"
    ]
    assert named == "5" * 64
