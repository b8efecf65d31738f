"""A run whose embedding stays as the start has it, down the whole road."""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_run import SMALL, fedkeys

from models.weights import weights_from_bytes
from orchestrator.run.folder import START_FILE, RunFolder
from orchestrator.run.saved import read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PRIVATE = (
    "--set", "privacy.mechanism=matrix", "--set", "privacy.noise_multiplier=1", "--set", "privacy.clip_norm=1",
    "--set", "client.weighting=equal", "--set", "model.start_from_word_counts=false", "--rounds", 4,
    "--set", "model.frozen=embedding",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A run with noise, begun with another run's weights, under each sum."""
    folder = tmp_path_factory.mktemp("frozen")
    done = fedkeys("train", "--run", folder / "start", "--data", text, "--rounds", 3, *SMALL)
    assert done.returncode == 0, done.stderr
    for name in ("secagg", "plain", "encrypted"):
        arguments = (*SMALL, *PRIVATE, "--set", f"model.start={folder / 'start'}", "--aggregator", name)
        done = fedkeys("train", "--run", folder / name, "--data", text, *arguments)
        assert done.returncode == 0, done.stderr
    kernel = (*SMALL, "--rounds", 2, "--set", "model.frozen=kernel", "--set", "client.epochs=2")
    done = fedkeys("train", "--run", folder / "kernel", "--data", text, *kernel)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_embedding_stays_to_the_bit_and_the_rest_moves(trained):
    run = read_run(RunFolder(trained / "secagg"))
    model, average = run.newest.weights, run.newest.model
    size = run.config.model.size_with(run.vocabulary.size)
    first = weights_from_bytes((trained / "secagg" / START_FILE).read_bytes(), size)
    for weights in (model, average):
        np.testing.assert_array_equal(weights[0], first[0])
        for name, after, before in zip(size.names[1:], weights[1:], first[1:]):
            assert (after != before).any(), name


def test_a_vector_has_no_slots_for_it(trained):
    costs = fedkeys("costs", "--run", trained / "secagg", "--json")
    size = read_run(RunFolder(trained / "secagg")).config.model.size
    figures = json.loads(costs.stdout)
    assert figures["vector_bytes"] == 4 * (size.num_weights - size.vocabulary_size * size.embedding_size + 1)
    assert figures["model_bytes"] == 4 * size.num_weights  # a client needs all of it


def test_a_round_is_replayed(trained):
    done = fedkeys("replay", "--run", trained / "plain", "--round", 3, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]


def test_the_sums_agree_on_who_paid_what(trained):
    epsilons = {read_run(RunFolder(trained / name)).rounds[-1].epsilon for name in ("secagg", "plain", "encrypted")}
    assert len(epsilons) == 1


def test_what_reads_the_embedding_is_refused_and_the_rest_works(trained, tmp_path):
    refused = fedkeys("attack", "--run", trained / "secagg", "--sentences", 3)
    assert refused.returncode == 2
    assert "model.frozen = embedding: the attack's rules read embedding, which nobody sends" in refused.stderr
    audited = fedkeys("audit", "--run", trained / "secagg", "--json")
    size = read_run(RunFolder(trained / "secagg")).config.model.size
    sent = size.num_weights - size.vocabulary_size * size.embedding_size
    assert json.loads(audited.stdout)["coordinates"] == sent, audited.stderr
    for command in (("evaluate",), ("card",), ("report",), ("export", "--out", tmp_path / "phone")):
        done = fedkeys(command[0], "--run", trained / "secagg", *command[1:])
        assert done.returncode == 0, (command, done.stderr)
    assert "Nobody trained or sent `embedding`" in (trained / "secagg" / "MODEL_CARD.md").read_text()
    done = fedkeys("verify", tmp_path / "phone")
    assert done.returncode == 0, done.stderr


def test_the_attack_and_the_transcript_read_the_weights_that_are_sent_behind_a_frozen_one(trained):
    done = fedkeys("attack", "--run", trained / "kernel", "--sentences", 3, "--json")
    found = json.loads(done.stdout)
    assert found["views"]["raw"]["bias_sign"]["f1"] > 0.7, found["views"]["raw"]  # at a whole vector's places 0.07
    done = fedkeys("transcript", "--run", trained / "kernel", "--words", "--json")
    seen = json.loads(done.stdout)
    assert len(set(seen["plain"]["loudest"]) & set(seen["typed"])) >= 4, seen["plain"]["loudest"]
