"""What a run may begin with, which rows of it the run's words get, and what is kept of it."""

from __future__ import annotations

import json
import stat

import numpy as np
import pytest

from models.vocabulary import SPECIAL_WORDS, Vocabulary, WordOrigin
from models.weights import ModelSize
from orchestrator.aggregator import CostLedger
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.rounds.build import first_weights
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run import start
from orchestrator.run.folder import START_FILE, RunFolder
from orchestrator.run.identity import RunIdentity, digest_of_what_matters
from orchestrator.run.saved import read_run
from orchestrator.run.start_origin import Start, StartText
from orchestrator.settings.files import read_config

SIZE = {"model.vocabulary_size": 9, "model.embedding_size": 2, "model.num_cells": 3}
OLD_WORDS = Vocabulary((*SPECIAL_WORDS, "see", "you", "there", "now"))
OWN_WORDS = Vocabulary((*SPECIAL_WORDS, "you", "gone", "see", "away", "now", "late"))  # "late" has no row


def weights_of(size, first=1.0):
    """Weights that are all different."""
    counted = np.arange(first, first + size.num_weights, dtype=np.float32)
    ends = np.cumsum([np.prod(shape) for shape in size.shapes])
    return tuple(part.reshape(shape) for part, shape in zip(np.split(counted, ends[:-1]), size.shapes))


def write_run(path, weights=None, words=OLD_WORDS, began_with=None, **settings):
    """A run of one round, whose model has those weights."""
    config = read_config(overrides={**SIZE, **settings})
    size = ModelSize(words.size, config.model.embedding_size, config.model.num_cells)
    weights = weights_of(size) if weights is None else weights
    folder = RunFolder(path)
    identity = RunIdentity(
        1, digest_of_what_matters(config), "old.jsonl", "7" * 64, words.digest, size.num_weights, {},
        WordOrigin("pooled"), **({"start": began_with} if began_with else {}),
    )  # fmt: skip
    folder.create(config, words, identity)
    report = RoundReport(1, "completed", ("ann",), ("ann",), {}, {}, CostLedger(), weights_digest(weights))
    folder.append_round(report, wall_s=1.0)
    folder.save_checkpoint(ServerState(1, weights, {"step": np.int32(1)}), keep=1)
    return weights


def config_from(place, **settings):
    return read_config(overrides={**SIZE, "model.start": str(place), **settings})


def test_words_get_the_rows_that_the_start_has_under_their_names_and_the_others_fresh_ones(tmp_path):
    old = write_run(tmp_path / "old")
    config = config_from(tmp_path / "old")
    weights, began_with = start.build_first_weights(config, OWN_WORDS)
    assert [w.shape for w in weights] == list(ModelSize(9, 2, 3).shapes)
    rows = {4: 5, 6: 4, 8: 7, **{special: special for special in range(4)}}  # own id: id in the start
    for own, other in rows.items():
        np.testing.assert_array_equal(weights[0][own], old[0][other])
        assert weights[4][own] == old[4][other]
    fresh = first_weights(config, ModelSize(9, 2, 3), None)
    np.testing.assert_array_equal(weights[0][[5, 7]], fresh[0][[5, 7]])
    # The biases of see, you and now are 72, 73 and 75: a quarter of the way up is 72.5.
    assert weights[4][[5, 7]].tolist() == [72.5, 72.5]
    for kept, had in zip(weights[1:4], old[1:4]):
        np.testing.assert_array_equal(kept, had)
    assert (began_with.words, began_with.mapped) == (5, 3)
    assert began_with.weights_sha256 == weights_digest(old)
    assert began_with.first_sha256 == weights_digest(weights)
    assert "after round 1; it knew 3 of the 5 words, and the others began with fresh" in began_with.statement
    assert "(old.jsonl) without differential privacy: no epsilon covers" in began_with.statement
    assert start.check_start(config, OWN_WORDS) == began_with.statement


def test_no_start_is_no_start():
    assert start.build_first_weights(read_config(), OWN_WORDS) is None
    assert start.check_start(read_config(), OWN_WORDS) is None


def test_the_texts_of_the_start_of_a_start_are_told_too(tmp_path):
    public = StartText("a public text", "8" * 64, licence="CC0")
    write_run(tmp_path / "old", began_with=Start("public text", "pretrained", 0, "a", "b", 5, 5, (public,)))
    began_with = start.build_first_weights(config_from(tmp_path / "old"), OWN_WORDS).start
    assert began_with.texts == (StartText("old.jsonl", "7" * 64), public)
    assert not began_with.is_public
    assert "the public text a public text (licence: CC0), which costs no epsilon" in began_with.statement


