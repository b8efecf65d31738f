"""The words and sentences of typed text, for training, evaluation, prediction and phones alike.

A tokeniser has a version, since a run's text and a phone's bundle must be read by the rules that they were made with.
docs/data_formats.md states the rules of the newest version for people who port them; Unicode's properties come from the
package `regex`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html.entities import html5
from typing import Any, Callable

import regex

from models.segmentation import NO_SEGMENTER, SEGMENTERS, require_segmenter

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u0060\u00b4\uff07", "'"))
_LAUGHS = (  # English and Russian; the bounded lengths keep the search linear
    ("hahaha", re.compile(r"\b[ha]{0,40}(?:ha){3,}h{0,40}a{0,40}\b")),
    ("хахаха", re.compile(r"\b[ха]{0,40}(?:ха){3,}х{0,40}а{0,40}\b")),
)
_LONG_RUN = re.compile(r"([^\W\d_])\1{3,}")

Pattern = Any  # of the module re or regex, which have no common type


@dataclass(frozen=True)
class Tokeniser:
    """The rules of one version. Every search is linear in the text, whatever was typed.

    Attributes:
      version: as the setting data.tokeniser and a bundle's manifest name it.
      prepare: what is done to a message first.
      scrubbed: what is then replaced by a space, in this order: whatever could name a person. Each pattern stands
        behind a quicker one that finds something in every message in which the pattern itself does.
      sentence_end: where a message is split into sentences.
      lower: what is done to a sentence before its words are sought.
      word: what a word is.
      segmenter: who cuts words of scripts without spaces, one of models.segmentation.SEGMENTERS.
    """

    version: int
    prepare: Callable[[str], str]
    scrubbed: tuple[tuple[Pattern, Pattern], ...]
    sentence_end: Pattern
    lower: Callable[[str], str]
    word: Pattern
    segmenter: str = NO_SEGMENTER

    def sentences(self, message: str) -> list[list[str]]:
        """Returns the sentences of a message as typed, each as its words; sentences without a word are left out.

        >>> LATEST.sentences("Hi! How are you...fine? Call 801-555-0100")
        [['hi'], ['how', 'are', 'you'], ['fine'], ['call']]
        """
        found = (self.words(part) for part in self.sentence_end.split(self.scrub(message)))
        return [words for words in found if words]

    def open_words(self, message: str) -> list[str]:
        """Returns the words of the sentence that a message has not ended yet: what a next word is predicted from.

        >>> LATEST.open_words("Hello! See you"), LATEST.open_words("See you. \U0001f602")
        (['see', 'you'], [])
        """
        return self.words(self.sentence_end.split(self.scrub(message))[-1])

    def scrub(self, message: str) -> str:
        """Returns the message without mail addresses, handles, URLs, mark-up, phone numbers and other long numbers.

        >>> LATEST.scrub("write to ann@example.org or call 801-555-0100").split()
        ['write', 'to', 'or', 'call']
        """
        message = self.prepare(message)
        for trigger, pattern in self.scrubbed:
            if trigger.search(message):
                message = pattern.sub(" ", message)
        return message

    def words(self, sentence: str) -> list[str]:
        """Returns the words of a sentence: lower-case, NFC; apostrophes inside words and numbers stay, the rest goes.

        A letter typed four or more times in a row becomes three, and laughter of any length one word, so that
        "sooooo" and "soooo" are the same word wherever text is read. Tokenising the joined words again changes
        nothing.

        >>> LATEST.words("I don\u2019t know SOOOOO funny, hahahahah! 10:30?")
        ['i', "don't", 'know', 'sooo', 'funny', 'hahaha', '10:30']
        """
        words = " ".join(self.word.findall(self.lower(sentence)))
        for laugh, pattern in _LAUGHS:
            if laugh in words:
                words = pattern.sub(laugh, words)
        return self.segmented(_LONG_RUN.sub(r"\1\1\1", words).split())

    def segmented(self, words: list[str]) -> list[str]:
        """Returns words that no segmenter has cut as this tokeniser has them: the last of its rules."""
        if self.segmenter == NO_SEGMENTER:
            return words
        cut: list[str] = []
        for word in words:
            if _UNSPACED_LETTER.search(word):
                cut += (own for part in SEGMENTERS[self.segmenter](word) for own in self.word.findall(part))
            else:
                cut.append(word)
        return cut


# --- version 1: runs and bundles that were made before the rules had a version

_MARKS_1 = "".join(chr(c) for c in range(0x300, 0xFE30) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
_LETTERS_1 = rf"[^\W\d_]+(?:[{_MARKS_1}]+[^\W\d_]*)*"
_ANYTHING = re.compile("")
_VERSION_1 = Tokeniser(
    version=1,
    prepare=str,
    scrubbed=tuple(
        (_ANYTHING, re.compile(pattern, flags))
        for pattern, flags in (
            (r"[^\s@]{1,64}@[^\s@]+\.\w+", 0),
            (r"(?<!\w)@[A-Za-z0-9_.]{3,}", 0),
            (r"https?://\S+|www\.\S+|\b\w[\w-]{0,62}\.(?:com|org|edu|net|io)\b(?:/\S*)?", re.IGNORECASE),
            (r"</?[A-Za-z][^<>]{0,80}>", 0),
            (r"\+?\(?\d{3}\)?[-. ]?\d{3}[-. ]\d{4}\b", 0),
            (r"\d{7,}", 0),
        )
    ),
    sentence_end=re.compile(r"(?<=[.!?])\s+|[\n\u2028\u2029]+|\.{2,}|\u2026|\s\.\s"),
    lower=lambda text: unicodedata.normalize("NFC", text.lower()).translate(_APOSTROPHES),
    word=re.compile(rf"{_LETTERS_1}(?:'{_LETTERS_1})*|\d+(?:[.,:]\d+)*"),
)

# --- version 2

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# They show nothing and part no words: variation selectors, soft hyphens, marks of direction, word joiners.
_INVISIBLE = regex.compile(
    r"[\p{Variation_Selector}\u00ad\u061c\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_KEYCAP = re.compile("[0-9#*]\u20e3")

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{LB=SA}"  # scripts that put no space between words
# What an address is made of: no script without spaces, or the address would take the words around it.
_NAME = rf"[[\p{{L}}\p{{Mn}}\p{{Mc}}\p{{Nd}}]--[{_UNSPACED}]]"
_LABEL = rf"{_NAME}(?:[{_NAME}\-]{{0,61}}{_NAME})?"
_PATH = rf"(?:[/?#][^\s<>\"{_UNSPACED}]*)?"
_DOMAINS = "com|org|net|edu|gov|mil|io|info|biz|app|dev|xyz"
_SPACE = r"[ \u00a0\u2007\u2009\u202f]"


# (a quicker pattern that any match needs, the pattern)
_SCRUBBED_2 = tuple(
    (re.compile(trigger), regex.compile(pattern, regex.V1))
    for trigger, pattern in (
        # mail addresses
        ("@", rf"[{_NAME}._%+'\-]{{1,64}}@(?:{_LABEL}\.){{1,8}}{_NAME}{{2,24}}"),
        # URLs; hosts of a well-known ending, or of two letters with a path, or with another dot before them
        (r"(?i)://|www\.", rf"(?i)\b(?:[a-z][a-z0-9+.\-]{{1,20}}://|www\.)[^\s<>\"{_UNSPACED}]+"),
        (r"\.\w", rf"(?i)(?<![{_NAME}.@])(?:{_LABEL}\.){{1,8}}(?:{_DOMAINS})(?::\d{{1,5}})?(?![{_NAME}]){_PATH}"),
        (
            r"\.\w\w[:/]",
            rf"(?i)(?<![{_NAME}.@])(?:{_LABEL}\.){{1,8}}[a-z]{{2}}(?::\d{{1,5}})?/[^\s<>\"{_UNSPACED}]*",
        ),
        (r"\.\S+\.", rf"(?i)(?<![{_NAME}.@])(?:{_NAME}[{_NAME}\-]{{1,62}}\.){{2,8}}[a-z]{{2}}(?![{_NAME}.])"),
        # handles
        ("@", r"(?<![\p{L}\p{Nd}])@[\p{L}\p{Mn}\p{Mc}\p{Nd}_.]{2,30}"),
        # mark-up: tags without attributes, tags with them, and the placeholders of chat exports in any language
        ("<", r"</?[A-Za-z][A-Za-z0-9:\-]{0,30}[ \t]{0,9}/?>"),
        ("<", r"<[A-Za-z][A-Za-z0-9:\-]{0,30}[ \t]{1,9}[A-Za-z_:\-]{1,30}[ \t]{0,9}=[^<>]{0,400}>"),
        ("<", r"(?<![\p{L}\p{Nd}])<(?:[\p{Lu}\p{Lt}\p{Lo}][^<>\n]{0,60}|\p{L}[^<>\n:]{0,20}:[^<>\n]{1,80})>"),
        # account numbers such as an IBAN
        (
            r"[A-Z]{2}\d\d",
            rf"(?<![\p{{L}}\p{{Nd}}])[A-Z]{{2}}\d{{2}}(?:{_SPACE}?[A-Z0-9]{{4}}){{2,7}}(?:{_SPACE}?[A-Z0-9]{{1,3}})?"
            r"(?![\p{L}\p{Nd}])",
        ),
        # seven and more digits in groups, as phones, cards and accounts are written; not dates and thousands
        (
            r"\d\D{0,3}\d\D{0,3}\d\D{0,3}\d\D{0,3}\d\D{0,3}\d\D{0,3}\d",
            r"(?<![\p{Nd}.,:])"
            r"(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}([./\-])\d{1,2}\1\d{2,4}|\d{1,3}([.,])\d{3}(?:\2\d{3})*(?:[.,]\d{1,2})?)"
            r"(?!(?:[ .,/()\-\u2010-\u2015]{0,2}\d))(*SKIP)(*FAIL)"
            rf"|[+(]{{0,2}}\d(?:(?:{_SPACE}|[.\-/()\u2010-\u2015]){{0,3}}\d){{6,}}",
        ),
    )
)

_CLOSING = r"[\p{Pe}\p{Pf}\"'*_~]"
_SENTENCE_END_2 = regex.compile(
    r"(?<=[.!?])(?:\s+|$)"
    rf"|(?<=[.!?]){_CLOSING}{{1,3}}(?:\s+(?!\p{{Ll}})|$)"  # in brackets or quotes, unless the sentence goes on
    r"|[\n\r\u2028\u2029\u0085]+|\.{2,}|\u2026+|\s\.\s"
    rf"|[[\p{{Sentence_Terminal}}\uff0e]--[.!?]]+{_CLOSING}{{0,3}}",  # of scripts that need no space after it
    regex.V1,
)

_LETTER = r"[\p{L}--\p{Extended_Pictographic}]"
_LETTERS_2 = rf"{_LETTER}(?:[\p{{L}}\p{{Mn}}\p{{Mc}}--\p{{Extended_Pictographic}}]|[\u200c\u200d](?={_LETTER}))*"
_INNER = "['\u00b7\u05f3\u05f4\u2027]"  # Catalan col·lega, Hebrew acronyms, besides the apostrophe


def _unescaped(entity: re.Match[str]) -> str:
    known = entity[0][1] == "#" or entity[0][1:] in html5
    return html.unescape(entity[0]) if known else entity[0]


def _prepare_2(message: str) -> str:
    """Entities as their characters, keycaps as spaces, without what shows nothing; composed (NFC)."""
    if "&" in message:
        message = _ENTITY.sub(_unescaped, message)
    if message.isascii():
        return message
    return unicodedata.normalize("NFC", _KEYCAP.sub(" ", _INVISIBLE.sub("", message)))


def _lower_2(text: str) -> str:
    if text.isascii():
        return text.lower().translate(_APOSTROPHES)
    # İ has no single small letter in Unicode: without this "İyi" and "iyi" would be two words.
    return unicodedata.normalize("NFC", text.replace("\u0130", "i").lower()).translate(_APOSTROPHES)


class _Words:
    """Version 2's words; plain English, which most text here is, goes a quicker way to the same words."""

    _ANY = regex.compile(rf"{_LETTERS_2}(?:{_INNER}{_LETTERS_2})*|\d+(?:[.,:\u066b\u066c]\d+)*", regex.V1)
    _ASCII = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+(?:[.,:]\d+)*")

    def findall(self, text: str) -> list[str]:
        return (self._ASCII if text.isascii() else self._ANY).findall(text)


_VERSION_2 = Tokeniser(
    version=2,
    prepare=_prepare_2,
    scrubbed=_SCRUBBED_2,
    sentence_end=_SENTENCE_END_2,
    lower=_lower_2,
    word=_Words(),
)

_UNSPACED_LETTER = regex.compile(rf"[[{_UNSPACED}]&&\p{{L}}]", regex.V1)

TOKENISERS: Mapping[int, Tokeniser] = {each.version: each for each in (_VERSION_1, _VERSION_2)}
LATEST = _VERSION_2


def tokeniser_of(version: int, segmenter: str) -> Tokeniser:
    """Returns the tokeniser of a version with a segmenter.

    Raises:
      SegmenterError: the segmenter is not on this machine.
    """
    require_segmenter(segmenter)
    return replace(TOKENISERS[version], segmenter=segmenter)


def is_unspaced(word: str) -> bool:
    """Whether a word is of a script that puts no space between words, so that it may be a whole message.

    >>> is_unspaced("今天天气真好"), is_unspaced("today")
    (True, False)
    """
    return _UNSPACED_LETTER.match(word) is not None
