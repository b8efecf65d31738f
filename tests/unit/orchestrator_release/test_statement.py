"""The statement about a run's card and record: who can check it, and what it refuses."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from evaluated_run import WEIGHTS
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from edge.errors import BundleError
from orchestrator.errors import RunFolderError
from orchestrator.release.model_card import write_card
from orchestrator.release.provenance import CARD_FILE, STATEMENT_FILE, bundle_files, check_statement
from orchestrator.rounds.round import weights_digest
from orchestrator.run.record import Recorder
from orchestrator.run.saved import read_run
from orchestrator.run.sources import build_provenance


def test_an_independent_verifier_accepts_the_statement(folder, key):
    write_card(read_run(folder), key)
    raw = json.loads((folder.path / STATEMENT_FILE).read_bytes())
    public = serialization.load_pem_public_key(key.with_name("key.pub").read_bytes())
    octets = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    theirs = SSlibKey(hashlib.sha256(octets).hexdigest(), "ed25519", "ed25519", {"public": octets.hex()})
    envelope = Envelope.from_dict(raw)
    assert list(envelope.verify([theirs], 1)) == [theirs.keyid]
    statement = msgspec.json.decode(envelope.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    digests = {own["name"]: own["digest"]["sha256"] for own in statement["subject"]}
    assert digests["weights"] == weights_digest(WEIGHTS)
    for name in ("MODEL_CARD.md", "record.jsonl"):
        assert digests[name] == hashlib.sha256((folder.path / name).read_bytes()).hexdigest()
    assert set(statement["predicate"]) == {"buildDefinition", "runDetails"}


@pytest.mark.parametrize("name", ["MODEL_CARD.md", "record.jsonl"])
def test_a_file_changed_after_the_statement_is_named(folder, key, name):
    write_card(read_run(folder), key)
    assert "Ed25519" in check_statement(folder.path, key.with_name("key.pub"))
    with open(folder.path / name, "a") as file:
        file.write(" ")
    with pytest.raises(BundleError, match=name):
        check_statement(folder.path, key.with_name("key.pub"))


def test_the_same_run_and_key_give_the_same_bytes(folder, key):
    write_card(read_run(folder), key)
    first = bundle_files(folder.path, weights_digest(WEIGHTS))
    assert set(first) == {CARD_FILE, STATEMENT_FILE}
    write_card(read_run(folder), key)
    assert bundle_files(folder.path, weights_digest(WEIGHTS)) == first


def test_a_bundle_of_other_weights_takes_no_card(folder):
    assert bundle_files(folder.path, weights_digest(WEIGHTS)) == {}  # there is none yet
    write_card(read_run(folder), None)
    assert bundle_files(folder.path, "0" * 64) == {}


def test_a_statement_needs_the_record_to_name_the_same_weights(folder):
    write_card(read_run(folder), None)
    recorder = Recorder(folder.path, build_provenance(folder.identity(), ""), 0)
    recorder.begin("0" * 64)
    with pytest.raises(RunFolderError, match="other weights for round 1"):
        write_card(read_run(folder), None)
