"""Reads the text of one client, on its own machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from models.corpus import ClientId, load_corpus
from models.errors import CorpusError
from models.text_sources import read_own_messages
from models.tokeniser import LATEST, tokeniser_of


def read_own_sentences(source: str, client_id: str) -> tuple[str, ...]:
    """Returns a client's tokenised sentences: all of a .txt file, or those of `client_id` in another source of text.

    Raises:
      CorpusError: the text can't be read, is empty, or has no such client.
    """
    path = Path(source)
    if path.suffix.lower() == ".txt" and path.is_file():
        try:
            messages = read_own_messages(path)
        except OSError as error:
            raise CorpusError(f"{path}: can't be read: {error.strerror}") from None
        sentences = tuple(" ".join(words) for message in messages for words in LATEST.sentences(message))
        if not sentences:
            raise CorpusError(f"{path}: has no words; name a file with the client's text")
        return sentences
    corpus = load_corpus(source)
    if client_id not in corpus.clients:
        raise CorpusError(f"{source}: has no client {client_id}; its first is {next(iter(corpus.clients))}")
    return corpus.clients[ClientId(client_id)].sentences


def segmented(sentences: Iterable[str], segmenter: str) -> Iterator[str]:
    """Returns sentences of read_own_sentences as a run's segmenter cuts them, which is the last rule of a tokeniser.

    Raises:
      SegmenterError: the segmenter is not on this machine.
    """
    rules = tokeniser_of(LATEST.version, segmenter)
    return (" ".join(rules.segmented(sentence.split())) for sentence in sentences)
