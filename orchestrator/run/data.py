"""The text of a run, read before the heavy imports: a mistake in it is told at once."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import NamedTuple, Optional

from models.client_data import ClientData, build_client_data
from models.corpus import Corpus, load_corpus
from models.errors import VocabularyError
from models.tokeniser import TOKENISERS
from models.vocabulary import NUM_SPECIAL, Vocabulary
from orchestrator.errors import ConfigError
from orchestrator.rounds.cohort import select_cohort
from orchestrator.run.planted import plant_phrases
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import DataConfig

POOLED, FEDERATED = "pooled", "federated"  # as data.vocabulary; anything else is a file


class Text(NamedTuple):
    """A text, and its people's sentences as ids."""

    corpus: Corpus
    data: ClientData


def load_client_data(config: RunConfig) -> Text:
    """Returns the corpus that a configuration names, and its people's text as ids, with the phrases of an audit.

    Raises:
      CorpusError: the text can't be read, or has too few people.
      VocabularyError: the file that data.vocabulary names is no word list.
      ConfigError: fewer people can train than a cohort needs.
    """
    vocabulary = _given_words(config.data)  # before the text: a mistake in it shows at once
    return _encoded(load_corpus(config.data.source, tokeniser=TOKENISERS[config.data.tokeniser]), config, vocabulary)


def _given_words(data: DataConfig) -> Optional[Vocabulary]:
    """Returns the word list that the settings name; None if the words come from the text."""
    if data.vocabulary == FEDERATED:
        raise ConfigError(
            f"data.vocabulary = {FEDERATED!r}: only `fedkeys train` finds the words itself; write them with "
            "`fedkeys vocabulary --out FILE` and name the file"
        )
    if data.vocabulary == POOLED:
        return None
    path = Path(data.vocabulary)
    vocabulary = Vocabulary.read(path)
    _require_typeable(path, vocabulary, data.tokeniser)
    return vocabulary


def _require_typeable(path: Path, vocabulary: Vocabulary, tokeniser: int) -> None:
    """Refuses a word that differs from its form in a text by capitals or by Unicode's composition."""
    for word_id, word in enumerate(vocabulary.words[NUM_SPECIAL:], NUM_SPECIAL):
        typed = " ".join(TOKENISERS[tokeniser].words(word))
        if typed != word and unicodedata.normalize("NFC", word).lower() == typed:
            raise VocabularyError(
                f"{path}, line {word_id + 1}: nobody can type {word!r}, since texts are read as {typed!r}: write it so"
            )


def _encoded(corpus: Corpus, config: RunConfig, vocabulary: Optional[Vocabulary]) -> Text:
    data = build_client_data(
        corpus,
        seed=config.seed,
        vocabulary_size=config.data.vocabulary_size,
        min_sentences=config.data.min_sentences,
        max_sentences_train=config.data.max_sentences_train,
        max_sentences_eval=config.data.max_sentences_eval,
        dev_share=config.data.dev_share,
        test_share=config.data.test_share,
        vocabulary=vocabulary,
    )
    select_cohort(tuple(data.train), 1, config.rounds.cohort_size, config.seed)
    return Text(corpus, plant_phrases(config, data))
