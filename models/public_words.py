"""Reads a public word list, which is nobody's text: the words of a language by frequency, from the package wordfreq."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from models.errors import VocabularyError
from models.tokeniser import LATEST, Tokeniser

NO_LANGUAGE = "none"


@dataclass(frozen=True)
class PublicList:
    """The most frequent words of a language, most frequent first, none twice, each as the tokeniser writes it."""

    language: str
    words: tuple[str, ...]


NO_LIST = PublicList(NO_LANGUAGE, ())


def read_public_list(language: str, size: int, tokeniser: Tokeniser = LATEST) -> PublicList:
    """Returns the `size` most frequent words of a language that somebody can type.

    Args:
      language: as wordfreq names it ("en", "pt", "zh" ...); NO_LANGUAGE gives an empty list.
      size: the most words; a language may have fewer.
      tokeniser: what is not one word by its rules stays out; the others are written in its form.

    Raises: VocabularyError: wordfreq is not installed, or has no such language.

    >>> read_public_list("en", 3).words
    ('the', 'to', 'and')
    """
    if language == NO_LANGUAGE:
        return NO_LIST
    try:
        import wordfreq  # a third of a second: only who needs the list pays for it
        from wordfreq.numbers import has_digit_sequence
    except ImportError as error:
        raise VocabularyError(
            f"data.language = {language!r}: the public word list needs the package wordfreq ({error}): install it, or "
            f"set data.language to {NO_LANGUAGE!r}"
        ) from None
    known = sorted(wordfreq.available_languages())
    if language not in known:
        raise VocabularyError(
            f"data.language = {language!r}: there is no public word list of it; set {NO_LANGUAGE!r} or one of "
            f"{', '.join(known)}"
        )
    listed = (word for word in wordfreq.iter_wordlist(language) if not has_digit_sequence(word))  # 00 is any two digits
    return PublicList(language, tuple(islice(_typed(listed, tokeniser), size)))


def _typed(listed: Iterable[str], tokeniser: Tokeniser) -> Iterator[str]:
    """Yields each listed word that is one word by a tokeniser's rules, in the form that it has in a text, once."""
    seen = set()
    for word in listed:
        sentences = tokeniser.sentences(word)
        if len(sentences) == len(sentences[0] if sentences else ()) == 1 and sentences[0][0] not in seen:
            seen.add(sentences[0][0])
            yield sentences[0][0]
