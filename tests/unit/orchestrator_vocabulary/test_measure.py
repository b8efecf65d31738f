"""The command, and a run that finds its word list itself."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from models.client_data import build_client_data
from models.corpus import ClientText, Corpus
from models.vocabulary import FEDERATED, FILE, NUM_SPECIAL, SPECIAL_WORDS, Vocabulary, WordList, WordOrigin
from orchestrator.cli.commands import cli
from orchestrator.errors import BelowThreshold, ConfigError
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from orchestrator.run.identity import SCHEMA, RunIdentity, digest_of_what_matters
from orchestrator.settings.files import read_config
from orchestrator.settings.run_config import RunConfig
from orchestrator.vocabulary.measure import find_for_run

ODD = ("friend", "friends")


def corpus_of(num_people=40):
    clients = {}
    for i in range(num_people):
        sentences = tuple(f"see you there {ODD[i % 2]} {chr(97 + i // 26)}{chr(97 + i % 26)}x" for _ in range(12))
        clients[f"p{i:02}"] = ClientText(f"p{i:02}", sentences, (None,) * 12)
    return Corpus("c", clients, "0" * 64)


def write_corpus(path):
    with open(path, "w") as file:
        for person, text in corpus_of().clients.items():
            for sentence in text.sentences:
                file.write(json.dumps({"client_id": person, "text": sentence}) + "\n")
    return path


def test_a_given_vocabulary_is_the_runs():
    vocabulary = Vocabulary(SPECIAL_WORDS + ("you", "see"))
    words = WordList(vocabulary, WordOrigin(FILE))
    data = build_client_data(corpus_of(), seed=0, words=words)
    assert data.vocabulary == vocabulary
    assert next(iter(data.train.values()))[0].tolist() == [5, 4, 3, 3, 3]
    assert build_client_data(corpus_of(), seed=0, words=words, vocabulary_size=5).vocabulary.size == 5


def test_the_command_writes_a_list_that_a_run_reads(tmp_path):
    source, out = write_corpus(tmp_path / "text.jsonl"), tmp_path / "words.txt"
    arguments = [
        "vocabulary",
        "--data",
        source,
        "--out",
        out,
        "--epsilon",
        "inf",
        "--aggregator",
        "encrypted",
        "--json",
    ]
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    figures = json.loads(result.stdout[result.stdout.index("{") :])
    words = Vocabulary.read(out).words[NUM_SPECIAL:]
    assert set(words) == {"see", "you", "there", *ODD}
    assert figures["words"] == 5
    assert figures["epsilon"] is None
    assert figures["coverage"]["train"] == pytest.approx(0.8)
    assert figures["coverage"]["train_ratio"] == pytest.approx(figures["most_possible_train_ratio"])
    config = read_config(overrides={"data.source": str(source), "data.vocabulary": str(out)})
    assert load_client_data(config)[1].vocabulary.words[NUM_SPECIAL:] == words


def test_too_few_people_are_refused_and_nothing_written(tmp_path):
    source, out = write_corpus(tmp_path / "text.jsonl"), tmp_path / "words.txt"
    arguments = ["vocabulary", "--data", source, "--out", out, "--k", 100, "--aggregator", "plain"]
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert isinstance(result.exception, BelowThreshold)
    assert result.exception.exit_code == 3
    assert not out.exists()


def test_federated_words_are_found_only_by_training():
    with pytest.raises(ConfigError, match="only `fedkeys train` finds the words itself"):
        load_client_data(read_config(overrides={"data.vocabulary": "federated"}))


def test_a_federated_run_finds_its_words_and_keeps_them_wherever_it_goes(tmp_path):
    source = tmp_path / "text.jsonl"
    with open(source, "w") as file:
        for i in range(400):
            file.write(json.dumps({"client_id": f"p{i:03}", "text": "see you there. see my dogs"}) + "\n")
    overrides = {"data.source": str(source), "data.vocabulary": "federated", "aggregation.aggregator": "plain"}
    config, folder = read_config(overrides=overrides), RunFolder(tmp_path / "run")
    found, words = find_for_run(folder, config, lambda text: None)
    path = tmp_path / "run" / "vocabulary.txt"
    assert found.data.vocabulary == str(path)
    assert {"see", "you", "there", "my", "dogs"} <= set(Vocabulary.read(path).words)
    assert words.vocabulary == Vocabulary.read(path)
    assert words.origin == WordOrigin(FEDERATED, from_text=len(words.vocabulary.words) - NUM_SPECIAL)
    assert json.loads((tmp_path / "run" / "vocabulary.json").read_text())["epsilon"] == 8.0
    folder.create(
        found, Vocabulary.read(path), RunIdentity(SCHEMA, digest_of_what_matters(found), "c", "0", "0", 1, {})
    )
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = RunFolder(tmp_path / "moved")
    for begun in (moved.config(), moved.with_own_vocabulary(config)):
        assert begun.data.vocabulary == str(tmp_path / "moved" / "vocabulary.txt")


def test_pooled_stays_the_default():
    assert RunConfig().data.vocabulary == "pooled"


def command(source, *arguments):
    result = CliRunner().invoke(
        cli, ["vocabulary", "--data", str(source), *arguments, "--json"], catch_exceptions=False
    )
    return json.loads(result.stdout[result.stdout.index("{") :])


@pytest.fixture(scope="module")
def game(tmp_path_factory):
    """Forty people who all type one word that is in no public list, and each a word of their own."""
    path = tmp_path_factory.mktemp("game") / "text.jsonl"
    with open(path, "w") as file:
        for i in range(40):
            for _ in range(10):
                text = f"see you zorgblat qx{chr(97 + i // 26)}{chr(97 + i % 26)}"
                file.write(json.dumps({"client_id": f"p{i:02}", "text": text}) + "\n")
    return path


def test_only_what_the_public_list_lacks_is_looked_for(game, tmp_path):
    out = tmp_path / "words.txt"
    found = command(
        game, "--language", "en", "--size", "500", "--epsilon", "inf", "--aggregator", "plain", "--out", str(out)
    )
    words = Vocabulary.read(out).words[NUM_SPECIAL:]
    assert words[:3] == ("zorgblat", "the", "to")
    assert (found["words"], found["public"], found["language"]) == (496, 495, "en")
    assert found["coverage"]["test"] == pytest.approx(0.75)  # see, you, zorgblat
    alone = command(game, "--epsilon", "inf", "--aggregator", "plain", "--out", str(out))
    assert (alone["words"], alone["public"], alone["language"]) == (3, 0, "none")


def test_each_kind_of_list_beside_the_others(game):
    rows = {row["name"]: row for row in command(game, "--lists", "--size", "500", "--epsilon", "inf")["lists"]}
    figures = {
        name: (row["words"], row["from_text"], row["fewest_people"], row["train"], row["test"])
        for name, row in rows.items()
    }
    assert figures == {
        "pooled, whoever typed a word": (35, 35, 1, 1.0, 0.75),
        "pooled, words of 10 people": (3, 3, 32, 0.75, 0.75),
        "that, filled up from the public list": (496, 3, 32, 0.75, 0.75),
        "the public list": (496, 0, None, 0.5, 0.5),
        "found at epsilon inf": (3, 3, None, 0.75, 0.75),
        "public, and found at epsilon inf": (496, 1, None, 0.75, 0.75),
    }
