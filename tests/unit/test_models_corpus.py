"""Text in, people's sentences out: each kind of source, bad input, the cache, the splits."""

import bz2
import gzip
import json
import logging
import lzma
import os
import random
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import corpus as corpus_module
from models.corpus import (
    ClientId,
    load_corpus,
    split_people,
)
from models.errors import CorpusError
from models.text_sources import read_own_messages
from models.tokeniser import LATEST, TOKENISERS

# --- words and sentences ---


# --- the user's own files ---


def sentences_of(corpus):
    return {client_id: text.sentences for client_id, text in corpus.clients.items()}


def write_lines(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return str(path)


def test_json_lines_come_in_time_order_whatever_the_form_of_the_time(tmp_path):
    source = write_lines(
        tmp_path / "chat.jsonl",
        {"client_id": "зоя", "text": "Третье. Четвёртое!", "timestamp": "2018-05-02T19:38:17Z"},
        "",
        {"client_id": "зоя", "text": "второе", "timestamp": 1525289896, "mood": ["ignored"]},
        {"client_id": "зоя", "text": "первое", "timestamp": "2018-05-02 21:38:15.5+02:00"},
        {"client_id": "ann", "text": "no time: stays first"},
        {"client_id": "ann", "text": "earlier by the clock", "timestamp": "2018-05-02"},
    )
    corpus = load_corpus(source)
    assert corpus.name == "chat.jsonl"
    assert list(corpus.clients) == ["ann", "зоя"]
    zoya = corpus.clients[ClientId("зоя")]
    assert zoya.sentences == ("первое", "второе", "третье", "четвёртое")
    assert zoya.timestamps == (1525289895.5, 1525289896.0, 1525289897.0, 1525289897.0)
    ann = corpus.clients[ClientId("ann")]
    assert ann.sentences == ("no time stays first", "earlier by the clock")
    assert ann.timestamps == (None, 1525219200.0)


def test_the_users_text_is_scrubbed(tmp_path):
    row = {"client_id": "ann", "text": "write to bob@example.org today"}
    source = write_lines(tmp_path / "chat.json", row)
    assert sentences_of(load_corpus(source)) == {"ann": ("write to today",)}


def test_a_folder_holds_a_file_per_person(tmp_path):
    (tmp_path / "bob.txt").write_bytes(b"\xef\xbb\xbfFirst line\r\nsecond line. third\r\n")
    (tmp_path / "ann.TXT").write_bytes("ещё одна".encode())
    (tmp_path / "notes.md").write_text("not a person")
    corpus = load_corpus(str(tmp_path))
    assert sentences_of(corpus) == {"ann": ("ещё одна",), "bob": ("first line", "second line", "third")}
    assert corpus.clients[ClientId("bob")].timestamps == (None, None, None)


def test_people_without_words_are_left_out_with_a_warning(tmp_path, caplog):
    (tmp_path / "ann.txt").write_text("hello")
    (tmp_path / "bob.txt").write_text("")
    (tmp_path / "carol.txt").write_text("?!\n:-)\n")
    with caplog.at_level(logging.WARNING):
        assert list(load_corpus(str(tmp_path)).clients) == ["ann"]
    assert "left out 2 of 3 clients" in caplog.text


def test_the_digest_follows_ids_sentences_and_times(tmp_path):
    def digest(*rows):
        return load_corpus(write_lines(tmp_path / "chat.jsonl", *rows)).digest

    base = {"client_id": "ann", "text": "see you", "timestamp": 1}
    assert digest(base) == digest({**base, "text": "See you!"})
    others = [{**base, "client_id": "bob"}, {**base, "text": "see"}, {**base, "timestamp": 2}]
    assert len({digest(base), *map(digest, others), digest(base, base)}) == 5


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"client_id": "ann", "text": "cut of', "truncated"),
        ('["ann", "hi"]', "Expected `object`, got `array`"),
        ({"client_id": "ann"}, "missing required field `text`"),
        ({"text": "hi"}, "missing required field `client_id`"),
        ({"client_id": 7, "text": "hi"}, "Expected `str`, got `int` - at `$.client_id`"),
        ({"client_id": "", "text": "hi"}, "at `$.client_id`"),
        ({"client_id": "ann", "text": None}, "Expected `str`, got `null` - at `$.text`"),
        ({"client_id": "ann", "text": "hi", "timestamp": True}, "got `bool` - at `$.timestamp`"),
        ({"client_id": "ann", "text": "hi", "timestamp": "yesterday"}, "'yesterday' is no ISO 8601 time"),
        ('{"client_id": "ann", "text": "hi", "timestamp": 1e999}', "out of range"),
        ('{"client_id": "ann", "text": "hi", "x": ' + 100_000 * "[" + "}", "recursion"),
    ],
)
def test_a_bad_line_is_named(tmp_path, row, problem):
    source = write_lines(tmp_path / "chat.jsonl", {"client_id": "ann", "text": "fine"}, row)
    with pytest.raises(CorpusError) as error:
        load_corpus(source)
    assert f"{source}, line 2: " in str(error.value)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_text_that_is_not_utf_8_is_named_with_its_line(tmp_path):
    good = b'{"client_id": "ann", "text": "hi"}\n'
    (tmp_path / "chat.jsonl").write_bytes(good + '{"client_id": "ann", "text": "да"}\n'.encode("cp1251"))
    with pytest.raises(CorpusError, match=r"chat\.jsonl, line 2: not UTF-8 \(byte 0xe4 at position 31\)"):
        load_corpus(str(tmp_path / "chat.jsonl"))
    (tmp_path / "ann.txt").write_bytes(b"fine\nfine\n\xff\n")
    with pytest.raises(CorpusError, match=r"ann\.txt, line 3: not UTF-8"):
        load_corpus(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("missing.jsonl", None, "no such file or folder; give 'chitchat', FILE.jsonl"),
        ("empty.jsonl", b"", "is empty"),
        ("empty.sqlite", b"", "is empty"),
        ("silent.jsonl", b'{"client_id": "ann", "text": "?!"}\n', "none of its 1 clients has any words"),
        ("blank.jsonl", b"\n\n", "none of its 0 clients has any words"),
        ("chat.csv", b"ann,hi\n", "unknown kind of file '.csv'; give 'chitchat', FILE.jsonl"),
        ("chat.txt", b"hi\n", "unknown kind of file '.txt'"),
        ("so.sqlite.lzma", b"]", "decompress it first: xz --decompress --keep"),
        ("so.sqlite", b"SQLite format 3\0 cut off", "is not a sound SQLite file"),
        ("so.db", b"nothing like a database" * 100, "is not a sound SQLite file"),
    ],
)
def test_bad_files(tmp_path, name, content, problem):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError) as error:
        load_corpus(str(path))
    assert name in str(error.value)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert path.exists() == (content is not None)


