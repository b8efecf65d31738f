"""A run that version 0.1.0 left (tests/data/run_of_0_1) still evaluates, reports, replays and resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from orchestrator.cli.commands import cli
from orchestrator.run.folder import RunFolder
from orchestrator.run.record import FIRST_PREVIOUS, RECORD_FILE, build_entry, read_record
from orchestrator.run.saved import read_run
from orchestrator.run.sources import code_digest, lock_digest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEPT = Path(__file__).parents[2] / "data" / "run_of_0_1"


def fedkeys(*args) -> str:
    """What a command printed on standard output."""
    done = CliRunner().invoke(cli, [str(arg) for arg in args])
    if done.exception is not None:
        raise done.exception
    # Older clicks mix standard error in, where a command names the files that it wrote.
    lines = [line for line in done.stdout.splitlines() if not line.startswith("wrote ")]
    return lines[-1] if lines else ""


@pytest.fixture
def run(tmp_path):
    """A copy of the run, whose text lies beside it."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace('"people.jsonl"', json.dumps(str(tmp_path / "people.jsonl"))))
    return tmp_path / "run"


def without_spread(figures):
    """The figures that the machine's last bits change by little; examples and intervals by rank may turn over."""
    kept = {name: figures[name] for name in ("positions", "clients", "oov_rate", "round_num")}
    for predictor in ("model", "trigram", "bigram", "unigram"):  # the mixture is with a better n-gram now
        kept.update(
            {f"{predictor}.{name}": figures[predictor][name] for name in ("top1", "top3", "loss_nats_per_token")}
        )
    return kept


def test_it_evaluates_to_the_same_figures_in_the_same_fields(run):
    before = json.loads((run / "evaluation.json").read_text())
    printed = json.loads(fedkeys("evaluate", "--run", run, "--personalise", "--json"))
    assert printed.keys() >= before.keys()
    for name, value in before.items():
        if isinstance(value, dict):
            assert printed[name].keys() >= value.keys(), name
    assert without_spread(printed) == pytest.approx(without_spread(before), abs=1e-3)


def test_its_files_are_read_by_the_report(run):
    fedkeys("report", "--run", run)
    page = (run / "report.html").read_text()
    assert "What the server saw of one client" in page  # transcript.json
    assert "What the server could read" in page  # attack.json
    assert "6 in each of 6 rounds" in page
    assert json.loads(fedkeys("privacy", "--run", run, "--json"))["mechanism"] == "none"


def test_its_card_s_record_and_statement_hold(run):
    assert json.loads(fedkeys("card", "--run", run, "--check", "--json"))["ok"]
    assert json.loads(fedkeys("card", "--run", run, "--json"))["weights_sha256"] == read_record(run)[6].weights_sha256


def test_it_resumes_to_the_weights_that_it_had(run):
    newest = run / "checkpoints" / "round_000006.npz"
    kept, digest = RunFolder(run).load_checkpoint(6), read_run(RunFolder(run)).rounds[-1].weights_sha256
    newest.unlink()
    lines = (run / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (run / "rounds.jsonl").write_bytes(b"".join(lines[:4]))
    printed = json.loads(fedkeys("train", "--run", run, "--resume", "--json"))
    again = RunFolder(run).load_checkpoint(6)
    if printed["weights_sha256"] != digest:  # another processor rounds otherwise
        for before, after in zip(kept.model, again.model):
            np.testing.assert_allclose(after, before, atol=1e-5)
    assert [line.round_num for line in read_run(RunFolder(run)).rounds] == [1, 2, 3, 4, 5, 6]
    assert (run / "rounds.jsonl").read_bytes().startswith(b"".join(lines[:4]))
    assert [entry.round_num for entry in read_record(run)] == [0, 1, 2, 3, 4, 5, 6]


def test_a_round_of_it_is_replayed_once_the_record_names_this_code(run):
    """A record names the code that made it, and other code is refused, as in version 0.1.0."""
    done = CliRunner().invoke(cli, ["replay", "--run", str(run), "--round", "5", "--json"])
    assert "code_sha256 differs" in str(done.exception)
    lines, previous = [], FIRST_PREVIOUS
    for entry in read_record(run):
        values = {name: getattr(entry, name) for name in entry.__struct_fields__[:-2]}
        values.update(code_sha256=code_digest(), lock_sha256=lock_digest(), previous_sha256=previous)
        made = build_entry(values)
        previous = made.entry_sha256
        lines.append(msgspec.json.encode(made) + b"\n")
    (run / RECORD_FILE).write_bytes(b"".join(lines))
    done = CliRunner().invoke(cli, ["replay", "--run", str(run), "--round", "5", "--json"])
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["round_num"], figures["from_round"]) == (5, 4)
    if not figures["ok"]:  # another processor rounds otherwise: who took part is the same, the sum is not
        assert set(figures["differs"]) == {"aggregate_commitment", "weights_sha256"}
