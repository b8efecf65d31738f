"""The text of a run, read before the heavy imports: a mistake in it is told at once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from models.client_data import ClientData, build_client_data
from models.corpus import Corpus, load_corpus
from models.vocabulary import Vocabulary
from orchestrator.errors import ConfigError
from orchestrator.rounds.cohort import select_cohort
from orchestrator.run.planted import plant_phrases
from orchestrator.settings.run_config import RunConfig

POOLED, FEDERATED = "pooled", "federated"  # as data.vocabulary; anything else is a file


class Text(NamedTuple):
    """A text, and its people's sentences as ids."""

    corpus: Corpus
    data: ClientData


def load_client_data(config: RunConfig) -> Text:
    """The corpus that a configuration names, and its people's text as ids, with the phrases that an audit plants.

    Raises:
      CorpusError: the text can't be read, or has too few people.
      VocabularyError: the file that data.vocabulary names is no word list.
      ConfigError: fewer people can train than a cohort needs.
    """
    vocabulary = None
    if config.data.vocabulary == FEDERATED:
        raise ConfigError(
            f"data.vocabulary = {FEDERATED!r}: only `fedkeys train` finds the words itself; write them with "
            "`fedkeys vocabulary --out FILE` and name the file"
        )
    if config.data.vocabulary != POOLED:
        vocabulary = Vocabulary.read(Path(config.data.vocabulary))
    corpus = load_corpus(config.data.source)
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
