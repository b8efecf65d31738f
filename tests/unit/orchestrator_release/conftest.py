"""A run that was evaluated, and a key to sign with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from evaluated_run import EVALUATION, WEIGHTS

from edge.bundle.signing import generate_key
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import CostLedger
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import SCHEMA, RunIdentity, digest_of_what_matters
from orchestrator.run.record import Recorder
from orchestrator.run.sources import build_provenance
from orchestrator.settings.files import read_config


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = read_config(overrides={"rounds.count": 1})
    vocabulary = Vocabulary(SPECIAL_WORDS + ("see", "you"))
    identity = RunIdentity(
        SCHEMA, digest_of_what_matters(config), "corpus", "1" * 64, vocabulary.digest, 99, {"numpy": "1"}
    )
    folder.create(config, vocabulary, identity)
    recorder = Recorder(folder.path, build_provenance(identity, ""), 0)
    recorder.begin("0" * 64)
    report = RoundReport(1, "completed", ("ann", "bob"), ("ann",), {}, {}, CostLedger(), weights_digest(WEIGHTS))
    recorder.append(report, sync=True)
    folder.append_round(report, wall_s=1.0)
    folder.save_checkpoint(ServerState(1, WEIGHTS, {"step": np.int32(1)}), keep=1)
    (folder.path / "evaluation.json").write_text(json.dumps(EVALUATION))
    return folder


@pytest.fixture
def key(tmp_path):
    generate_key(tmp_path / "key")
    return tmp_path / "key"
