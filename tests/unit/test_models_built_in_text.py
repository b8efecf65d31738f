"""The built-in text: how it is cleaned, and its cache."""

import json
import logging
import subprocess
import sys

import pytest

from models import corpus as corpus_module
from models.corpus import (
    load_corpus,
)
from models.errors import CorpusError
from models.tokeniser import LATEST, TOKENISERS


def say(sender, second, text):
    return {"sender": sender, "timestamp": f"2018-05-02T19:38:{second:02d}Z", "text": text}


CHAT = [
    say("bob", 5, "That's in 5 words. Yes!"),
    say("ann", 3, "later"),
    say("ann", 1, "Earlier, see www.example.org"),
    say("ann", 3, "later still"),
    say("bob", 7, "That's in 5 words. Yes!"),  # repeated, five words
    say("bob", 8, "ok"),
    say("bob", 9, "ok"),  # repeated, but short: people do say that twice
    say("bob", 10, "a a a a"),
    say("bob", 11, "fff fff fff fff"),
    say("bob", 12, "d"),
    say("bob", 13, "   "),
    say("bob", 14, "x y x y x y x y x y"),
    say("bob", 15, "qwertyuiopqwertyuiopqwertyuiop"),
    say("carol", 20, "k"),
    say("dave", 21, "!!!"),
]


def chat_bytes(messages=CHAT):
    half = len(messages) // 2
    one, two = {"messages": [messages[:half]], "prompts": []}, {"messages": [messages[half:]]}
    return json.dumps({"one": one, "two": two}).encode()


def test_the_chat_is_cleaned(tmp_path):
    corpus = corpus_module._load_chitchat(chat_bytes(), tmp_path / "chitchat.msgpack", LATEST)
    assert corpus.name == "chitchat"
    assert list(corpus.clients) == ["u0000", "u0001", "u0002"]
    by_first = {text.sentences[0]: text for text in corpus.clients.values()}
    assert sorted(by_first) == ["earlier see", "k", "that's in 5 words"]
    assert by_first["earlier see"].sentences == ("earlier see", "later", "later still")
    assert by_first["earlier see"].timestamps == (1525289881.0, 1525289883.0, 1525289883.0)
    assert by_first["that's in 5 words"].sentences == ("that's in 5 words", "yes", "ok", "ok")


def test_the_cache_is_what_is_loaded_the_second_time(tmp_path, caplog):
    cache = tmp_path / "deep" / "chitchat.msgpack"
    with caplog.at_level(logging.INFO):
        first = corpus_module._load_chitchat(chat_bytes(), cache, LATEST)
        stored = cache.read_bytes()
        second = corpus_module._load_chitchat(chat_bytes(), cache, LATEST)
    assert first == second
    assert caplog.text.count("cleaning the built-in text once") == 1
    assert cache.read_bytes() == stored
    assert [path.name for path in cache.parent.iterdir()] == ["chitchat.msgpack"]


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "other word", "other version", "other dataset"])
def test_a_cache_that_is_not_sound_is_made_again(tmp_path, monkeypatch, caplog, damage):
    cache = tmp_path / "chitchat.msgpack"
    wanted = corpus_module._load_chitchat(chat_bytes(), cache, LATEST)
    stored = cache.read_bytes()
    dataset = chat_bytes()
    if damage == "other version":
        monkeypatch.setattr(corpus_module, "_CACHE_VERSION", corpus_module._CACHE_VERSION + 1)
    elif damage == "other dataset":
        dataset = chat_bytes(CHAT[:6])
    else:
        cache.write_bytes(
            {
                "cut": stored[:-20],
                "empty": b"",
                "noise": b"\xff" * 50,
                "other word": stored.replace(b"earlier", b"earliex"),
            }[damage]
        )
    with caplog.at_level(logging.INFO):
        loaded = corpus_module._load_chitchat(dataset, cache, LATEST)
        again = corpus_module._load_chitchat(dataset, cache, LATEST)
    assert caplog.text.count("cleaning the built-in text once") == 1
    assert loaded == again
    assert (loaded == wanted) == (damage != "other dataset")


def test_a_cache_that_cannot_be_written_is_only_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    corpus = corpus_module._load_chitchat(chat_bytes(), tmp_path / "file" / "chitchat.msgpack", LATEST)
    assert len(corpus.clients) == 3
    assert "can't keep the cleaned text" in caplog.text
    assert "FEDKEYS_CACHE_DIR" in caplog.text


@pytest.mark.parametrize("dataset", [b"", b"[]", chat_bytes()[:-9], chat_bytes().replace(b"2018", b"last")])
def test_a_damaged_package_says_how_to_mend_it(tmp_path, dataset):
    with pytest.raises(CorpusError, match="pip install --force-reinstall chitchat-dataset==0.9.0"):
        corpus_module._load_chitchat(dataset, tmp_path / "chitchat.msgpack", LATEST)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "chitchat_dataset", None)  # what Python itself notes for "not there"
    with pytest.raises(CorpusError, match="needs the package chitchat-dataset .*pip install"):
        load_corpus(cache_dir=tmp_path)


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    # A limit on the size of files makes the write fail half-way, as a full disk does.
    target = tmp_path / "cache"
    target.write_bytes(b"old")
    program = (
        "import pathlib, resource, sys\n"
        "from models.files import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_atomically(pathlib.Path(sys.argv[1]), bytes(1_000_000))\n"
        "except OSError as error: print(error.strerror)"
    )
    command = [sys.executable, "-c", program, str(target)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "File too large\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"cache": b"old"}


@pytest.mark.parametrize(("version", "sentences", "words"), [(1, 319_445, 2_455_676), (2, 319_518, 2_455_620)])
def test_the_built_in_text_is_the_one_that_was_measured(tmp_path, monkeypatch, version, sentences, words):
    monkeypatch.setenv("FEDKEYS_CACHE_DIR", str(tmp_path))
    corpus = load_corpus(tokeniser=TOKENISERS[version])
    counted = [sentence for text in corpus.clients.values() for sentence in text.sentences]
    assert (len(corpus.clients), len(counted)) == (1315, sentences)
    assert sum(len(sentence.split()) for sentence in counted) == words
    assert [path.name for path in tmp_path.iterdir()] == [f"chitchat-{version}.msgpack"]
    assert all(list(text.timestamps) == sorted(text.timestamps) for text in corpus.clients.values())
    assert load_corpus(cache_dir=tmp_path, tokeniser=TOKENISERS[version]).digest == corpus.digest
