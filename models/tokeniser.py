"""Returns the words and sentences of typed text, for training, evaluation and prediction alike.

The rules, told for people who port them to a phone, are in docs/data_formats.md.
"""

from __future__ import annotations

import re
import unicodedata

# A letter may carry combining marks (the vowels of Hindi, for one), which Python's \w leaves out.
_MARKS = "".join(chr(c) for c in range(0x300, 0xFE30) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
_LETTERS = rf"[^\W\d_]+(?:[{_MARKS}]+[^\W\d_]*)*"
_WORD = re.compile(rf"{_LETTERS}(?:'{_LETTERS})*|\d+(?:[.,:]\d+)*")
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u0060\u00b4\uff07", "'"))
_LAUGHS = (  # English and Russian; the bounded lengths keep the search linear
    ("hahaha", re.compile(r"\b[ha]{0,40}(?:ha){3,}h{0,40}a{0,40}\b")),
    ("хахаха", re.compile(r"\b[ха]{0,40}(?:ха){3,}х{0,40}а{0,40}\b")),
)
_LONG_RUN = re.compile(r"([^\W\d_])\1{3,}")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|[\n\u2028\u2029]+|\.{2,}|\u2026|\s\.\s")

# The bounded lengths keep each search linear in the text, whatever was typed.
_SCRUBBED = (
    re.compile(r"[^\s@]{1,64}@[^\s@]+\.\w+"),  # mail addresses
    re.compile(r"(?<!\w)@[A-Za-z0-9_.]{3,}"),  # handles
    re.compile(r"https?://\S+|www\.\S+|\b\w[\w-]{0,62}\.(?:com|org|edu|net|io)\b(?:/\S*)?", re.IGNORECASE),
    re.compile(r"</?[A-Za-z][^<>]{0,80}>"),  # mark-up, and placeholders such as <URL>
    re.compile(r"\+?\(?\d{3}\)?[-. ]?\d{3}[-. ]\d{4}\b"),  # phone numbers
    re.compile(r"\d{7,}"),  # long numbers: phones, cards, accounts
)


def tokenise(text: str) -> list[str]:
    """Returns the words of `text`: lower-case, NFC; apostrophes inside words and numbers stay, the rest goes.

    A letter typed four or more times in a row becomes three, and laughter of any length one word, so that
    "sooooo" and "soooo" are the same word wherever text is read. Tokenising the joined words again changes
    nothing.

    >>> tokenise("I don\u2019t know... SOOOOO funny, hahahahah! 10:30?")
    ['i', "don't", 'know', 'sooo', 'funny', 'hahaha', '10:30']
    """
    lowered = unicodedata.normalize("NFC", text.lower()).translate(_APOSTROPHES)
    words = " ".join(_WORD.findall(lowered))
    for laugh, pattern in _LAUGHS:
        if laugh in words:
            words = pattern.sub(laugh, words)
    return _LONG_RUN.sub(r"\1\1\1", words).split()


def split_sentences(text: str) -> list[list[str]]:
    """Returns the sentences of `text`, each as its words; those without a word are left out.

    >>> split_sentences("Hi! How are you...fine?")
    [['hi'], ['how', 'are', 'you'], ['fine']]
    """
    sentences = (tokenise(part) for part in _SENTENCE_END.split(text))
    return [words for words in sentences if words]


def scrub(text: str) -> str:
    """Returns `text` without mail addresses, handles, URLs, mark-up, phone numbers and other long numbers.

    >>> scrub("write to ann@example.org or call 801-555-0100").split()
    ['write', 'to', 'or', 'call']
    """
    for pattern in _SCRUBBED:
        text = pattern.sub(" ", text)
    return text
