"""The tokeniser's vectors: what a bundle tells an app that ports the rules, and what verify makes of a wrong one."""

from __future__ import annotations

import hashlib
import json

import pytest

from edge.bundle.vectors import VECTORS_FILE, build_vectors, check_vectors, vectors_bytes
from edge.errors import BundleError
from models.tokeniser import LATEST, TOKENISERS
from models.vocabulary import SPECIAL_WORDS, Vocabulary

WORDS = Vocabulary((*SPECIAL_WORDS, "see", "you", "card", "now", "or"))


def check(vectors):
    listed = "".join(f"{word}\n" for word in WORDS.words).encode()
    return check_vectors({VECTORS_FILE: vectors, "vocabulary.txt": listed}, LATEST)


def test_words_and_ids_of_a_message_and_what_each_key_stroke_leaves_open():
    vectors = build_vectors(LATEST, WORDS)
    by_text = {own.text: own for own in vectors.messages}
    cards = by_text["card 4111 1111 1111 1111 or 4111-1111-1111-1111 or 4111.1111.1111.1111 now"]
    assert cards.sentences == (("card", "or", "or", "now"),)
    assert cards.ids == ((6, 8, 8, 7),)
    assert by_text["byu.slack.com and ftp://a.b/c and Www.a.b/c"].sentences == (("and", "and"),)
    after = {own.typed: own.open_words for own in vectors.key_strokes}
    assert after["See yo"] == ("see", "yo")
    assert after["See you at 10:30! o"] == ("o",)


@pytest.mark.parametrize(
    ("version", "digest"),
    [
        (1, "c6a3b0a0c4a3efda07e843e1eeaba5cdb7227a34339bf080ab645f59994bb8b5"),
        (2, "e75b8a3fb81a84207268abf4c4d4c9b912e64ec3a150b8ad67101f34114c72b2"),
    ],
)
def test_the_rules_of_a_version_never_change(version, digest):
    """A new rule is a new version: phones in the field read by the old one."""
    assert hashlib.sha256(vectors_bytes(TOKENISERS[version], WORDS)).hexdigest() == digest


def test_what_was_exported_is_accepted_whatever_texts_it_holds():
    assert "29 messages and 62 key strokes" in check(vectors_bytes(LATEST, WORDS))
    assert "none" in check_vectors({}, LATEST)
    later = json.loads(vectors_bytes(LATEST, WORDS))
    later["messages"] = [{"text": "see you now", "sentences": [["see", "you", "now"]], "ids": [[4, 5, 7]]}]
    assert "1 messages" in check(json.dumps(later).encode())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda own: own["messages"][1]["sentences"][0].append("!"), "'Hello, World!.*has other words or ids"),
        (lambda own: own["messages"][1].update(ids=[]), "'Hello, World!.*has other words or ids"),
        (lambda own: own["key_strokes"][3].update(open_words=[]), "'See ' leaves other words open"),
        (lambda own: own.update(tokeniser=1), "is of tokeniser 1, the manifest of 2"),
        (lambda own: own.update(more=1), "is damaged"),
    ],
)
def test_a_wrong_vector_is_refused_by_its_text(change, complaint):
    changed = json.loads(vectors_bytes(LATEST, WORDS))
    change(changed)
    with pytest.raises(BundleError, match=complaint):
        check(json.dumps(changed).encode())
