"""What the server saw of a client, on a run of two rounds that is trained here without TFF."""

from __future__ import annotations

import base64
import json
import random

import numpy as np
import pytest

from models.corpus import ClientId
from models.local_training import build_trainer
from models.model import load_model
from orchestrator.aggregator import Cohort, DropStage, PlainSum
from orchestrator.audit.transcript import read_transcript
from orchestrator.audit.transcript_results import read_transcript_file, write_transcript
from orchestrator.cli.audit_tables import print_transcript
from orchestrator.errors import RunFolderError
from orchestrator.report.report import write_report
from orchestrator.rounds.build import (
    NoStopwatch,
    build_encoder,
    client_weight,
    cut,
    draw_batches,
    learning_rates,
    model_size,
)
from orchestrator.rounds.round import run_round
from orchestrator.rounds.types import RoundFunctions, ServerState
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config

pytestmark = pytest.mark.slow  # TensorFlow: ten seconds


class Keeping(PlainSum):
    """Keeps each vector that it sums."""

    def __init__(self):
        self.vectors = {}

    def sum(self, vectors, cohort, drops):
        def kept():
            for name, vector in vectors:
                self.vectors[cohort.round_num, name] = vector.copy()
                yield name, vector

        return super().sum(kept(), cohort, drops)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, {(round, client): vector}); in round 2 one client is lost. Checkpoints 1 and 2 are kept, 0 is not."""
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    rng = random.Random(1)
    nouns = ["dog", "cat", "house", "friend", "class", "game"]
    lines = [
        {"client_id": f"p{person:02}", "text": f"i like my {rng.choice(nouns)} word{person}", "timestamp": i}
        for person in range(14)
        for i in range(20)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = read_config(
        overrides={
            "data.source": str(path),
            "model.embedding_size": 12,
            "model.num_cells": 16,
            "rounds.cohort_size": 5,
            "rounds.count": 2,
            "server.algorithm": "fedavg",
            "client.dropout": 0.2,
        }
    )
    corpus, data = load_client_data(config)
    size = model_size(config.model, data.vocabulary.size)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, size.num_weights))
    client = config.client
    trainer = build_trainer(size, config.data.max_words, client.clip_norm, client.proximal, client.dropout)
    keeping = Keeping()
    functions = RoundFunctions(
        batches_of=lambda person, rng: draw_batches(config, cut(data.train[person], size.vocabulary_size), rng),
        train_clients=lambda weights, rate, seed, batches: (trainer(weights, rate, seed, own) for own in batches),
        weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
        encoder=build_encoder(config, size),
        aggregator=keeping,
        update_server=lambda state, weights, delta, rate: (state, tuple(w - d for w, d in zip(weights, delta))),
    )
    state = ServerState(0, load_model(size).initial_weights(seed=0), {"step": np.int32(0)})
    members = tuple(map(ClientId, list(data.train)[:5]))
    for round_num in (1, 2):
        client_rate, server_rate = learning_rates(config, round_num)
        state, report = run_round(
            state,
            Cohort(round_num, members, 2),
            functions,
            seed=config.seed,
            client_learning_rate=client_rate,
            server_learning_rate=server_rate,
            stopwatch=NoStopwatch(),
            drops={members[3]: DropStage.BEFORE_UPLOAD} if round_num == 2 else {},
        )
        folder.append_round(report, wall_s=1.0)
        folder.save_checkpoint(state, keep=2)
    return folder, keeping.vectors, members


@pytest.fixture(scope="module")
def shown(run):
    folder, _, members = run
    notes = []
    return read_transcript(read_run(folder), 2, members[1], notes.append)


def test_the_vector_in_the_clear_is_the_one_that_the_run_summed(run, shown):
    _, vectors, members = run
    vector = vectors[2, members[1]]
    assert shown.plain.first_words == tuple(vector[:8].tolist())
    assert shown.plain.bytes == vector.nbytes
    norm = shown.update_norm
    assert norm.computed_again == pytest.approx(norm.of_the_run, rel=1e-6)


def test_a_plain_server_reads_what_a_masked_or_encrypted_upload_hides(run, shown):
    _, vectors, members = run
    plain, masked, encrypted, split = shown.plain, shown.masked, shown.encrypted, shown.split
    assert not plain.uniform_bytes.ok
    assert plain.uniform_bytes.n == plain.bytes == masked.bytes
    for upload in (masked, encrypted, split):
        assert upload.uniform_bytes.ok
        assert upload.correlation.ok
        assert upload.correlation.n == vectors[2, members[1]].size
        assert abs(upload.correlation.r) < 0.2
    assert masked.first_words != plain.first_words
    assert len(bytes.fromhex(encrypted.first_bytes)) == 32
    assert {"i", "like", "my"} <= set(plain.loudest)
    assert {"i", "like", "my"} <= set(shown.typed)


def test_masks_are_fresh_and_the_vector_is_the_same(run, shown):
    again = read_transcript(read_run(run[0]), 2, run[2][1], lambda text: None)
    assert again.plain == shown.plain
    assert again.masked.first_words != shown.masked.first_words
    assert again.encrypted.first_bytes != shown.encrypted.first_bytes
    assert again.split.first_words != shown.split.first_words


def test_the_first_survivor_is_shown_if_nobody_is_named(run):
    assert read_transcript(read_run(run[0]), 2, None, lambda text: None).client == run[2][0]


def test_without_a_round_the_last_that_can_be_shown_is(run):
    assert read_transcript(read_run(run[0]), None, None, lambda text: None).round_num == 2


def test_the_report_shows_it(run, shown):
    folder = run[0]
    assert "What the server saw of one client" not in write_report(read_run(folder)).read_text()
    write_transcript(folder.path, shown)
    kept = read_transcript_file(folder.path)
    assert kept == shown
    for upload in kept.uploads.values():
        assert sum(upload.byte_counts) == upload.bytes
        assert len(base64.b64decode(upload.picture)) == min(4800, upload.bytes)
    page = write_report(read_run(folder)).read_text()
    assert "What the server saw of one client" in page
    assert "masked or encrypted passes the tests" in page
    (folder.path / "transcript.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"transcript\.json is damaged"):
        write_report(read_run(folder))
    (folder.path / "transcript.json").unlink()


def test_people_can_read_it(shown, capsys):
    print_transcript(shown)
    printed = capsys.readouterr().out
    for text in (f"Client {shown.client} in round 2", "p < 1e-300", "like *", "Keys are fresh"):
        assert text in printed, text


def test_what_can_t_be_shown_says_what_can(run, tmp_path):
    folder, _, members = run
    with pytest.raises(RunFolderError, match=r"round 1 of .* can't be shown: .* here that is 2$"):
        read_transcript(read_run(folder), 1, None, print)
    with pytest.raises(RunFolderError, match=f"client {members[3]} sent no update in round 2; these did: {members[0]}"):
        read_transcript(read_run(folder), 2, members[3], print)
    with pytest.raises(RunFolderError, match="holds no run"):
        read_transcript(read_run(RunFolder(tmp_path / "nothing")), 2, None, print)
