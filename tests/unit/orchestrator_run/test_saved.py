"""A run as it is read: once, checked against what its rounds reported."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from models.errors import VocabularyError
from models.vocabulary import WordOrigin
from orchestrator.aggregator import CostLedger
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.rounds.round import weights_digest
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import build_identity
from orchestrator.run.results import kept, write_figures
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config

PEOPLE = [f"p{number}" for number in range(12)]


def state(round_num):
    return ServerState(round_num, (np.full((3, 2), round_num, np.float32),), {"step": np.int32(round_num)})


def report(round_num, digest):
    return RoundReport(round_num, "completed", ("p0",), ("p0",), {}, {}, CostLedger(), digest)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "people.jsonl"
    lines = (f'{{"client_id": "{name}", "text": "see you {name} word{n}"}}\n' for name in PEOPLE for n in range(12))
    path.write_text("".join(lines))
    return path


@pytest.fixture
def folder(tmp_path, text):
    """Two rounds of a run on that text, each with its checkpoint."""

    config = read_config(overrides={"data.source": str(text), "rounds.cohort_size": 4, "runtime.workers": "1"})
    corpus, data = load_client_data(config)
    folder = RunFolder(tmp_path / "run")
    folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, 6))
    for round_num in (1, 2):
        folder.append_round(report(round_num, weights_digest(state(round_num).model)), wall_s=0.5)
        folder.save_checkpoint(state(round_num), keep=2)
    return folder


def test_a_run_is_what_its_folder_held_when_it_was_read(folder):
    run = read_run(folder)
    folder.forget_rounds_after(1)
    assert [line.round_num for line in run.rounds] == [1, 2]
    assert (run.path, run.name) == (folder.path, "run")
    assert run.newest.round_num == 2
    assert run.newest is run.newest
    assert run.state_after(1).round_num == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.rounds = ()


def test_workers_may_be_others_for_this_reading(folder):
    assert read_run(folder).config.runtime.workers == "1"
    assert read_run(folder, "2").config.runtime.workers == "2"
    with pytest.raises(ConfigError, match="workers"):
        read_run(folder, "2,3")


def test_the_text_is_that_of_the_training_or_refused(folder, text):
    assert set(read_run(folder).text.corpus.clients) == set(PEOPLE)
    with open(text, "a") as file:
        file.write('{"client_id": "p0", "text": "one sentence more"}\n')
    with pytest.raises(RunFolderError, match=r"was trained on another text than .*people\.jsonl holds now: restore it"):
        _ = read_run(folder).text


def test_other_weights_than_reported_are_refused(folder):
    folder.forget_rounds_after(1)
    folder.append_round(report(2, "0" * 64), wall_s=0.5)
    run = read_run(folder)
    assert run.state_after(1).round_num == 1
    with pytest.raises(RunFolderError, match="round_000002.npz does not hold the weights"):
        _ = run.newest


def test_a_run_before_its_first_round_has_nothing_to_show(folder):
    folder.forget_rounds_after(0)
    with pytest.raises(RunFolderError, match="has no round yet"):
        read_run(folder).require_rounds()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="holds no run"):
        read_run(RunFolder(tmp_path / "nothing"))


def test_a_changed_word_list_is_refused_where_it_is_read(folder):
    path = folder.path / "vocabulary.txt"
    words = path.read_text().split("\n")[:-1]
    path.write_text("\n".join(words[:4] + words[:3:-1]) + "\n")
    run = read_run(folder)
    for read in (lambda: run.vocabulary, lambda: run.text):
        with pytest.raises(RunFolderError, match=r"vocabulary\.txt was changed since the run began"):
            read()


def test_a_changed_configuration_is_refused(folder):
    text = folder.config_path.read_text()
    folder.config_path.write_text(text.replace("max_words = 20", "max_words = 19"))
    with pytest.raises(RunFolderError, match=r"config\.toml was changed since the run began"):
        read_run(folder)


def test_a_text_that_was_moved_names_the_way_out(folder, text):
    text.rename(text.with_name("moved.jsonl"))
    with pytest.raises(RunFolderError, match="--resume --data PLACE"):
        read_run(folder).text  # noqa: B018


@pytest.mark.parametrize("word", ["See", "YOU", "cafe\u0301"])
def test_a_word_that_nobody_can_type_is_refused_by_its_line(tmp_path, text, word):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(["<pad>", "<bos>", "<eos>", "<unk>", "see", word, ""]), encoding="utf-8")
    config = read_config(overrides={"data.source": str(text), "data.vocabulary": str(path)})
    with pytest.raises(VocabularyError, match=r"words\.txt, line 6: nobody can type"):
        load_client_data(config)


def test_a_damaged_newest_checkpoint_is_refused_and_an_older_one_must_be_named(folder):
    path = folder.checkpoint_path(2)
    path.write_bytes(path.read_bytes()[:100])
    run = read_run(folder)
    with pytest.raises(RunFolderError, match=r"round_000002\.npz is damaged.* round 1 "):
        run.newest  # noqa: B018
    assert run.state_after(1).round_num == 1
    assert folder.load_to_go_on().round_num == 1  # where a resume goes on


def test_what_holds_people_s_names_is_its_owner_s_alone(folder):
    assert folder.rounds_path.stat().st_mode & 0o777 == 0o600
    folder.forget_rounds_after(1)
    assert folder.rounds_path.stat().st_mode & 0o777 == 0o600
    write_figures(folder.path / "words.json", {"word": 1}, private=True)
    assert (folder.path / "words.json").stat().st_mode & 0o777 == 0o600


def test_figures_that_can_t_be_written_are_not_lost(tmp_path):
    def find():
        write_figures(tmp_path / "none" / "figures.json", {"recall": 0.25})

    figures, fault = kept(find)
    assert figures == {"recall": 0.25}
    assert "figures.json can't be written (No such file or directory)" in fault
    assert kept(lambda: 7) == (7, "")


@pytest.mark.parametrize("vocabulary", ["pooled", "public"])
def test_a_run_keeps_its_words_and_where_they_come_from(tmp_path, text, vocabulary, monkeypatch):
    secrets = {f"secret{chr(97 + place)}" for place in range(len(PEOPLE))}
    with open(text, "a") as file:
        for name, word in zip(PEOPLE, sorted(secrets)):
            file.write(f'{{"client_id": "{name}", "text": "{word} {word} {word}"}}\n')
    settings = {"data.source": str(text), "rounds.cohort_size": 4, "data.vocabulary": vocabulary}
    config = read_config(overrides={**settings, "data.vocabulary_size": 60, "model.vocabulary_size": 60})
    corpus, data = load_client_data(config)
    folder = RunFolder(tmp_path / "run")
    folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, 6, data.origin))
    monkeypatch.setitem(sys.modules, "wordfreq", None)  # another machine may lack it, or have another list
    run = read_run(folder)
    assert run.config.data.vocabulary == vocabulary
    assert run.text.data.vocabulary == data.vocabulary
    assert not secrets & set(data.vocabulary.words)  # each typed by one person alone
    if vocabulary == "public":
        assert run.words == WordOrigin("public", from_text=0, from_public=56, language="en")
    else:
        assert run.words == WordOrigin("pooled", from_text=16, fewest_people=10, from_public=40, language="en")
        assert {"see", "you", "word", "p", *map(str, range(12))} == set(data.vocabulary.words[4:20])


def test_a_run_of_before_keeps_its_pooled_words(folder):
    """Its run.json does not say where they come from."""
    assert read_run(folder).words == WordOrigin("pooled")
    (folder.path / "vocabulary.json").write_text("{}")
    assert read_run(folder).words == WordOrigin("federated")


def test_a_public_list_needs_a_language(text):
    with pytest.raises(ConfigError, match=r"data\.language = 'none': name the language of the public list"):
        load_client_data(
            read_config(
                overrides={"data.source": str(text), "data.vocabulary": "public", "data.language": "none"},
            )
        )


@pytest.mark.parametrize(("language", "warns"), [("ru", True), ("en", False)])
def test_a_list_of_another_language_than_the_text_is_warned_of(tmp_path, language, warns, caplog):
    path = tmp_path / "few.jsonl"  # too few people for any word of theirs
    path.write_text("".join(f'{{"client_id": "{name}", "text": "see you there"}}\n' for name in PEOPLE for _ in "12"))
    overrides = {"data.source": str(path), "data.min_people": 11, "data.min_sentences": 1, "data.language": language}
    load_client_data(read_config(overrides={**overrides, "rounds.cohort_size": 4}))
    assert ("set data.language to that of the text" in caplog.text) == warns
