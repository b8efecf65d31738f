"""Rounds of files that devices wrote: the same model from every aggregator, and nothing written at a fault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge.clients.files import write_update
from models.weights import weights_to_bytes
from orchestrator.aggregator import Cohort
from orchestrator.cli.commands import cli
from orchestrator.errors import OrchestratorError
from orchestrator.rounds.build import build_encoder, learning_rates, model_size
from orchestrator.rounds.groups import Groups, split
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import ServerState
from orchestrator.run.data import load_client_data
from orchestrator.run.devices import read_device_updates
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.settings.files import read_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = {
    "data.vocabulary_size": 120,
    "model.vocabulary_size": 30,
    "model.embedding_size": 8,
    "model.num_cells": 12,
    "rounds.cohort_size": 6,
    "rounds.count": 8,
    "aggregation.min_survivors": 3,
}


def fedkeys(*args, ok: bool = True):
    """What a command printed with --json, or its error."""
    done = CliRunner().invoke(cli, [str(a) for a in args])
    if ok and done.exception is not None:
        raise done.exception
    return json.loads(done.stdout) if ok else done.exception


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    lines = [
        {"client_id": f"p{person:02}", "text": f"i like my dog word{person} and cat{place % 5}", "timestamp": place}
        for person in range(30)
        for place in range(24)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def build_run(text, tmp_path_factory):
    """Builds a run that stands after a round, with the optimiser's first state."""
    from orchestrator.rounds.server_optimizer import tff_optimizer

    def build(round_num=7, **settings) -> RunFolder:
        overrides = {**SETTINGS, "data.source": str(text), **{k.replace("__", "."): v for k, v in settings.items()}}
        config = read_config(preset="smoke", overrides=overrides)
        corpus, data = load_client_data(config)
        size = model_size(config.model, data.vocabulary.size)
        folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
        folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, size.num_weights))
        folder._unlock()  # as if the process that trained it had ended
        rng = np.random.default_rng(0)
        drawn = tuple((0.3 * rng.standard_normal(shape)).astype(np.float32) for shape in size.shapes)
        folder.save_checkpoint(ServerState(round_num, drawn, tff_optimizer(config.server, size)[0]()), 3)
        return folder

    return build


def write_updates(folder: RunFolder, path: Path, num: int, weights=None, **changes) -> list[Path]:
    """Files of small updates that began at the run's newest weights, or at others."""
    weights = weights or folder.load_checkpoint().weights
    paths = []
    for device in range(num):
        rng = np.random.default_rng(device)
        delta = tuple(0.01 * rng.standard_normal(w.shape).astype(np.float32) for w in weights)
        result = {"delta": delta, "num_examples": 5 + device, "num_tokens": 40 + device, "loss_sum": 90.0, **changes}
        paths.append(path / f"update{device}")
        write_update(paths[-1], result, weights)
    return paths


