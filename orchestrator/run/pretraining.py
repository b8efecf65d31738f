"""Trains a start on public text: the run's model and words, in one place, before anybody's phone takes part."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Optional

import numpy as np

from models.client_data import ClientData
from models.loading import TENSORFLOW, loading
from models.vocabulary import EOS, NUM_SPECIAL, UNK
from models.weights import Weights
from orchestrator.errors import ConfigError, RunFolderError
from orchestrator.rounds.build import first_weights, model_size
from orchestrator.rounds.round import weights_digest
from orchestrator.run.data import read_text
from orchestrator.run.pretrained import Pretrained, PretrainedRecall, write_pretrained
from orchestrator.run.public_text import read_public_text, require_public_words
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import duration_text

OVERLAP_WORDS = 5  # of a sentence that two texts hardly share by chance
MOST_OVERLAP = 0.01


def pretrain(
    folder: Path,
    texts: Sequence[Path],
    licence: Optional[str],
    config: RunConfig,
    epochs: int,
    most_overlap: float,
    note: Callable[[str], None],
) -> Pretrained:
    """Trains the settings' model on public text, writes it to a folder that model.start takes, and returns its figures.

    The people of data.source train nothing: the test people's sentences measure the overlap and the recall.

    Args:
      folder: a free one.
      texts, licence: see orchestrator.run.public_text.read_public_text.
      config: seed, words, model and tokeniser.
      epochs: passes over the text.
      most_overlap: the largest share of the test people's sentences that the text may hold.
      note: is told how it goes.

    Raises:
      RunFolderError: the folder is not free.
      ConfigError: the words would come from people's text, or the text holds too much of what the test people typed; or
        as read_public_text.
      CorpusError: a text can't be read.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"{folder} is not an empty folder: name another one")
    require_public_words(config.data)
    note("reading the texts")
    public = read_public_text(texts, licence, config)
    corpus, data = read_text(config.data, config.seed)
    sentences = public.sentences
    typed = [own for person in data.split.test for own in corpus.clients[person].sentences]
    overlap = measure_overlap(set(sentences), typed)
    note(f"{overlap:.2%} of the test people's sentences of {OVERLAP_WORDS} words or more are in the public text")
    _require_little(overlap, most_overlap)
    note("loading TensorFlow")
    encoded = [data.vocabulary.encode(sentence) for sentence in sentences]
    size = model_size(config.model, data.vocabulary.size)
    vocabulary = data.vocabulary.truncate(size.vocabulary_size)
    weights, loss = _train(config, encoded, vocabulary.size, epochs, note)
    model = Pretrained(
        tokeniser=config.data.tokeniser,
        segmenter=config.data.segmenter,
        size=(size.vocabulary_size, size.embedding_size, size.num_cells),
        kind=size.kind,
        words=vocabulary.size - NUM_SPECIAL,
        sentences=len(sentences),
        tokens=sum(map(len, encoded)),
        epochs=epochs,
        loss_nats_per_token=loss,
        overlap=overlap,
        overlap_words=OVERLAP_WORDS,
        test=_recall_of_test_people(config, weights, data),
        vocabulary_sha256=vocabulary.digest,
        weights_sha256=weights_digest(weights),
        texts=public.texts,
    )
    write_pretrained(folder, model, vocabulary, weights)
    return model


def _require_little(overlap: float, most: float) -> None:
    if overlap > most:
        raise ConfigError(
            f"--text holds {overlap:.2%} of the test people's sentences, allowed are {most:.2%}: their recall would "
            "say nothing; take another text, or raise --most-overlap"
        )


def _train(
    config: RunConfig, sentences: Sequence[np.ndarray], num_words: int, epochs: int, note: Callable[[str], None]
) -> tuple[Weights, float]:
    """Returns (the weights after the last epoch, its mean loss in nats per token)."""
    with loading(TENSORFLOW):
        from models.central_training import CentralSettings, train_centrally
    size = model_size(config.model, num_words)
    weights, loss, began = first_weights(config, size, _counts(sentences, num_words)), 0.0, time.monotonic()
    settings = CentralSettings(epochs, seed=config.seed % 2**31)
    trained = train_centrally(size, weights, sentences, config.data.max_words, settings)
    for epoch, result in enumerate(trained, 1):
        weights, loss = result
        left = (time.monotonic() - began) / epoch * (epochs - epoch)
        note(f"epoch {epoch} of {epochs}: {loss:.3f} nats a word; {duration_text(left)} left")
    return weights, loss


def _recall_of_test_people(config: RunConfig, weights: Weights, data: ClientData) -> PretrainedRecall:
    from models.central_training import pooled_recall

    test = [sentence for own in data.test.values() for sentence in own]
    size = model_size(config.model, data.vocabulary.size)
    recall = pooled_recall(size, weights, test, config.data.max_words, data.vocabulary.size)
    return PretrainedRecall(**asdict(recall), clients=len(data.test))


def measure_overlap(public: Collection[str], typed: Sequence[str]) -> float:
    """Returns the share of sentences of OVERLAP_WORDS words or more that a public text holds word for word.

    >>> measure_overlap({"see you at the house"}, ["see you at the house", "i am not in the house", "see you"])
    0.5
    """
    long = [sentence for sentence in typed if len(sentence.split()) >= OVERLAP_WORDS]
    return sum(sentence in public for sentence in long) / max(1, len(long))


def _counts(sentences: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Returns how often each id of the model is a target, float64 [num_rows]: public text, counted in one place."""
    ids = np.concatenate(sentences)
    counts = np.bincount(np.where(ids >= num_rows, UNK, ids), minlength=num_rows).astype(np.float64)
    counts[EOS] += len(sentences)
    return counts
