"""The tokeniser's vectors: made-up texts, and the words and ids that an app must make of them.

tokeniser_vectors.json holds whole messages, as training reads them, and a message after each key stroke, as prediction
does. The texts are nobody's; they hold each rule of docs/tokeniser.md, in several scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edge.bundle.folder import VOCABULARY_FILE
from edge.bundle.manifest import to_json
from edge.bundle.reading import decode_json
from edge.errors import BundleError
from models.tokeniser import Tokeniser
from models.vocabulary import Vocabulary

VECTORS_FILE = "tokeniser_vectors.json"
_ADVICE = "export the run again"
_MESSAGES = (
    "",
    "Hello, World! How are you?  Fine",
    "well...ok… so\nnew line . spaced",
    "I don\u2019t know SOOOOO funny, hahahahah! haha",
    "rock 'n' roll, the dogs' snake_case well-known",
    'he said "stop." Then (he left?) and came. "Go!" ok',
    "at 10:30, 3.5 km, 1,000 people, version 2.0.1",
    "on 2018-05-02 or 12/31/2022 or 01.02.2020 or 1.000.000,50",
    "write to ann.b+c@example.org or почта@пример.рф now",
    "ask @ann_b or a@b, see https://example.org/x?y=1#z now",
    "www.example.org/a, mail.example.com, example.de/x, shop.example.co.uk:8080 ok",
    "ok.so then.we go e.g. there, example.museum",
    "byu.slack.com and ftp://a.b/c and Www.a.b/c",
    "call 801-555-0100, (801) 555-0100, +44 20 7946 0958 or 030/123456 now",
    "card 4111 1111 1111 1111 or 4111-1111-1111-1111 or 4111.1111.1111.1111 now",
    "iban DE89 3704 0044 0532 0130 00, at 192.168.1.100, room 123456",
    "<b>bold</b> text<br>more <a href='x y'>link</a> i <3 you and a<b and c>d",
    "<Media omitted> <attached: 0001.jpg> ok",
    "don&#39;t you &amp; me &lt;b&gt;now&lt;/b&gt; &notathing;",
    "good 1\ufe0f\u20e3 night 😂👨\u200d👩\u200d👧 ℹ\ufe0f help ❤\ufe0f me",
    "Cafe\u0301 Zo\u0308e soft\u00adly \u200eleft",
    "Привет, как ДЕЛА? Хахахахаха, двадцать-три",
    "İyi mısın? İYI ISPARTA",
    "ΟΔΟΣ οδός col·lega צה״ל",
    "मैं ठीक हूँ। आप कैसे हैं क्\u200dया",
    "كيف حالك؟ أنا بخير ١٢٫٥ می\u200cخواهم",
    "ශ්\u200dරී ලංකා 𞤫𞤵𞥄𞤪",
    "好。走吧！我的邮箱是a@b.com请写信",
    "สวัสดีครับ 한국어 말을 해요",
)
_TYPED = ("See you at 10:30! ok", "mail a@b.com it\u2019s soooo", "हूँ। आप", "hi… 1\ufe0f\u20e3 😂 go")
_KEY_STROKES = tuple(text[:length] for text in _TYPED for length in range(1, len(text) + 1))


class MessageVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message, its sentences as words, and as ids of the bundle's vocabulary; unknown words are <unk>."""

    text: str
    sentences: tuple[tuple[str, ...], ...]
    ids: tuple[tuple[int, ...], ...]


class KeyVector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in the field after a key stroke, and the words of the open sentence: what is predicted from."""

    typed: str
    open_words: tuple[str, ...]


class Vectors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """tokeniser_vectors.json; key_strokes: after each code point."""

    tokeniser: int
    messages: tuple[MessageVector, ...]
    key_strokes: tuple[KeyVector, ...]


def build_vectors(
    tokeniser: Tokeniser,
    vocabulary: Vocabulary,
    messages: Iterable[str] = _MESSAGES,
    typed: Iterable[str] = _KEY_STROKES,
) -> Vectors:
    """Returns what a tokeniser makes of texts.

    >>> from models.tokeniser import LATEST
    >>> words = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", "how"))
    >>> build_vectors(LATEST, words, ["Hello! How now"]).messages[0].ids
    ((3,), (4, 3))
    """

    def vector(text: str) -> MessageVector:
        sentences = tuple(map(tuple, tokeniser.sentences(text)))
        ids = tuple(tuple(vocabulary.encode(" ".join(words)).tolist()) for words in sentences)
        return MessageVector(text, sentences, ids)

    key_strokes = tuple(KeyVector(text, tuple(tokeniser.open_words(text))) for text in typed)
    return Vectors(tokeniser.version, tuple(map(vector, messages)), key_strokes)


def vectors_bytes(tokeniser: Tokeniser, vocabulary: Vocabulary) -> bytes:
    """Returns tokeniser_vectors.json."""
    return to_json(build_vectors(tokeniser, vocabulary))


def check_vectors(contents: Mapping[str, bytes], tokeniser: Tokeniser) -> str:
    """Returns what the vectors of a bundle came to.

    Args:
      contents: of the bundle's files, by name.
      tokeniser: that of the manifest.

    Raises:
      BundleError: the file is damaged, or gives other words or ids than this fedkeys.
    """
    if VECTORS_FILE not in contents:
        return "none: exported by an older fedkeys"
    given = decode_json(contents[VECTORS_FILE], Vectors, VECTORS_FILE, _ADVICE)
    if given.tokeniser != tokeniser.version:
        raise BundleError(
            f"{VECTORS_FILE} is of tokeniser {given.tokeniser}, the manifest of {tokeniser.version}: {_ADVICE}"
        )
    vocabulary = Vocabulary.parse(contents[VOCABULARY_FILE], VOCABULARY_FILE)
    texts, typed = [own.text for own in given.messages], [own.typed for own in given.key_strokes]
    here = build_vectors(tokeniser, vocabulary, texts, typed)
    for message, expected in zip(given.messages, here.messages):
        if message != expected:
            raise BundleError(f"{VECTORS_FILE}: {message.text!r} has other words or ids here: {_ADVICE}")
    for key_stroke, expected_words in zip(given.key_strokes, here.key_strokes):
        if key_stroke != expected_words:
            raise BundleError(f"{VECTORS_FILE}: {key_stroke.typed!r} leaves other words open here: {_ADVICE}")
    return f"{len(texts)} messages and {len(typed)} key strokes as tokeniser {tokeniser.version} reads them"
