"""Scores what is mixed: a run's model with n-gram models, on the positions at which the baselines are scored."""

from __future__ import annotations

import collections
import concurrent.futures as futures
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, TypeVar

import numpy as np
import tensorflow as tf

from models import inference
from models.batches import build_batches
from models.client_data import Sentences
from models.corpus import ClientId
from models.interpolated_rows import InterpolatedRows
from models.metrics import ClientSums, PositionScores, score_ranks
from models.model import load_model
from models.vocabulary import NUM_SPECIAL, UNK
from models.weights import ModelSize, Weights
from orchestrator.evaluation.baseline_scores import Counted, Scores
from orchestrator.evaluation.mixture import MIXING_WEIGHTS, Mixture
from orchestrator.evaluation.ngram_release import ReleasedNgram

_Taken = TypeVar("_Taken")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class _Chunk:
    """Some positions of one person."""

    person: int
    targets: np.ndarray  # int [n], words of the vocabulary
    contexts: np.ndarray  # int32 [n, 4], the ids before each
    probabilities: np.ndarray  # float32 [n, V], the model's
    places: np.ndarray  # int [n], of these positions among all that are scored of their batch, row by row


class Scorer:
    """Scores mixtures of a model with the best n-gram and with a private one; joins the baselines' scores to theirs.

    Args:
      size, weights: of the model.
      counted: the baselines, and the order to mix with.
      private: the run's own n-gram.
    """

    def __init__(
        self,
        size: ModelSize,
        weights: Weights,
        counted: Counted,
        private: Optional[ReleasedNgram] = None,
    ):
        self._num_rows, self._weights = size.vocabulary_size, tuple(map(tf.constant, weights))
        self._ngrams, self._order = counted
        self._time, self._private = self._ngrams.time_steps, private
        self._probabilities = tf.function(
            functools.partial(inference.next_word_probabilities, load_model(size)),
            autograph=False,
            reduce_retracing=True,
        )

    def _chunks(self, people: Mapping[ClientId, Sentences]) -> Iterator[_Chunk]:
        num_rows = self._num_rows
        for person, sentences in enumerate(people.values()):
            batches = build_batches(sentences, batch_size=128, time=self._time)
            for tokens, targets, mask in zip(*batches):
                known = np.where(tokens >= num_rows, UNK, tokens)
                answer = self._probabilities(self._weights, tf.constant(known), tf.constant(mask))
                probabilities, where = (part.numpy() for part in answer)
                target = targets[where[:, 0], where[:, 1]]
                scored = target >= NUM_SPECIAL
                if scored.any():
                    at = tuple(where[scored].T)
                    places = np.cumsum((mask > 0) & (targets >= NUM_SPECIAL)).reshape(mask.shape)[at] - 1
                    contexts = self._ngrams.contexts(tokens)[at]
                    yield _Chunk(person, target[scored], contexts, probabilities[scored], places)

    def _counted(self, chunk: _Chunk) -> dict[str, InterpolatedRows]:
        """Returns what each mixture's n-gram model says."""
        counted = {"mixed": self._ngrams.after(chunk.contexts).rows(self._order)}
        if self._private is not None:
            counted["private_mixed"] = self._private.model.interpolated(chunk.contexts[:, -1])
        return counted

    def best_mixing_weights(self, people: Mapping[ClientId, Sentences]) -> dict[str, float]:
        """Returns, for each mixture, the model's share that gives the highest pooled top-1 recall on these people."""
        hits: dict[str, np.ndarray] = {}
        for of_chunk in _on_all_cores(self._hits, self._chunks(people)):
            for name, found in of_chunk.items():
                hits[name] = hits[name] + found if name in hits else found
        return {name: MIXING_WEIGHTS[int(own.argmax())] for name, own in hits.items()}

    def _hits(self, chunk: _Chunk) -> dict[str, np.ndarray]:
        counted = self._counted(chunk)
        return {name: Mixture(chunk.probabilities, rows).hits(chunk.targets) for name, rows in counted.items()}

    def score(
        self, people: Mapping[ClientId, Sentences], weights: Mapping[str, float], baselines: Sequence[Scores]
    ) -> dict[str, ClientSums]:
        """Returns the sums per person of the baselines and of the mixtures, in which the model has these weights.

        Args:
          people: whom to score.
          weights: as best_mixing_weights.
          baselines: of these people, as baseline_scores.Job.score.
        """
        parts: dict[str, list[PositionScores]] = {}
        chunks = zip(self._chunks(people), baselines)
        for of_chunk in _on_all_cores(functools.partial(self._scores, weights=weights), chunks):
            for name, scores in of_chunk.items():
                parts.setdefault(name, []).append(scores)
        oov = np.array([sum(int(np.sum(s[: self._time] == UNK)) for s in own) for own in people.values()])
        return {name: PositionScores.join(scores).client_sums(len(people), oov) for name, scores in parts.items()}

    def _scores(self, work: tuple[_Chunk, Scores], weights: Mapping[str, float]) -> dict[str, PositionScores]:
        chunk, baselines = work
        person = np.full(len(chunk.targets), chunk.person)
        counted = self._counted(chunk)
        found = {name: _reordered(scores, chunk.places, person) for name, scores in baselines.items()}
        if "private_mixed" in counted:
            found["private_ngram"] = score_ranks(*counted["private_mixed"].places(chunk.targets), person)
        for name, rows in counted.items():
            weight = np.float32(weights[name])
            places = Mixture(chunk.probabilities, rows).places(weight, 1 - weight, chunk.targets)
            found[name] = score_ranks(*places, person)
        return found


def _reordered(scores: PositionScores, places: np.ndarray, person: np.ndarray) -> PositionScores:
    """Returns the scores in the model's order of positions: sums of other orders differ in their last digits."""
    return PositionScores(scores.hit1[places], scores.hit3[places], scores.nll_nats[places], person)


def _on_all_cores(work: Callable[[_Taken], _Found], chunks: Iterable[_Taken]) -> Iterator[_Found]:
    """Yields work(chunk) of each chunk, in order: NumPy's large operations, as TensorFlow's, let other threads run.

    Few chunks are in memory at a time: one a core, and the next.
    """
    cores = os.cpu_count() or 1
    running: collections.deque[futures.Future[_Found]] = collections.deque()
    with futures.ThreadPoolExecutor(cores) as pool:
        for chunk in chunks:
            running.append(pool.submit(work, chunk))
            if len(running) > cores:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