def test_every_aggregator_gives_the_same_round(build_run, tmp_path):
    from orchestrator.rounds.server_optimizer import tff_optimizer

    digests, states, paths = set(), [], []
    for name in ("plain", "secagg", "encrypted", "split"):
        folder = build_run(aggregation__aggregator=name, server__algorithm="fedavg", server__learning_rate=1.0)
        before = folder.load_checkpoint()
        paths = paths or write_updates(folder, tmp_path, 5)  # all runs begin at the same weights
        # In another order and under another name it is the same round.
        moved = Path(shutil.copy(paths[0], tmp_path / "z"))
        printed = fedkeys("aggregate", "--run", folder.path, *paths[1:], moved, "--json")
        assert (printed["round_num"], printed["num_survivors"]) == (8, 5)
        assert printed["metrics"]["num_tokens"] == sum(40 + device for device in range(5))
        digests.add(printed["weights_sha256"])
        states.append(folder.load_checkpoint())
        line = folder.rounds()[-1]
        assert (line.round_num, line.clients, len(list(line.survivors))) == (8, "device files", 5)
        assert weights_digest(states[-1].model) == printed["weights_sha256"] == line.weights_sha256
    assert len(digests) == 1
    # Against the mean by hand, through the server's own optimiser.
    config = folder.config()
    total = sum(40 + device for device in range(5))
    drawn = [np.random.default_rng(device) for device in range(5)]
    mean = tuple(
        sum(0.01 * rng.standard_normal(w.shape).astype(np.float32) * ((40 + d) / total) for d, rng in enumerate(drawn))
        for w in before.weights
    )
    size = model_size(config.model, folder.vocabulary().size)
    _, by_hand = tff_optimizer(config.server, size)[1](
        before.optimizer_state, before.weights, mean, learning_rates(config, 8)[1]
    )
    for mine, theirs in zip(states[0].weights, by_hand):
        np.testing.assert_allclose(mine, theirs, atol=2 * build_encoder(config, size).step + 1e-6)
        assert np.abs(mine - theirs).max() < 1e-3 * np.abs(mean[0]).max()


def test_files_are_summed_in_groups_and_the_median_counts(build_run, tmp_path):
    settings = {"rounds__cohort_size": 9, "aggregation__groups": 3, "server__algorithm": "fedavg"}
    folder = build_run(aggregation__aggregator="plain", server__learning_rate=1.0, **settings)
    before = folder.load_checkpoint()
    paths = write_updates(folder, tmp_path, 9)
    updates = read_device_updates(paths, before.weights)
    groups = split(Cohort(8, tuple(u.client_id for u in updates), 3), Groups(3, np.median), folder.config().seed)
    by_name = {update.client_id: update.result for update in updates}
    means = []
    for group in groups:
        own = [by_name[member] for member in group.members]
        tokens = np.array([result["num_tokens"] for result in own], np.float64)
        deltas = np.array([np.concatenate([d.ravel() for d in result["delta"]]) for result in own])
        means.append(tokens @ deltas / tokens.sum())
    fedkeys("aggregate", "--run", folder.path, *paths, "--json")
    after = folder.load_checkpoint()
    moved = np.concatenate([(b - a).ravel() for b, a in zip(before.weights, after.weights)])
    rate = learning_rates(folder.config(), 8)[1]
    np.testing.assert_allclose(moved, rate * np.median(means, axis=0), atol=1e-5)
    assert np.abs(np.median(means, axis=0) - np.mean(means, axis=0)).max() > 1e-3


def test_a_damaged_newest_checkpoint_is_named_and_replaced(build_run, tmp_path, caplog):
    folder = build_run(aggregation__aggregator="plain")
    weights = folder.load_checkpoint().weights
    damaged = folder.checkpoint_path(8)
    damaged.write_bytes(b"PK")
    printed = fedkeys("aggregate", "--run", folder.path, *write_updates(folder, tmp_path, 3, weights), "--json")
    assert printed["round_num"] == 8
    assert f"{damaged} is damaged: going on from round 7" in caplog.text
    assert folder.load_checkpoint().round_num == 8


def test_rounds_follow_one_another_past_the_last(build_run, tmp_path):
    folder = build_run(aggregation__aggregator="plain")
    weights_file = tmp_path / "weights"
    printed = fedkeys("aggregate", "--run", folder.path, "--save-weights", weights_file, "--json")
    assert (printed["next_round"], printed["next_learning_rate"]) == (8, learning_rates(folder.config(), 8)[0])
    assert weights_file.read_bytes() == weights_to_bytes(folder.load_checkpoint().weights)
    for round_num in (8, 9):
        paths = write_updates(folder, tmp_path, 3)
        printed = fedkeys("aggregate", "--run", folder.path, *paths, "--save-weights", weights_file, "--json")
        assert (printed["round_num"], printed["next_round"]) == (round_num, round_num + 1)
        assert weights_file.read_bytes() == weights_to_bytes(folder.load_checkpoint().weights)
    # Those of round 9 began before its own step.
    error = fedkeys("aggregate", "--run", folder.path, *paths, ok=False)
    assert "began at other weights" in str(error)