@pytest.mark.parametrize("source", ["", "chit-chat", "#train"])
def test_an_unknown_source_lists_what_is_accepted(source):
    with pytest.raises(CorpusError, match="no such file or folder; give 'chitchat', FILE.jsonl .*, a folder"):
        load_corpus(source)


def test_a_folder_without_texts(tmp_path):
    with pytest.raises(CorpusError, match="holds no .txt file"):
        load_corpus(str(tmp_path))


def test_a_file_name_that_is_not_utf_8(tmp_path):
    Path(os.fsdecode(bytes(tmp_path) + b"/\xff.txt")).write_text("hi")
    with pytest.raises(CorpusError, match=r"the file name '\\udcff.txt' is not UTF-8; rename the file"):
        load_corpus(str(tmp_path))


def test_a_split_is_only_for_sqlite(tmp_path):
    source = write_lines(tmp_path / "chat.jsonl", {"client_id": "ann", "text": "hi"})
    with pytest.raises(CorpusError, match="'#train' picks a split of an SQLite file, and chat.jsonl is none"):
        load_corpus(source + "#train")


def make_sqlite(path, columns="split_name TEXT, client_id TEXT, serialized_example_proto BLOB", rows=()):
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE examples ({columns})")
        database.execute("CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, num_examples INT)")
        for split_name, client_id, proto in rows:
            database.execute("INSERT INTO examples VALUES (?, ?, ?)", (split_name, client_id, proto))
            database.execute("INSERT INTO client_metadata VALUES (?, ?, 1)", (client_id, split_name))
    database.close()
    return str(path)


def test_sqlite_that_is_not_client_data(tmp_path):
    source = make_sqlite(tmp_path / "other.sqlite", columns="client_id TEXT, words TEXT")
    with pytest.raises(CorpusError, match="its table 'examples' lacks serialized_example_proto, split_name"):
        load_corpus(source)


def test_sqlite_without_the_split_that_was_asked_for(tmp_path):
    source = make_sqlite(tmp_path / "so.sqlite", rows=[("train", "ann", b""), ("test", "bob", b"")])
    with pytest.raises(CorpusError, match="has no split 'dev'; it has test, train"):
        load_corpus(source + "#dev")


def test_sqlite_cut_off_in_the_middle(tmp_path):
    source = make_sqlite(tmp_path / "so.sqlite", rows=[("train", "ann", bytes(9000))] * 20)
    whole = (tmp_path / "so.sqlite").read_bytes()
    (tmp_path / "so.sqlite").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match="so.sqlite: is not a sound SQLite file .*malformed"):
        load_corpus(source)


# --- the built-in text and its cache ---


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


# --- splits ---


def people(count):
    return [ClientId(f"u{number:04d}") for number in range(count)]


@pytest.mark.parametrize("seed", [0, 1])
def test_split_people_is_the_measured_protocol(seed):
    split = split_people(reversed(people(1315)), seed)
    order = people(1315)
    random.Random(seed).shuffle(order)
    assert split.test == tuple(order[:131])
    assert split.dev == tuple(order[131:262])
    assert split.train == tuple(order[262:])


