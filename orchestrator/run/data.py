"""The text of a run, read before the heavy imports: a mistake in it is told at once."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from models.client_data import ClientData, build_client_data
from models.corpus import Corpus, load_corpus
from models.errors import VocabularyError
from models.forgotten import Forgotten, Remaining, forget
from models.public_words import NO_LIST, PublicList, read_public_list
from models.tokeniser import Tokeniser, tokeniser_of
from models.vocabulary import (
    FEDERATED,
    FILE,
    NUM_SPECIAL,
    POOLED,
    PUBLIC,
    SPECIAL_WORDS,
    UNK,
    Vocabulary,
    WordList,
    WordOrigin,
)
from orchestrator.errors import ConfigError
from orchestrator.rounds.cohort import select_cohort
from orchestrator.run.planted import plant_phrases
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import DataConfig

_log = logging.getLogger(__name__)
_FEW_KNOWN = 0.6  # of the training people's words, below which a list does not fit its text


class Text(NamedTuple):
    """A text, and its people's sentences as ids."""

    corpus: Corpus
    data: ClientData


def load_client_data(config: RunConfig, words: Optional[WordList] = None) -> Text:
    """Returns the corpus that a configuration names, and its people's text as ids, with the phrases of an audit.

    Args:
      config: of the run.
      words: the run's own, if it has begun; None takes those that data.vocabulary names.

    Raises:
      CorpusError: the text can't be read, or has too few people, or others than a run that forgot people had.
      VocabularyError: the file that data.vocabulary names is no word list, or there is no public one.
      ConfigError: fewer people can train than a cohort needs.
    """
    corpus, data = read_text(config.data, config.seed, words)
    select_cohort(data.roster, 1, config.rounds.cohort_size, config.seed)
    return Text(corpus, plant_phrases(config, data))


def read_text(settings: DataConfig, seed: int, words: Optional[WordList] = None) -> Text:
    """Returns the same as load_client_data, whatever a cohort needs, and without planted phrases."""
    words = words or _given_words(settings)  # before the text: a mistake in it shows at once
    public = _public_list(settings) if words is None else NO_LIST
    corpus = load_corpus(settings.source, tokeniser=tokeniser_of(settings.tokeniser, settings.segmenter))
    remaining = _remaining(corpus, settings)
    corpus = remaining.corpus if remaining else corpus
    data = build_client_data(
        corpus,
        seed=seed,
        vocabulary_size=settings.vocabulary_size,
        min_sentences=settings.min_sentences,
        max_sentences_train=settings.max_sentences_train,
        max_sentences_eval=settings.max_sentences_eval,
        dev_share=settings.dev_share,
        test_share=settings.test_share,
        words=words,
        min_people=settings.min_people,
        public=public,
        remaining=remaining,
    )
    _warn_of_unknown_words(data)
    return Text(corpus, data)


def _given_words(settings: DataConfig) -> Optional[WordList]:
    """Returns the word list that the settings name; None if the words come from the text."""
    if settings.vocabulary == FEDERATED:
        raise ConfigError(
            f"data.vocabulary = {FEDERATED!r}: only `fedkeys train` finds the words itself; write them with "
            "`fedkeys vocabulary --out FILE` and name the file"
        )
    if settings.vocabulary == POOLED:
        return None
    if settings.vocabulary == PUBLIC:
        return _public_words(settings)
    path = Path(settings.vocabulary)
    vocabulary = Vocabulary.read(path)
    _require_typeable(path, vocabulary, tokeniser_of(settings.tokeniser, settings.segmenter))
    return WordList(vocabulary, WordOrigin(FILE))


def _public_words(settings: DataConfig) -> WordList:
    words = _public_list(settings).words
    if not words:
        raise ConfigError(
            f"data.vocabulary = {PUBLIC!r}, data.language = {settings.language!r}: name the language of the public list"
        )
    origin = WordOrigin(PUBLIC, from_text=0, from_public=len(words), language=settings.language)
    return WordList(Vocabulary(SPECIAL_WORDS + words), origin)


def _public_list(settings: DataConfig) -> PublicList:
    """Returns as many public words as the vocabulary has room for."""
    room = settings.vocabulary_size - NUM_SPECIAL
    return read_public_list(settings.language, room, tokeniser_of(settings.tokeniser, settings.segmenter))


def _warn_of_unknown_words(data: ClientData) -> None:
    """Warns of a word list that is not of the text's language, or of a text of too few people."""
    ids = np.concatenate(data.pooled)
    share = float(np.mean(ids != UNK))
    if share < _FEW_KNOWN:
        _log.warning(
            "the word list holds only %.0f %% of the words that the training people typed: set data.language to that "
            "of the text, lower data.min_people, or name a list of your own in data.vocabulary",
            100 * share,
        )


def _require_typeable(path: Path, vocabulary: Vocabulary, tokeniser: Tokeniser) -> None:
    """Refuses a word that differs from its form in a text by capitals or by Unicode's composition."""
    for word_id, word in enumerate(vocabulary.words[NUM_SPECIAL:], NUM_SPECIAL):
        typed = " ".join(tokeniser.words(word))
        if typed != word and unicodedata.normalize("NFC", word).lower() == typed:
            raise VocabularyError(
                f"{path}, line {word_id + 1}: nobody can type {word!r}, since texts are read as {typed!r}: write it so"
            )


def _remaining(corpus: Corpus, settings: DataConfig) -> Optional[Remaining]:
    """Returns the text without the people whom the run forgot; None if it forgot nobody."""
    if not settings.forgotten:
        return None
    try:
        forgotten = Forgotten.parse(settings.forgotten)
    except ValueError as error:
        raise ConfigError(f"data.forgotten = {settings.forgotten!r}: {error}; leave it to `fedkeys forget`") from None
    return forget(corpus, forgotten)
