"""A run's folder: what it keeps, what it refuses."""

from __future__ import annotations

import json
import os

import msgspec
import numpy as np
import pytest

from models.corpus import ClientId, ClientText, Corpus
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.aggregator import CostLedger
from orchestrator.errors import RunFolderError
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig

VOCABULARY = Vocabulary((*SPECIAL_WORDS, "see", "you"))
CORPUS = Corpus("text", {ClientId("a"): ClientText(ClientId("a"), ("see you",), (None,))}, "0" * 64)


def state(round_num=1, average=True):
    weights = (np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(2, np.float32) * round_num)
    optimizer = {"learning_rate": np.float32(0.5), "step": np.int32(round_num), "accumulator": weights}
    return ServerState(round_num, weights, optimizer, tuple(w + 1 for w in weights) if average else None)


def report(round_num, digest="0" * 64):
    return RoundReport(round_num, "completed", ("a",), ("a",), {"train_loss": 1.0}, {}, CostLedger(), digest)


@pytest.fixture
def folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    config = RunConfig()
    run.create(config, VOCABULARY, build_identity(config, CORPUS, VOCABULARY, 8))
    return run


@pytest.mark.parametrize("average", [True, False])
def test_a_checkpoint_comes_back_bit_for_bit(folder, average):
    before = state(3, average)
    folder.save_checkpoint(before, keep=2)
    after = folder.load_checkpoint()
    assert after.round_num == 3
    assert list(after.optimizer_state) == list(before.optimizer_state)
    assert type(after.optimizer_state["step"]) is np.int32
    for a, b in zip((*before.weights, *before.model), (*after.weights, *after.model)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert (after.average is None) != average


def test_an_optimiser_without_a_state_comes_back(folder):
    folder.save_checkpoint(ServerState(1, (np.ones(2, np.float32),), {"learning_rate": np.float32(1)}), keep=1)
    assert folder.load_checkpoint().optimizer_state == {"learning_rate": 1.0}


def test_only_the_newest_checkpoints_stay_and_strangers_are_passed_over(folder):
    for round_num in (1, 2, 3):
        folder.save_checkpoint(state(round_num), keep=2)
    stranger = folder.path / "checkpoints" / "round_000003 (copy).npz"
    stranger.write_bytes(b"x")
    assert folder.checkpoints() == [2, 3]
    assert stranger.exists()


def cut_short(folder, round_num):
    path = folder.checkpoint_path(round_num)
    path.write_bytes(path.read_bytes()[:50])


def test_who_goes_on_is_told_which_checkpoint_is_damaged(folder, caplog):
    for round_num in (1, 2, 3, 4):
        folder.save_checkpoint(state(round_num), keep=4)
    assert folder.load_to_go_on().round_num == 4
    assert not caplog.messages
    for round_num in (3, 4):
        cut_short(folder, round_num)
    assert folder.load_to_go_on().round_num == 2
    assert caplog.messages == [
        f"{folder.checkpoint_path(4)} is damaged: going on from round 3",
        f"{folder.checkpoint_path(3)} is damaged: going on from round 2",
    ]
    for round_num in (1, 2):
        cut_short(folder, round_num)
    with pytest.raises(RunFolderError, match=r"round_000001\.npz is damaged: restore it or train anew$"):
        folder.load_to_go_on()


def test_a_damaged_checkpoint_of_a_later_round_does_not_push_out_the_new_ones(folder):
    """The newest file was damaged, and the run goes on from an older one: a kill must find what it kept since."""
    for round_num in (1, 5):
        folder.save_checkpoint(state(round_num), keep=2)
    cut_short(folder, 5)
    folder.save_checkpoint(state(2), keep=1)
    assert folder.checkpoints() == [2]
    assert folder.load_to_go_on().round_num == 2


def test_the_newest_checkpoint_is_not_passed_over_by_who_asks_for_it(folder):
    for round_num in (1, 2):
        folder.save_checkpoint(state(round_num), keep=2)
    cut_short(folder, 2)
    with pytest.raises(RunFolderError, match=r"round_000002\.npz is damaged.* round 1 "):
        folder.load_checkpoint()
    with pytest.raises(RunFolderError, match="round_000002.npz is damaged"):
        folder.load_checkpoint(2)
    with pytest.raises(RunFolderError, match="no checkpoint of round 7: it has 1, 2"):
        folder.load_checkpoint(7)


def test_a_cut_last_line_is_passed_over_and_another_is_refused(folder):
    folder.append_round(report(1), wall_s=1.5)
    folder.append_round(report(2), wall_s=1.5)
    whole = folder.rounds_path.read_bytes()
    folder.rounds_path.write_bytes(whole[:-20])
    assert [line.round_num for line in folder.rounds()] == [1]
    folder.rounds_path.write_bytes(whole[20:])
    with pytest.raises(RunFolderError, match="line 1 is damaged"):
        folder.rounds()
    folder.rounds_path.write_bytes(b"\xff\xfe\n" + whole)
    with pytest.raises(RunFolderError, match="line 1 is damaged"):
        folder.rounds()


@pytest.mark.parametrize("kept", [0, 1, 3, 4])
def test_a_resume_keeps_exactly_the_lines_up_to_its_checkpoint(folder, kept):
    for round_num in (1, 2, 3, 4):
        folder.append_round(report(round_num), wall_s=1.5)
    lines = folder.rounds_path.read_bytes().splitlines(keepends=True)
    with open(folder.rounds_path, "ab") as file:
        file.write(b'{"round_num": 5, "cut o')  # as a kill in mid-write leaves it
    folder.forget_rounds_after(kept)
    assert folder.rounds_path.read_bytes() == b"".join(lines[:kept])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"schema": 1}'])