@given(st.integers(10, 200), st.integers(0, 5))
def test_everyone_is_in_one_part(count, seed):
    split = split_people(people(count), seed)
    assert sorted(split.train + split.dev + split.test) == people(count)
    assert min(len(split.train), len(split.dev), len(split.test)) >= 1


def test_too_few_people_to_split():
    counts = "9 people split into 9 for training, 0 for dev and 0 for test: take at least 10 people"
    with pytest.raises(CorpusError, match=counts):
        split_people(people(9), seed=0)
    with pytest.raises(CorpusError, match="take at least 4 people"):
        split_people(people(3), seed=0, dev_share=0.3, test_share=0.3)
    assert split_people(people(4), seed=0, dev_share=0.3, test_share=0.3).train


@pytest.mark.parametrize(("dev_share", "test_share"), [(0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_that_leave_a_part_out(dev_share, test_share):
    with pytest.raises(ValueError, match=f"dev_share={dev_share}, test_share={test_share}"):
        split_people(people(100), 0, dev_share, test_share)


def test_nobody_is_given_twice():
    with pytest.raises(ValueError, match="1 repeated"):
        split_people(people(20) + people(1), seed=0)


# --- files as people have them


def chat_lines(path, count=3):
    return write_lines(path, *({"client_id": "ann", "text": "see you"} for _ in range(count)))


def test_json_lines_are_read_gzipped_under_another_ending_and_from_a_pipe(tmp_path):
    plain = Path(chat_lines(tmp_path / "chat.jsonl")).read_bytes()
    (tmp_path / "chat.ndjson").write_bytes(plain)
    (tmp_path / "chat.jsonl.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(plain))
    read, write = os.pipe()
    os.write(write, plain)
    os.close(write)
    for source in (tmp_path / "chat.ndjson", tmp_path / "chat.jsonl.gz", tmp_path / "packed.jsonl", f"/dev/fd/{read}"):
        assert sentences_of(load_corpus(str(source))) == {"ann": ("see you",) * 3}, source
    os.close(read)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (gzip.compress(b"{}" * 500, mtime=0)[:-20], "is a damaged gzip file"),
        (lzma.compress(b"{}"), "is compressed (xz); decompress it first: xz --decompress --keep"),
        (bz2.compress(b"{}"), "is compressed (bzip2)"),
        (b"PK\x03\x04rest", "is compressed (zip)"),
    ],
    ids=["cut gzip", "xz", "bzip2", "zip"],
)
def test_other_compressed_text_is_refused_by_name(tmp_path, content, problem):
    (tmp_path / "chat.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match=re.escape(problem)):
        load_corpus(str(tmp_path / "chat.jsonl"))


def test_lines_of_old_macs_and_files_that_macos_leaves(tmp_path):
    (tmp_path / "ann.txt").write_bytes(b"see you\rok\r")
    (tmp_path / "._ann.txt").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X\xff")
    assert sentences_of(load_corpus(str(tmp_path))) == {"ann": ("see you", "ok")}


@pytest.mark.parametrize(
    "head",
    [
        "12/31/22, 10:15 PM - {}: ",
        "[31.12.22, 22:15:07] {}: ",
        "\u200e[2022/12/31, 22:15:07] {}: ",
        "31/12/2022 22:15 - {}: ",
    ],
)
def test_an_exported_chat_is_not_one_persons_text(tmp_path, head):
    lines = [head.format(who) + "see you soon" for who in ("Ann", "Bob", "Ann")] + ["a second line of hers"]
    (tmp_path / "chat.txt").write_text("\n".join(lines))
    with pytest.raises(CorpusError, match=r"chat\.txt: is an exported chat of 2 people") as error:
        load_corpus(str(tmp_path))
    assert "Ann" not in str(error.value)


def test_ones_own_text_may_be_json_lines_of_one_person(tmp_path):
    chat_lines(tmp_path / "own.jsonl", 2)
    (tmp_path / "own.txt").write_text("see you\nok")
    assert read_own_messages(tmp_path / "own.jsonl") == ["see you", "see you"]
    assert read_own_messages(tmp_path / "own.txt") == ["see you", "ok"]
    both = write_lines(tmp_path / "two.jsonl", *({"client_id": name, "text": "hi"} for name in "ab"))
    with pytest.raises(CorpusError, match="holds the text of 2 people"):
        read_own_messages(Path(both))


def test_a_text_without_spaces_between_words_is_warned_of(tmp_path, caplog):
    load_corpus(write_lines(tmp_path / "chat.jsonl", {"client_id": "ann", "text": "今天天气真好我们去公园吧"}))
    assert "100 % of its words are of scripts without spaces" in caplog.text


def test_a_path_that_is_not_utf_8_is_refused():
    with pytest.raises(CorpusError, match="the path is not UTF-8"):
        load_corpus("caf\udce9/chat.jsonl")
