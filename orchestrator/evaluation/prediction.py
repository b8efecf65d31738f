"""The next words after a text, as the keyboard's three suggestions."""

from __future__ import annotations

from typing import Optional

import numpy as np
import tensorflow as tf

from models import inference
from models.batches import build_batches
from models.model import load_model
from models.private_bigram import PrivateBigram
from models.tokeniser import Tokeniser
from models.vocabulary import BOS, NUM_SPECIAL, Vocabulary
from models.weights import ModelSize, Weights
from orchestrator.errors import RunFolderError
from orchestrator.evaluation.ngram_release import read_ngram
from orchestrator.evaluation.results import Prediction
from orchestrator.run.saved import Run


class Predictor:
    """Predicts with a model.

    Args:
      size: of the model.
      weights: its weights.
      vocabulary: at least the words that it has rows for.
      max_words: the model's time steps; a longer context loses its first words.
      mixed_with: an n-gram of the same vocabulary, and its share in what is predicted; None for the model alone.
    """

    def __init__(
        self,
        size: ModelSize,
        weights: Weights,
        vocabulary: Vocabulary,
        max_words: int,
        tokeniser: Tokeniser,
        mixed_with: Optional[tuple[PrivateBigram, float]] = None,
    ):
        self._mixed_with = mixed_with
        self._vocabulary, self._time, self._tokeniser = vocabulary, max_words, tokeniser
        self._model, self._weights = load_model(size), tuple(map(tf.constant, weights))

    @staticmethod
    def of_run(run: Run, weights: Weights, ngram_share: float = 0.0) -> Predictor:
        """Returns what predicts with weights of a run, mixed with its private n-gram if that has a share.

        Raises:
          RunFolderError: the run has released no n-gram to mix with, or it is damaged.
        """
        size, mixed_with = run.config.model.size_with(run.vocabulary.size), None
        if ngram_share:
            ngram = read_ngram(run)
            if ngram is None:
                raise RunFolderError(
                    f"{run.path} has no private n-gram to mix with: `fedkeys ngram --run {run.path}` releases one"
                )
            mixed_with = ngram.model, ngram_share
        return Predictor(size, weights, run.vocabulary, run.config.data.max_words, run.tokeniser, mixed_with)

    def next_words(self, text: str, count: int = 3) -> tuple[Prediction, ...]:
        """Returns the likeliest next words, likeliest first.

        The context is the last sentence that `text` begins, its last words if it is longer than the model's time
        steps. Special ids are never proposed; their probability is not redistributed.
        """
        words = self._vocabulary.encode(" ".join(self._tokeniser.open_words(text)))
        # One word more than is known: the model is asked for what stands there.
        context = np.append(words, NUM_SPECIAL)[-self._time :]
        num_rows = self._model.size.vocabulary_size
        batch = build_batches([context], batch_size=1, time=self._time, vocabulary_size=num_rows)
        probabilities, _ = inference.next_word_probabilities(self._model, self._weights, batch.tokens[0], batch.mask[0])
        of_next = probabilities.numpy()[len(context) - 1]
        if self._mixed_with is not None:
            ngram, share = self._mixed_with
            (counted,) = ngram.rows(np.append(BOS, words)[-1:])
            (own,) = inference.over_vocabulary(of_next[np.newaxis], self._vocabulary.size)
            of_next = np.float32(1 - share) * own + np.float32(share) * counted
        best = np.argsort(-of_next[NUM_SPECIAL:], kind="stable")[:count] + NUM_SPECIAL
        return tuple(Prediction(self._vocabulary.words[i], float(of_next[i])) for i in best)
