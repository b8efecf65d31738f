"""tokeniser.json: texts, each rule's own and some that chance puts together, and the words that a client must read."""

from __future__ import annotations

import random

import msgspec

from edge.bundle.vectors import build_vectors
from models.tokeniser import LATEST
from models.vocabulary import SPECIAL_WORDS, Vocabulary

NUM_TEXTS, MOST_PIECES = 500, 14
WORDS = Vocabulary((*SPECIAL_WORDS, "see", "you", "don't", "hahaha", "как", "10:30"))
PIECES = (
    *"aeiouAEnstßéİıœΣσς'’`´-_.,;:!?…()[]{}<>@#&/\\|+*=%~^\"«»“”0123456789 \t\n",
    *"هيαβдёжЁ我好はナ한ไทยकषि्ঁ।॥؟۔١２Ⅷ½²😂❤ℹ\u200d\ufe0f\u20e3\u0301\u0308\u00ad\u200b\u200e\u2028\u00a0\u3000\u0130",
    "see you", "don't", "hahaha", "haha", "хахаха", "soooo", "Dr.", "e.g.", "... ", ". ", "! ", "? ", " i ", " <3 ",
    "ann@example.org", "www.", "https://", "example.com", ".de/", "a.b", "@ann", "#tag", "://", "mailto:", ".co.uk",
    "801-555-0100", "+44 20 7946 0958", "4111 1111 1111 1111", "2018-05-02", "12/31/2022", "10:30", "3.5", "1,000",
    "DE89 3704 0044 0532 0130 00", "192.168.1.100", "1.000.000,50",
    "<b>", "</b>", "<br/>", "<a href='x'>", "<Media omitted>",
    "&amp;", "&#39;", "&lt;", "&nbsp;", "&#x1F602;", "&notathing;", "&eacute", "1\ufe0f\u20e3", "👨\u200d👩\u200d👧",
)  # fmt: skip


def tokeniser() -> dict[str, object]:
    """Returns the file's content, in the form of a bundle's tokeniser_vectors.json."""
    draws = random.Random(0)
    texts = ["".join(draws.choices(PIECES, k=draws.randint(1, MOST_PIECES))) for _ in range(NUM_TEXTS)]
    ruled = build_vectors(LATEST, WORDS)
    drawn = build_vectors(LATEST, WORDS, texts, texts[: NUM_TEXTS // 5])
    messages, strokes = [*ruled.messages, *drawn.messages], [*ruled.key_strokes, *drawn.key_strokes]
    return {
        "vocabulary": list(WORDS.words),
        "tokeniser": LATEST.version,
        "messages": msgspec.to_builtins(messages),
        "key_strokes": msgspec.to_builtins(strokes),
    }
