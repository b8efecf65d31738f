"""A tokeniser made of docs/tokeniser.md alone reads as the product's does: so will a port made from the page."""

from __future__ import annotations

import html
import unicodedata
from html.entities import html5
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.vectors import build_vectors
from models.tokeniser import LATEST
from models.vocabulary import SPECIAL_WORDS, Vocabulary

PAGE = Path(__file__).parents[2] / "docs" / "tokeniser.md"
NUM_SCRUBS = 11
VECTORS = build_vectors(LATEST, Vocabulary((*SPECIAL_WORDS, "see", "you")))


def page_patterns():
    found: dict[str, str] = {}
    for block in PAGE.read_text(encoding="utf-8").split("```text\n")[1:]:
        for line in block.split("```")[0].splitlines():
            name, pattern = line.split(None, 1)
            for known, own in found.items():
                pattern = pattern.replace("{" + known + "}", own)
            assert name not in found
            found[name] = pattern
    return found


PARTS = {
    "UNSPACED",
    "NAME",
    "LABEL",
    "PATH",
    "DOMAINS",
    "SPACE",
    "CLOSING",
    "LETTER",
    "LETTERS",
    "INNER",
    "DATE",
    "THOUSANDS",
}
PATTERNS = {name: regex.compile(own, regex.V1) for name, own in page_patterns().items() if name not in PARTS}


def prepare(text):
    def unescape(entity):
        return html.unescape(entity[0]) if entity[0][1] == "#" or entity[0][1:] in html5 else entity[0]

    text = PATTERNS["ENTITY"].sub(unescape, text)
    return unicodedata.normalize("NFC", PATTERNS["KEYCAP"].sub(" ", PATTERNS["INVISIBLE"].sub("", text)))


def scrub(text):
    for number in range(1, NUM_SCRUBS):
        text = PATTERNS[f"SCRUB_{number}"].sub(" ", text)
    place, parts = 0, []
    while place < len(text):
        kept = PATTERNS["KEEP"].match(text, place)
        scrubbed = None if kept else PATTERNS[f"SCRUB_{NUM_SCRUBS}"].match(text, place)
        parts.append(kept[0] if kept else " " if scrubbed else text[place])
        place = (kept or scrubbed).end() if kept or scrubbed else place + 1
    return "".join(parts)


def words(sentence):
    lowered = unicodedata.normalize("NFC", sentence.replace("\u0130", "i").lower())
    for mark in "\u2018\u2019\u02bc\u0060\u00b4\uff07":
        lowered = lowered.replace(mark, "'")
    joined = " ".join(found[0] for found in PATTERNS["WORD"].finditer(lowered))
    joined = PATTERNS["LAUGH_2"].sub("хахаха", PATTERNS["LAUGH_1"].sub("hahaha", joined))
    return PATTERNS["RUN"].sub(lambda run: 3 * run[1], joined).split()


def pieces(text):
    return [words(piece) for piece in PATTERNS["SENTENCE_END"].split(scrub(prepare(text)))]


def assert_same(text):
    read = pieces(text)
    assert [own for own in read if own] == LATEST.sentences(text)
    assert read[-1] == LATEST.open_words(text)


@pytest.mark.parametrize("text", [own.text for own in VECTORS.messages])
def test_the_port_reads_the_vectors(text):
    assert_same(text)


def test_the_port_reads_each_key_stroke():
    for own in VECTORS.key_strokes:
        assert pieces(own.typed)[-1] == list(own.open_words)


PIECES = (
    ["a@b.com", "www.", "http://", "x.de/y", ".co.uk", ".com", "@ann", "<b>", "<A b>", "<a b=c>", "DE89 3704 0044 05"]
    + ["2018-05-02", "12/31/2022", "1,000,000", "801-555-0100", "+44 20", "4111 1111", "haha", "ха", "soooo", "&#39;"]
    + [
        "&lt;",
        "&no;",
        "\u0130",
        "Σ",
        "\u200d",
        "\u200c",
        "\ufe0f",
        "\u20e3",
        "\u0301",
        "🙂",
        "\u2139",
        "今天",
        "ไทย",
        "हूँ",
    ]
    + [
        "।",
        "؟",
        "。",
        "…",
        "...",
        '."',
        ") ",
        "! ",
        "\n",
        "\u00a0",
        "\u2009",
        "\u2011",
        "\u05f4",
        "\u00b7",
        "\u2019",
        "é",
    ]
    + list("1 .,:/-_('A~")
    + ["23", "456", "bc"]
)


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.characters()), max_size=14).map("".join))
def test_the_port_reads_whatever_is_typed(text):
    assert_same(text)
