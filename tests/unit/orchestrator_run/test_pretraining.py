"""A start on public text: what is refused, what the folder holds, and that a run takes it."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

from models import text_cache
from models.errors import CorpusError
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from models.weights import ModelSize
from orchestrator.cli.commands import cli
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.rounds.round import weights_digest
from orchestrator.run import pretraining, start
from orchestrator.run.pretrained import PRETRAINED_FILE, Pretrained, PretrainedRecall, read_pretrained, write_pretrained
from orchestrator.run.public_text import read_public_text
from orchestrator.run.start_origin import StartText
from orchestrator.settings.files import read_config

WORDS = Vocabulary((*SPECIAL_WORDS, "see", "you", "there", "now"))
SIZE = ModelSize(8, 2, 3)


@pytest.fixture
def people(tmp_path):
    """Thirty people who type sentences of six words."""
    rng, words = random.Random(0), ["see", "you", "at", "the", "house", "with", "my", "dog", "and", "a", "friend"]
    lines = [
        {"client_id": f"p{person:02}", "text": " ".join(rng.choice(words) for _ in range(6))}
        for person in range(30)
        for _ in range(12)
    ]
    path = tmp_path / "people.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def public(tmp_path):
    path = tmp_path / "public.txt"
    path.write_text("The house is there.\nI see you at the house now!\nthe dog and the friend\n" * 30)
    return path


def settings(people, **more):
    small = {"model.vocabulary_size": 60, "model.embedding_size": 4, "model.num_cells": 6, "data.vocabulary": "public"}
    return read_config(overrides={"data.source": str(people), **small, **more})


def refusal(error, *args):
    with pytest.raises(error) as refused:
        pretraining.pretrain(*args, print)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("words", ["pooled", "federated"])
def test_words_of_people_s_text_are_refused(tmp_path, people, public, words):
    config = settings(people, **{"data.vocabulary": words})
    assert "these words come from people's text" in refusal(
        ConfigError, tmp_path / "out", [public], "CC0-1.0", config, 1, 0.01
    )
    assert not (tmp_path / "out").exists()


def test_a_text_that_holds_the_test_people_s_sentences_is_refused(tmp_path, people, public):
    public.write_text("\n".join(json.loads(line)["text"] for line in people.read_text().splitlines()))
    told = refusal(ConfigError, tmp_path / "out", [public], "CC0-1.0", settings(people), 1, 0.5)
    assert "--text holds 100.00% of the test people's sentences, allowed are 50.00%" in told
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_free_and_texts_that_can_t_be_read_are_refused(tmp_path, people, public):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    assert "is not an empty folder" in refusal(
        RunFolderError, tmp_path / "out", [public], "CC0-1.0", settings(people), 1, 1.0
    )
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    for name, told in (("none.txt", "No such file"), ("latin.txt", "is not UTF-8, at byte 3")):
        assert told in refusal(CorpusError, tmp_path / "new", [tmp_path / name], "CC0-1.0", settings(people), 1, 1.0)


def test_a_public_text_is_split_into_words_once(tmp_path, people, public, monkeypatch):
    monkeypatch.setenv("FEDKEYS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(text_cache, "_WORTH_KEEPING", 1)
    first = read_public_text([public], "CC0-1.0", settings(people))
    monkeypatch.setattr(text_cache, "read_columns", None)  # which splits it
    assert read_public_text([public], "CC0-1.0", settings(people)) == first
    public.write_text("another text\n")
    with pytest.raises(TypeError):
        read_public_text([public], "CC0-1.0", settings(people))


def test_the_overlap_is_of_long_sentences_word_for_word():
    typed = ["see you at the house", "see you", "see you at the house now", "i am at the house"]
    assert pretraining.measure_overlap({"see you", "see you at the house", "house the at you see"}, typed) == 1 / 3
    assert pretraining.measure_overlap({"see you"}, ["see you"]) == 0.0


def write_start(folder, **changes):
    ends = np.cumsum([np.prod(shape) for shape in SIZE.shapes])
    flat = np.arange(SIZE.num_weights, dtype=np.float32)
    weights = tuple(part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), SIZE.shapes))
    values = {
        "tokeniser": 2, "segmenter": "none", "size": (8, 2, 3), "words": 4, "sentences": 9, "tokens": 30, "epochs": 1,
        "loss_nats_per_token": 5.0, "overlap": 0.0, "overlap_words": 5,
        "test": PretrainedRecall(0.1, 0.2, 6.0, 100, 12), "vocabulary_sha256": WORDS.digest,
        "weights_sha256": weights_digest(weights), "texts": (StartText("letters", "6" * 64, "CC0-1.0"),), **changes,
    }  # fmt: skip
    write_pretrained(folder, Pretrained(**values), WORDS, weights)
    return weights


def test_a_run_begins_with_a_public_start_and_says_its_licence(tmp_path):
    weights = write_start(tmp_path / "start")
    sizes = {"model.vocabulary_size": 8, "model.embedding_size": 2, "model.num_cells": 3}
    config = read_config(overrides={**sizes, "model.start": str(tmp_path / "start")})
    first, began_with = start.build_first_weights(config, WORDS)
    assert weights_digest(first) == weights_digest(weights)
    assert began_with.is_public
    assert began_with.statement == (
        "The training began with the public start `start`; it knew 4 of the 4 words. It was trained on the public text "
        "letters (licence: CC0-1.0), which costs no epsilon."
    )


@pytest.mark.parametrize(
    ("file", "told"), [("weights.bin", "does not hold the weights"), ("vocabulary.txt", "was changed since")]
)
def test_a_changed_start_is_refused(tmp_path, file, told):
    write_start(tmp_path / "start")
    path = tmp_path / "start" / file
    path.write_bytes(path.read_bytes().replace(b"now", b"new") if file == "vocabulary.txt" else path.read_bytes()[:-4])
    with pytest.raises(RunFolderError, match=told):
        read_pretrained(tmp_path / "start")


@pytest.mark.slow  # loads TensorFlow
def test_the_command_trains_a_start_that_learns(tmp_path, people, public):
    out = tmp_path / "start"
    public.write_text(public.read_text() * 10)
    command = [
        "pretrain", "--out", str(out), "--text", str(public), "--licence", "CC0-1.0", "--data", str(people),
        "--epochs", "6", "--set", "model.vocabulary_size=400", "--set", "model.embedding_size=8",
        "--set", "model.num_cells=12", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures == json.loads((out / PRETRAINED_FILE).read_text())
    assert (figures["sentences"], figures["tokens"]) == (900, 300 * (4 + 7 + 5))
    losses = [float(line.split(": ")[1].split()[0]) for line in done.stderr.splitlines() if line.startswith("epoch")]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.5
    assert figures["loss_nats_per_token"] == pytest.approx(losses[-1], abs=1e-3)
    assert 0 < figures["test"]["top1"] <= figures["test"]["top3"] <= 1
    assert figures["texts"][0]["licence"] == "CC0-1.0"
    _, vocabulary, weights = read_pretrained(out)
    assert ModelSize.of(weights) == ModelSize(400, 8, 12)
    assert vocabulary.words[4:7] == ("the", "to", "and")
