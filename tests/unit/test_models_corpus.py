"""A user's own text: each kind of source, and what is refused with which words."""

import bz2
import gzip
import logging
import lzma
import os
import re
import sqlite3
import threading
from pathlib import Path

import pytest
from own_text import sentences_of, write_lines

from models.corpus import (
    ClientId,
    load_corpus,
)
from models.errors import CorpusError
from models.text_sources import read_own_messages


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


def test_ones_own_text_may_come_through_a_pipe(tmp_path):
    text, pipe = chat_lines(tmp_path / "own.jsonl", 2), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(Path(text).read_bytes(),))
    writer.start()
    assert read_own_messages(pipe) == ["see you", "see you"]
    writer.join()


def test_a_text_without_spaces_between_words_is_warned_of(tmp_path, caplog):
    load_corpus(write_lines(tmp_path / "chat.jsonl", {"client_id": "ann", "text": "今天天气真好我们去公园吧"}))
    assert "100 % of its words are of scripts without spaces" in caplog.text


def test_a_path_that_is_not_utf_8_is_refused():
    with pytest.raises(CorpusError, match="the path is not UTF-8"):
        load_corpus("caf\udce9/chat.jsonl")
