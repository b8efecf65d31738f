"""libfedkeys reads text, draws batches and keeps sentences as Python and the browser's client do."""

from __future__ import annotations

import ctypes
import json
import os
import stat
import subprocess
from html.entities import html5
from pathlib import Path

import numpy as np
import pytest
import regex
from c_client_bundle import COMPILER
from c_library import READING, Bundle, Failed, Store, Text, built, call, drawn_batches, library
from memcheck import under_valgrind
from stand_in_bundle import FILES, SIZE, manifest_of

import edge
from edge.bundle.folder import write_bundle
from edge.clients import c_client
from edge.clients.files import batches_from_bytes
from models.tokeniser import LATEST

VECTORS = Path(edge.__file__).parent / "conformance"
SPECIAL = b"<pad>\n<bos>\n<eos>\n<unk>\n"


@pytest.fixture(scope="module")
def vectors():
    return json.loads((VECTORS / "tokeniser.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def text(vectors):
    with Text("".join(f"{word}\n" for word in vectors["vocabulary"]).encode()) as opened:
        yield opened


def test_messages_of_the_conformance_vectors(text, vectors):
    for message in vectors["messages"]:
        found = text.read("fk_text_sentences", message["text"])
        assert [words for words, _ in found] == message["sentences"], message["text"]
        assert [ids for _, ids in found] == message["ids"], message["text"]


def test_key_strokes_of_the_conformance_vectors(text, vectors):
    for stroke in vectors["key_strokes"]:
        ((words, _),) = text.read("fk_text_unfinished", stroke["typed"])
        assert words == stroke["open_words"], stroke["typed"]


def test_every_entity_that_html_5_names(text):
    for name in (name for name in html5 if name.endswith(";")):
        typed = f"a&{name}b"
        assert [words for words, _ in text.read("fk_text_sentences", typed)] == LATEST.sentences(typed), typed


@pytest.mark.parametrize("number", [0, 9, 13, 38, 128, 129, 159, 160, 0xD800, 0xFDD0, 0xFFFE, 0x1F602, 0x110000])
def test_entities_that_are_numbers(text, number):
    for typed in (f"a&#{number};b c", f"a&#x{number:X};b c"):
        assert [words for words, _ in text.read("fk_text_sentences", typed)] == LATEST.sentences(typed), typed


def test_what_ends_a_sentence_in_any_script(text):
    """PCRE2's Unicode is older than that of Python's package regex."""
    ends = [chr(code) for code in range(0x80, 0x20000) if regex.match(r"\p{Sentence_Terminal}", chr(code))]
    assert len(ends) > 150
    for end in ends:
        assert [words for words, _ in text.read("fk_text_sentences", f"a{end}b")] == [["a"], ["b"]], ascii(end)


@pytest.mark.parametrize("typed", ["ΟΔΟΣ ΣΑΣ' Σ", "aΣ\u00ad'Σ", "ʰΣ aʰΣ", "İS AİΣ", "d\u0131/x d\u0130/x see"])
def test_lower_case(text, typed):
    assert [words for words, _ in text.read("fk_text_sentences", typed)] == LATEST.sentences(typed)


@pytest.mark.parametrize(
    "piece", ["a.", "a@", "1-", "<a ", "ha", "\u0301", "a\u200d", "Σ'", "www.", "&a", "AB12", "12.12.12."]
)
def test_long_texts_take_no_longer_than_long(text, piece):
    """A rule that tried again from each place would run for hours, or into PCRE2's limit."""
    typed = piece * 20_000
    assert [words for words, _ in text.read("fk_text_sentences", typed)] == LATEST.sentences(typed)


@pytest.mark.parametrize("content", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf_8(text, content):
    with pytest.raises(Failed, match="not UTF-8") as error:
        text.read("fk_text_sentences", content)
    assert error.value.status == "BAD_ARGUMENT"


def test_a_nul_is_a_character_like_others(text):
    assert text.read("fk_text_sentences", "see\0you") == [(["see", "you"], [4, 5])]


def test_words_and_ids(text, vectors):
    assert [text.word(word_id) for word_id in range(10)] == vectors["vocabulary"]
    assert text.word(10) is text.word(-1) is None
    assert text.read("fk_text_from_words", "see <pad> you") == [(["see", "<pad>", "you"], [4, 3, 5])]
    assert text.read("fk_text_from_words", "") == [([], [])]


@pytest.mark.parametrize(
    ("vocabulary", "tokeniser", "status"),
    [
        (SPECIAL + b"see\nsee\n", 2, "DAMAGED"),
        (SPECIAL + b"<pad>\n", 2, "DAMAGED"),
        (SPECIAL + b"a b\n", 2, "DAMAGED"),
        (SPECIAL + b"\n", 2, "DAMAGED"),
        (SPECIAL + b"\xff\n", 2, "DAMAGED"),
        (SPECIAL + b"see", 2, "DAMAGED"),
        (SPECIAL + b"a\0\n", 2, "DAMAGED"),
        (b"", 2, "DAMAGED"),
        (SPECIAL, 2, "UNSUPPORTED"),
        (b"<bos>\n<pad>\n<eos>\n<unk>\nsee\n", 2, "DAMAGED"),
        (SPECIAL + b"see\n", 1, "UNSUPPORTED"),
        (SPECIAL + b"see\n", 3, "UNSUPPORTED"),
    ],
)
def test_a_vocabulary_that_is_none(vocabulary, tokeniser, status):
    with pytest.raises(Failed) as error:
        Text(vocabulary, tokeniser)
    assert error.value.status == status


def test_a_bundles_words_are_as_many_as_its_models(text, tmp_path):
    words = SPECIAL + b"".join(b"w%d\n" % i for i in range(SIZE.vocabulary_size - 4))
    for name, content, refused in (("fits", words, False), ("not", words + b"one\n", True)):
        files = {**FILES, "vocabulary.txt": content}
        write_bundle(tmp_path / name, files, manifest_of(files))
        raw = (tmp_path / name / "manifest.json").read_bytes()
        (tmp_path / name / "manifest.json").write_bytes(raw.replace(b'"tokeniser": 1', b'"tokeniser": 2'))
        opened = ctypes.c_void_p()
        with Bundle(tmp_path / name) as bundle:
            if refused:
                with pytest.raises(Failed, match="has 10 words, the model 9"):
                    call("fk_text_open", bundle.handle, ctypes.byref(opened))
            else:
                call("fk_text_open", bundle.handle, ctypes.byref(opened))
                assert library().fk_text_num_words(opened) == SIZE.vocabulary_size
                library().fk_text_close(opened)


def test_batches_of_the_conformance_vectors():
    vectors = json.loads((VECTORS / "batches.json").read_text("utf-8"))
    size = vectors["vocabulary_size"]
    for drawn in vectors["drawn"]:
        expected = [np.array(drawn.pop(name)) for name in ("tokens", "targets", "mask")]
        content = drawn_batches(vectors["sentences"], vocabulary_size=size, **drawn)
        batches = batches_from_bytes(content, size, drawn["time"], "drawn")
        assert np.array_equal(batches.tokens, expected[0])
        assert np.array_equal(batches.targets, expected[1])
        assert np.array_equal(batches.mask.sum(axis=2), expected[2])


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"batch_size": 257},
        {"max_sentences": 0},
        {"time": 0},
        {"vocabulary_size": 4},
        {"length_buckets": 0},
    ],
)
def test_a_drawing_that_can_not_be(wrong):
    right = {"epochs": 1, "batch_size": 4, "max_sentences": 9, "time": 5, "vocabulary_size": 9, "length_buckets": 1}
    assert drawn_batches([[4]], **right)
    with pytest.raises(Failed) as error:
        drawn_batches([[4]], **{**right, **wrong})
    assert error.value.status == "BAD_ARGUMENT"


