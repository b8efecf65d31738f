"""The next words after a text, as the keyboard's three suggestions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models import inference
from models.batches import build_batches
from models.model import load_model
from models.tokeniser import Tokeniser
from models.vocabulary import NUM_SPECIAL, Vocabulary
from models.weights import ModelSize, Weights
from orchestrator.evaluation.results import Prediction
from orchestrator.run.saved import Run


class Predictor:
    """Predicts with a model.

    Args:
      size: of the model.
      weights: its weights.
      vocabulary: at least the words that it has rows for.
      max_words: the model's time steps; a longer context loses its first words.
    """

    def __init__(self, size: ModelSize, weights: Weights, vocabulary: Vocabulary, max_words: int, tokeniser: Tokeniser):
        self._vocabulary, self._time, self._tokeniser = vocabulary, max_words, tokeniser
        self._model, self._weights = load_model(size), tuple(map(tf.constant, weights))

    @staticmethod
    def of_run(run: Run, weights: Weights) -> Predictor:
        """Returns what predicts with weights of a run."""
        size = run.config.model.size_with(run.vocabulary.size)
        return Predictor(size, weights, run.vocabulary, run.config.data.max_words, run.tokeniser)

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
        best = np.argsort(-of_next[NUM_SPECIAL:], kind="stable")[:count] + NUM_SPECIAL
        return tuple(Prediction(self._vocabulary.words[i], float(of_next[i])) for i in best)
