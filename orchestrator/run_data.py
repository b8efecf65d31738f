"""The text of a run, read before the heavy imports: a mistake in it is told at once."""

from __future__ import annotations

from models.client_data import ClientData, build_client_data
from models.corpus import Corpus, load_corpus
from orchestrator.cohort import select_cohort
from orchestrator.config import RunConfig


def load_client_data(config: RunConfig) -> tuple[Corpus, ClientData]:
    """The corpus that a configuration names, and its people's text as ids.

    Raises:
      CorpusError: the text can't be read, or has too few people.
      ConfigError: fewer people can train than a cohort needs.
    """
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
    )
    select_cohort(tuple(data.train), 1, config.rounds.cohort_size, config.seed)
    return corpus, data