def test_of_a_bundle_it_is_said_that_what_came_before_it_is_not_known():
    said = "A bundle does not say what its own training began with"
    typed = (StartText("old.jsonl", "7" * 64),)
    assert said in Start("bundle", "phones", 3, "a", "b", 5, 5, typed).statement
    assert said not in Start("run", "old", 3, "a", "b", 5, 5, typed).statement


@pytest.mark.parametrize(
    ("written", "asked", "complaint"),
    [
        ({"audit.phrases": 1}, {}, "3 secret phrases were planted"),
        (
            {"audit.canaries": 20, "client.weighting": "equal", "model.start_from_word_counts": False},
            {},
            "20 canary clients",
        ),
        ({}, {"model.num_cells": 4}, "has 3 cells and an embedding of 2, and model.num_cells = 4"),
        ({}, {"model.embedding_size": 4}, "set these to the start's"),
        ({"data.tokeniser": 1}, {}, "those of data.tokeniser = 1, data.segmenter = 'none', and this run's of 2"),
        ({"words": Vocabulary((*SPECIAL_WORDS, "never"))}, {}, "knows none of the run's 5 words"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_in_one_line(tmp_path, written, asked, complaint):
    write_run(tmp_path / "old", **written)
    for check in (start.check_start, start.build_first_weights):
        with pytest.raises(ConfigError) as refused:
            check(config_from(tmp_path / "old", **asked), OWN_WORDS)
        assert complaint in str(refused.value)
        assert "\n" not in str(refused.value)
        assert str(refused.value).startswith("model.start = ")


@pytest.mark.parametrize("tensor", range(5))
def test_weights_that_are_not_finite_are_refused(tmp_path, tensor):
    weights = weights_of(ModelSize(8, 2, 3))
    weights[tensor].flat[-1] = np.nan if tensor % 2 else np.inf
    write_run(tmp_path / "old", weights)
    with pytest.raises(ConfigError, match="weights are not finite"):
        start.check_start(config_from(tmp_path / "old"), OWN_WORDS)


def test_what_is_no_start_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere: is no start: name the folder of a run"):
        start.check_start(config_from(tmp_path / "nowhere"), OWN_WORDS)
    write_run(tmp_path / "old")
    (tmp_path / "old" / "rounds.jsonl").unlink()
    with pytest.raises(RunFolderError, match="has no round yet"):
        start.check_start(config_from(tmp_path / "old"), OWN_WORDS)


def test_the_first_weights_are_kept_for_their_owner_alone_and_checked(tmp_path):
    write_run(tmp_path / "old")
    weights, began_with = start.build_first_weights(config_from(tmp_path / "old"), OWN_WORDS)
    config, folder, size = config_from(tmp_path / "old"), RunFolder(tmp_path / "new"), ModelSize(9, 2, 3)
    identity = RunIdentity(1, digest_of_what_matters(config), "c", "0", OWN_WORDS.digest, 9, {}, start=began_with)
    folder.create(config, OWN_WORDS, identity, weights)
    path = folder.path / START_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run = read_run(RunFolder(folder.path))
    assert run.start == began_with
    for kept, had in zip(start.read_first_weights(run.path, run.start, size), weights):
        np.testing.assert_array_equal(kept, had)
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    for content in (bytes(changed), bytes(changed[:-1])):
        path.write_bytes(content)
        with pytest.raises(RunFolderError, match=r"start.bin does not hold the weights that the run began with"):
            start.read_first_weights(run.path, run.start, size)


def test_a_run_without_a_start_says_nothing_of_it(tmp_path):
    write_run(tmp_path / "old")
    assert "start" not in json.loads((tmp_path / "old" / "run.json").read_bytes())
    assert start.read_first_weights(tmp_path / "old", read_run(RunFolder(tmp_path / "old")).start, None) is None


def test_the_place_of_a_start_is_not_in_the_digest_but_that_there_is_one_is():
    without, here, there = (
        digest_of_what_matters(read_config(overrides={"model.start": place})) for place in ("", "runs/a", "runs/b")
    )
    assert here == there != without


def test_no_words_are_counted_for_a_start():
    assert read_config().model.counts_words
    assert not read_config(overrides={"model.start": "runs/a"}).model.counts_words