def test_a_damaged_identity_is_one_clear_error(folder, content):
    (folder.path / "run.json").write_bytes(content)
    with pytest.raises(RunFolderError):
        folder.identity()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["run.json", "config.toml", "rounds.jsonl", "checkpoints/round_000001.npz"])
def test_a_pipe_in_a_run_s_folder_is_refused_and_not_waited_for(folder, name):
    folder.save_checkpoint(state(), keep=1)
    (folder.path / name).unlink(missing_ok=True)
    os.mkfifo(folder.path / name)
    with pytest.raises(RunFolderError, match=f"{name} is neither a file nor a folder"):
        read_run(RunFolder(folder.path))


def test_another_schema_is_refused_by_number(folder):
    path = folder.path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(RunFolderError, match="has schema 2, this fedkeys reads 1"):
        read_run(folder)


def test_the_identity_is_about_what_comes_out():
    def digest(**overrides):
        return build_identity(read_config(overrides=overrides), CORPUS, VOCABULARY, 8).config_sha256

    same = digest()
    assert digest(**{"runtime.workers": "7", "data.source": "elsewhere.jsonl"}) == same
    assert digest(**{"rounds.count": 7}) != same


def test_a_folder_is_free_or_not(folder, tmp_path):
    with pytest.raises(RunFolderError, match="already holds a run"):
        folder.require_free()
    (folder.path / "run.json").unlink()  # as a kill at the very beginning would leave it
    folder.require_free()
    (folder.path / "letter.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not an empty folder"):
        folder.require_free()
    RunFolder(tmp_path / "new").require_free()


def test_two_cannot_have_the_same_run(folder):
    with pytest.raises(RunFolderError, match="in use by another process"):
        RunFolder(folder.path).lock()


def test_a_report_is_a_line_of_json_with_the_promised_fields(folder):
    folder.append_round(report(1), wall_s=1.5)
    line = msgspec.json.decode(folder.rounds_path.read_bytes())
    assert set(line) >= {
        "round_num", "outcome", "selected", "survivors", "metrics", "stage_s", "cost", "weights_sha256", "epsilon",
    }  # fmt: skip
    assert line["wall_s"] == 1.5