def test_the_record_goes_on(build_run, tmp_path):
    from orchestrator.run.record import Recorder, check_against_reports, read_record
    from orchestrator.run.sources import build_provenance

    folder = build_run(0, aggregation__aggregator="plain")
    recorder = Recorder(folder.path, build_provenance(folder.identity(), ""), 0)
    recorder.begin(weights_digest(folder.load_checkpoint().model))
    for _ in range(2):
        fedkeys("aggregate", "--run", folder.path, *write_updates(folder, tmp_path, 3), "--json")
    entries = read_record(folder.path)
    assert [entry.outcome for entry in entries] == ["initial", "completed", "completed"]
    check_against_reports(folder.path, entries, folder.rounds())


def test_a_non_finite_update_counts_as_zeros(build_run, tmp_path):
    folder = build_run(aggregation__aggregator="plain")
    paths = write_updates(folder, tmp_path, 4)
    broken = tuple(np.full_like(w, np.nan) for w in folder.load_checkpoint().weights)
    result = {"delta": broken, "num_examples": 1, "num_tokens": 1, "loss_sum": 1.0}
    write_update(paths[0], result, folder.load_checkpoint().weights)
    printed = fedkeys("aggregate", "--run", folder.path, *paths, "--json")
    assert (printed["num_survivors"], printed["metrics"]["non_finite_clients"]) == (4, 1)


def test_bad_files_change_nothing(build_run, tmp_path):
    folder = build_run(aggregation__aggregator="plain")
    state = folder.load_checkpoint()
    good = write_updates(folder, tmp_path, 7)
    (tmp_path / "cut").write_bytes(good[0].read_bytes()[:-3])
    (tmp_path / "other").write_bytes(b"no update" * 9)
    (tmp_path / "again").write_bytes(good[1].read_bytes())
    for name, changes in {
        "strangers": {"weights": tuple(w + 1 for w in state.weights)},
        "greedy": {"num_tokens": 2**30},
        "idle": {"num_tokens": 0},
    }.items():
        (tmp_path / name).mkdir()
        write_updates(folder, tmp_path / name, 1, **changes)
    cases = {
        "bytes instead of": [*good[:3], tmp_path / "cut"],
        "holds no update": [*good[:3], tmp_path / "other"],
        "holds the same update as": [*good[:3], tmp_path / "again"],
        "can't be read": [*good[:3], tmp_path / "nothing"],
        "began at other weights": [*good[:3], tmp_path / "strangers" / "update0"],
        "claims 5 examples and 1073741824 tokens": [*good[:3], tmp_path / "greedy" / "update0"],
        "claims 5 examples and 0 tokens": [*good[:3], tmp_path / "idle" / "update0"],
        "give at most 6": good,
        "wait for more devices": good[:2],
    }
    for message, paths in cases.items():
        error = fedkeys("aggregate", "--run", folder.path, *paths, ok=False)
        assert message in str(error), (message, error)
        assert error.exit_code == (3 if "wait" in message else 2)
    assert folder.checkpoints() == [7]
    assert folder.rounds() == ()


def test_a_run_under_differential_privacy_takes_no_files(build_run, tmp_path):
    private = {
        "privacy__mechanism": "central",
        "privacy__noise_multiplier": 1.0,
        "privacy__clip_norm": 0.5,
        "client__weighting": "equal",
        "model__start_from_word_counts": False,
    }
    folder = build_run(aggregation__aggregator="plain", **private)
    error = fedkeys("aggregate", "--run", folder.path, *write_updates(folder, tmp_path, 3), ok=False)
    assert isinstance(error, OrchestratorError)
    assert "the ledger can't count" in str(error)
    assert folder.checkpoints() == [7]