def test_a_drawing_beyond_memory_is_refused_before_it_is_made():
    many = {"epochs": 1 << 20, "batch_size": 256, "max_sentences": 9, "time": 1 << 16}
    with pytest.raises(Failed, match="take more than") as error:
        drawn_batches([[4]], vocabulary_size=9, length_buckets=1, **many)
    assert error.value.status == "UNSUPPORTED"


def test_the_store_keeps_the_newest_and_survives_its_process(text, tmp_path):
    path = tmp_path / "sentences"
    with Store(path, 3) as store:
        assert store.words() == []
        store.add(text, "See you! How are you? ...")
        store.add(text, "Fine.")
        assert store.words() == ["see you", "how are you", "fine"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Store(path, 3) as store:
        store.add(text, "Soooo good. Ok")
        assert store.words() == ["fine", "sooo good", "ok"]
    with Store(path, 1) as store:
        assert store.words() == ["ok"]


def test_wiping_leaves_nothing(text, tmp_path):
    path, link = tmp_path / "sentences", tmp_path / "link"
    with Store(path, 9) as store:
        store.add(text, "My secret.")
        os.link(path, link)
        store.wipe()
        assert store.words() == []
        assert not path.exists()
        assert set(link.read_bytes()) == {0}
        store.wipe()
        store.add(text, "Again")
        assert store.words() == ["again"]
    assert path.read_bytes() == b"again\n"


def test_wiping_takes_what_a_write_left_that_was_cut_off(text, tmp_path):
    path, partial, link = tmp_path / "sentences", tmp_path / "sentences.partial", tmp_path / "link"
    partial.write_bytes(b"my secret\n")
    os.link(partial, link)
    with Store(path, 9) as store:
        store.wipe()
    assert not partial.exists()
    assert set(link.read_bytes()) == {0}


@pytest.mark.parametrize("content", [b"cut off", b"a\0b\n"])
def test_a_file_that_is_no_store(tmp_path, content):
    library()
    (tmp_path / "sentences").write_bytes(content)
    with pytest.raises(Failed, match="is no store of sentences"):
        Store(tmp_path / "sentences", 9)


MAIN = """
#include <stdio.h>
#include <string.h>
#include "fedkeys.h"
int main(void) {
  static const char LIST[] = "<pad>\\n<bos>\\n<eos>\\n<unk>\\nsee\\nyou\\n";
  char message[1 << 16];
  size_t size = fread(message, 1, sizeof message, stdin), count;
  fk_text *text;
  fk_sentences *found;
  if (fk_text_open_words(LIST, strlen(LIST), 2, &text, NULL)) return 1;
  if (fk_text_sentences(text, message, size, &found, NULL)) return 2;
  for (size_t i = 0; i < fk_sentences_count(found); i++) {
    const int32_t *ids = fk_sentences_ids(found, i, &count);
    for (size_t j = 0; j < count; j++) printf("%d ", ids[j]);
    puts(fk_sentences_words(found, i));
  }
  fk_sentences_close(found);
  fk_text_close(text);
}
"""


def test_valgrind_finds_nothing_where_text_is_read(vectors, tmp_path):
    """Of what sanitizers don't see: reads of what nothing was written to."""
    library(*READING)
    (tmp_path / "main.c").write_text(MAIN)
    flags = subprocess.run(
        ["pkg-config", "--libs", "libcrypto", *READING], check=True, capture_output=True, text=True
    ).stdout.split()
    archive = built().with_suffix(".a")
    command = [
        *COMPILER,
        f"-I{c_client.SOURCE}",
        tmp_path / "main.c",
        archive,
        *flags,
        "-lm",
        "-ldl",
        "-o",
        tmp_path / "text",
    ]
    subprocess.run(command, check=True)
    texts = "\n".join(message["text"] for message in vectors["messages"])
    messages = texts[:6000].encode()
    done = subprocess.run(under_valgrind(tmp_path / "text"), input=messages, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 50
