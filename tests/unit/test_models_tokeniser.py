"""Words and sentences of typed text: each rule, in many scripts, for both versions; and that no text is slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import tokeniser
from models.tokeniser import LATEST, TOKENISERS, is_unspaced

BOTH = pytest.mark.parametrize("rules", TOKENISERS.values(), ids=lambda rules: f"version {rules.version}")


def read(message, rules=LATEST):
    """The sentences of a message, words joined by spaces."""
    return [" ".join(words) for words in rules.sentences(message)]


@BOTH
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", "hello world"),
        ("I can't, won\u2019t; rock 'n' roll, the dogs'", "i can't won't rock n roll the dogs"),
        ("at 10:30, 3.5 km, 1,000 people", "at 10:30 3.5 km 1,000 people"),
        ("Привет, как ДЕЛА? Ёлка в двадцать-третий раз", "привет как дела ёлка в двадцать третий раз"),
        ("Cafe\u0301 Zo\u0308e", "caf\u00e9 z\u00f6e"),  # letter and accent apart, then as one character
        ("М\u02bcята \u0928\u092e\u0938\u094d\u0924\u0947", "м'ята \u0928\u092e\u0938\u094d\u0924\u0947"),
        ("snake_case \U0001f600 -- *", "snake case"),
        ("soooooo aaaa soo", "sooo aaa soo"),
        ("HAHAHAHAH ahahahaha hahahahaaa haha ha", "hahaha hahaha hahaha haha ha"),
        ("Хахахахаха ахахахах да", "хахаха хахаха да"),
        ("", ""),
    ],
)
def test_words(rules, text, words):
    assert " ".join(rules.words(text)) == words


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("haHA'\u2019аХх 1.,:\u0301\u0130"))))
def test_tokenising_words_again_changes_nothing(text):
    words = LATEST.words(text)
    assert LATEST.words(" ".join(words)) == words
    assert all(word.split() == [word] for word in words)


@BOTH
@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hi. How are you?  Fine!", ["hi", "how are you", "fine"]),
        ("well...ok\u2026 so\nnew line . spaced", ["well", "ok", "so", "new line", "spaced"]),
        ("version 3.5 is out", ["version 3.5 is out"]),
        ("?! :-) ...", []),
    ],
)
def test_sentences(rules, text, sentences):
    assert read(text, rules) == sentences


@BOTH
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("see https://a.b/c?d=1 or www.x.y or foo.com/bar now", "see or or now"),
        ("mail ann.b@example.org or @ann_b please", "mail or please"),
        ("call (801) 555-0100 or +801-555-0100, card 1234567890", "call or card"),
        ("<b>bold</b> <URL> i <3 you", "bold i 3 you"),
        ("it is 7 pm in room 123456", "it is 7 pm in room 123456"),
    ],
)
def test_scrub_takes_out_what_points_at_a_person_or_a_page(rules, text, words):
    assert " ".join(rules.words(rules.scrub(text))) == words


# --- version 2


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"],
        ),  # Persian, ZWNJ
        ("\u0dc1\u0dca\u200d\u0dbb\u0dd3", ["\u0dc1\u0dca\u200d\u0dbb\u0dd3"]),  # Sinhala, ZWJ
        ("\u0915\u094d\u200d\u092f\u093e", ["\u0915\u094d\u200d\u092f\u093e"]),  # Hindi, ZWJ
        ("a\u200d b\u200c", ["a b"]),  # a joiner that joins nothing
        (
            "\U0001e92b\U0001e935\U0001e944\U0001e92a",
            ["\U0001e92b\U0001e935\U0001e944\U0001e92a"],
        ),
        ("मैं ठीक हूँ। आप कैसे हैं", ["मैं ठीक हूँ", "आप कैसे हैं"]),
        ("كيف حالك؟ أنا بخير", ["كيف حالك", "أنا بخير"]),
        ("好。走吧！嗯", ["好", "走吧", "嗯"]),
        ("\u0130yi iyi", ["iyi iyi"]),  # Turkish capital I with dot
        ("ΟΔΟΣ οδός", ["οδος οδός"]),  # the final sigma
        ("col·lega צה״ל", ["col·lega צה״ל"]),
        ("good 1\ufe0f\u20e3 night", ["good night"]),  # a keycap
        ("\u2139\ufe0f help ❤️ me", ["help me"]),  # an emoji that is a letter to Unicode
        ("soft\u00adly \u200eleft", ["softly left"]),
        ("don&#39;t you &amp; me &lt;b&gt;now&lt;/b&gt; &notathing;", ["don't you me now notathing"]),
        ('he said "stop." Then (he left?) and came', ["he said stop", "then he left and came"]),
        ("\u0661\u0662\u066b\u0665 \u0643\u0645", ["\u0661\u0662\u066b\u0665 \u0643\u0645"]),  # Arabic digits
    ],
)
def test_scripts_and_marks(text, sentences):
    assert read(text) == sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("call +44 20 7946 0958 now", "call now"),
        ("call +7 912 345-67-89 now", "call now"),
        ("call 07700 900123 now", "call now"),
        ("call 030/123456 now", "call now"),
        ("call 01.23.45.67.89 now", "call now"),
        ("card 4111 1111 1111 1111 now", "card now"),
        ("card 4111-1111-1111-1111 now", "card now"),
        ("DE89 3704 0044 0532 0130 00 is mine", "is mine"),
        ("at 192.168.1.100 now", "at now"),
        ("on 2018-05-02 or 12/31/2022 or 01.02.2020", "on 2018 05 02 or 12 31 2022 or 01.02.2020"),
        ("1,000,000 or 1.000.000,50 people", "1,000,000 or 1.000.000,50 people"),
        ("it is 10:30 and 3.5 in 123456", "it is 10:30 and 3.5 in 123456"),
        ("我的邮箱是a@b.com请写信", "我的邮箱是 请写信"),
        ("почта@пример.рф да", "да"),
        ("byu.slack.com and bbc.co.uk and spiegel.de/x?y#z", "and and"),
        ("ftp://a.b/c and WWW.A.B/c or Www.a.b/c", "and or"),
        ("ok.so then.we go e.g. there", "ok so then we go e g there"),
        ("ask @ann_b or @анна", "ask or"),
        ("i <3 you and a<b and c>d ok", "i 3 you and a b and c d ok"),
        ("text<br>more <a href='x y'>link</a>", "text more link"),
        ("привет <Без медиафайлов> <Media omitted>", "привет"),
        ("<تم استبعاد الوسائط> مرحبا", "مرحبا"),
        ("<attached: 0001.jpg> hi", "hi"),
    ],
)
def test_what_is_scrubbed_and_what_is_not(text, words):
    assert " ".join(word for sentence in read(text) for word in sentence.split()) == words


@pytest.mark.parametrize(
    "text", ["", "see you.", "see you. ", "see you\u2026", "see you. \U0001f602", 'see you."', "see you.\t", "हूँ।"]
)
def test_nothing_is_open_after_a_sentence(text):
    assert LATEST.open_words(text) == []


@pytest.mark.parametrize("text", ["Hi. see you", "see you \U0001f602", "see you, ", "SEE you", "a@b.com see you"])
def test_the_sentence_that_goes_on(text):
    assert LATEST.open_words(text) == ["see", "you"]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_quick_way_of_ascii_finds_the_words_of_the_general_one(text):
    lowered = text.lower()
    assert tokeniser._Words._ASCII.findall(lowered) == tokeniser._Words._ANY.findall(lowered)


@given(st.text(alphabet="ab@.:/<>wW1230 -(+ZDE\u4e2d"))
def test_a_trigger_is_in_whatever_its_pattern_finds(text):
    for trigger, pattern in LATEST.scrubbed:
        for found in pattern.finditer(text):
            assert trigger.search(text), (pattern.pattern, found)


HARD = [
    "a.",
    "@",
    "<",
    "1 ",
    "a@",
    "a-",
    "&amp;",
    "ha",
    "<a b=",
    " ",
    "A",
    "1,",
    "1.1.",
    "aa.",
    "क\u200d",
    "a'",
    "<B ",
    "AA11 ",
    "http://",
    "(",
    "+1",
    "?)",
    "?",
]


@pytest.mark.parametrize("piece", HARD)
def test_time_grows_with_the_length_of_a_message_and_not_faster(piece):
    def seconds(length):
        text = piece * (length // len(piece))
        best = float("inf")
        for _ in range(5):
            begun = time.thread_time()  # of this thread's CPU, whatever else the machine has to do
            LATEST.sentences(text)
            best = min(best, time.thread_time() - begun)
        return best

    # Ten times the text; a search that is quadratic would take a hundred times as long.
    assert seconds(40_000) < 40 * seconds(4_000) + 0.05


def test_scripts_without_spaces():
    assert [is_unspaced(word) for word in ("今天", "ไทย", "ひらがな", "한국어", "today", "привет")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_rules_of_version_1_stay_as_they_were():
    # Texts that the versions read apart: runs of before are read as they were trained.
    assert read("call +44 20 7946 0958", TOKENISERS[1]) == ["call 44 20 7946 0958"]
    assert read('he said "stop." Then', TOKENISERS[1]) == ["he said stop then"]
    assert re.fullmatch("i̇yi iyi", read("İyi iyi", TOKENISERS[1])[0])
