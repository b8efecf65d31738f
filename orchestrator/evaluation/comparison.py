"""A run's model beside n-gram models that saw all the training text, on the same positions of the same people."""

from __future__ import annotations

import collections
import concurrent.futures as futures
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Callable, Optional, TypeVar, Union

import msgspec
import numpy as np
import tensorflow as tf

from models import inference
from models.batches import build_batches
from models.client_data import Sentences
from models.corpus import ClientId
from models.errors import CorpusError
from models.interpolated_rows import InterpolatedRows
from models.metrics import (
    ClientSums,
    PositionScores,
    difference_interval,
    score_ranks,
    summarise,
    top1_per_client,
)
from models.model import load_model
from models.modified_kneser_ney import Continuations
from models.vocabulary import NUM_SPECIAL, UNK
from models.weights import ModelSize, Weights
from orchestrator.evaluation.mixture import MIXING_WEIGHTS, Mixture
from orchestrator.evaluation.ngram_release import ReleasedNgram, read_ngram
from orchestrator.evaluation.own_words import Cache
from orchestrator.evaluation.personal import personal_figures
from orchestrator.evaluation.pooled_ngrams import PooledNgrams
from orchestrator.evaluation.prediction import Predictor
from orchestrator.evaluation.results import (
    EVALUATION_FILE,
    MODIFIED,
    NGRAMS,
    ComparedScore,
    Evaluation,
    Example,
    MixedScore,
    Personalised,
    PrivateNgram,
    Score,
)
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.run.results import write_figures
from orchestrator.run.saved import Run
from tff_pipelines.evaluation import build_evaluation
from tff_pipelines.runtime import Runtime, borrow
from tff_pipelines.worker_process import Place

_Found = TypeVar("_Found")
_EXAMPLES = ("have a good", "nice to meet", "what do you", "thank you so", "do you have any", "i want to")


def evaluate_run(
    run: Run,
    personalise: bool,
    note: Callable[[str], None],
    runtime: Union[Runtime, Sequence[Place], None] = None,
) -> Evaluation:
    """Returns the figures of `fedkeys evaluate`, and keeps them in DIR/evaluation.json.

    Args:
      run: with a checkpoint.
      personalise: also fine-tune for each test person.
      note: is told what begins.
      runtime: to evaluate in, or workers that start already; None starts the run's workers for it.

    Raises:
      RunFolderError: no checkpoint, or the text is not the one the run was trained on.
      CorpusError: no test person wrote a word of the vocabulary.
    """
    config, state = run.config, run.newest
    note("reading the text")
    corpus, data = run.text
    if not isinstance(runtime, Runtime):
        note("starting the TFF workers")
    with borrow(runtime, config.runtime.workers) as runtime, futures.ThreadPoolExecutor(1) as beside:
        note("federated evaluation on the test people; beside it, counting the n-gram baselines")
        size = ModelSize.of(state.model, config.model.kind)
        evaluation = build_evaluation(size, config.data.max_words, data.vocabulary.size)
        batches = evaluation_batches(data.test, config.data.max_words)
        scored = beside.submit(
            federated_sums, runtime, evaluation, state.model, batches, config.runtime.clients_per_call
        )
        ngrams = PooledNgrams(data.pooled, data.vocabulary.size, config.data.max_words)
        order = ngrams.best_order(data.dev)
        sums = {"model": scored.result()}
        personalised = (
            personal_figures(runtime, config, corpus, data, state.model, Cache(ngrams, order), note)
            if personalise
            else msgspec.UNSET
        )
    if not sums["model"].positions.sum():
        raise CorpusError("no test person wrote a word of the vocabulary, so nothing can be scored: give more text")
    note("choosing the model's weight in the mixtures on the dev people")
    private = read_ngram(run)
    scorer = _Scorer(size, state.model, ngrams, order, config.data.max_words, private)
    weights = scorer.best_mixing_weights(data.dev)
    note("scoring the baselines and the mixture on the test people")
    sums.update(scorer.score(data.test, weights))
    predictor = Predictor.of_run(run, state.model)
    examples = tuple(Example(text, predictor.next_words(text)) for text in _EXAMPLES)
    figures = _evaluation(state.round_num, sums, MODIFIED[order], weights, private, examples, personalised)
    write_figures(run.path / EVALUATION_FILE, figures, private=True)  # it has each test person's recall
    return figures


def _evaluation(
    round_num: int,
    sums: Mapping[str, ClientSums],
    best_ngram: str,
    weights: Mapping[str, float],
    private: Optional[ReleasedNgram],
    examples: tuple[Example, ...],
    personalised: Union[Personalised, None, msgspec.UnsetType],
) -> Evaluation:
    scores = {name: _score(own) for name, own in sums.items()}
    model = scores["model"]
    return Evaluation(
        model=ComparedScore(**_compared(scores, sums, "model", best_ngram)),
        **{name: scores[name] for name in NGRAMS},
        best_ngram=best_ngram,
        mixed=MixedScore(**_compared(scores, sums, "mixed", best_ngram), model_weight=weights["mixed"]),
        positions=model.positions,
        clients=model.clients,
        oov_rate=model.oov_rate,
        round_num=round_num,
        per_person_top1={name: tuple(top1_per_client(own).tolist()) for name, own in sums.items()},
        examples=examples,
        personalised=personalised,
        private_ngram=None if private is None else _private_ngram(private, scores, sums, weights["private_mixed"]),
    )


def _private_ngram(
    private: ReleasedNgram, scores: Mapping[str, Score], sums: Mapping[str, ClientSums], weight: float
) -> PrivateNgram:
    difference, interval = _difference(scores, sums, "model", "private_ngram")
    return PrivateNgram(
        epsilon=private.release.epsilon,
        delta=private.release.delta,
        ngram=scores["private_ngram"],
        mixed=scores["private_mixed"],
        model_weight=weight,
        model_minus_ngram=difference,
        model_minus_ngram_interval=interval,
    )


def _score(sums: ClientSums) -> Score:
    summary = summarise(sums)
    return Score(**asdict(summary), top1_of_all_words=summary.top1 * (1 - summary.oov_rate))


def _compared(scores: Mapping[str, Score], sums: Mapping[str, ClientSums], name: str, best: str) -> dict[str, Any]:
    """Returns the fields of a ComparedScore."""
    fields = msgspec.structs.asdict(scores[name])
    for label, other in (("trigram", "trigram"), ("best", best)):
        difference, interval = _difference(scores, sums, name, other)
        fields.update({f"top1_minus_{label}": difference, f"top1_minus_{label}_interval": interval})
    return fields


def _difference(
    scores: Mapping[str, Score], sums: Mapping[str, ClientSums], name: str, other: str
) -> tuple[float, Optional[tuple[float, float]]]:
    """Returns (one predictor's top-1 recall minus another's, its interval over people; None with one person)."""
    interval = difference_interval(sums[name], sums[other]) if scores[name].clients > 1 else None
    return scores[name].top1 - scores[other].top1, interval


@dataclass(frozen=True)
class _Chunk:
    """Some positions of one person."""

    person: int
    targets: np.ndarray  # int [n], words of the vocabulary
    contexts: np.ndarray  # int32 [n, 4], the ids before each
    probabilities: np.ndarray  # float32 [n, V], the model's


class _Scorer:
    """Scores model, baselines, mixtures with the n-gram of an order and with a private one, on the same positions."""

    def __init__(
        self,
        size: ModelSize,
        weights: Weights,
        ngrams: PooledNgrams,
        order: int,
        time_steps: int,
        private: Optional[ReleasedNgram] = None,
    ):
        self._num_rows, self._weights = size.vocabulary_size, tuple(map(tf.constant, weights))
        self._ngrams, self._order, self._time, self._private = ngrams, order, time_steps, private
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
                    at = where[scored]
                    yield _Chunk(
                        person,
                        target[scored],
                        self._ngrams.contexts(tokens)[at[:, 0], at[:, 1]],
                        probabilities[scored],
                    )

    def _counted(self, chunk: _Chunk, after: Continuations) -> dict[str, InterpolatedRows]:
        """Returns what each mixture's n-gram model says."""
        counted = {"mixed": after.rows(self._order)}
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
        counted = self._counted(chunk, self._ngrams.after(chunk.contexts))
        return {name: Mixture(chunk.probabilities, rows).hits(chunk.targets) for name, rows in counted.items()}

    def score(self, people: Mapping[ClientId, Sentences], weights: Mapping[str, float]) -> dict[str, ClientSums]:
        """Returns the sums per person of the baselines and of the mixtures, in which the model has these weights."""
        parts: dict[str, list[PositionScores]] = {}
        for of_chunk in _on_all_cores(functools.partial(self._scores, weights=weights), self._chunks(people)):
            for name, scores in of_chunk.items():
                parts.setdefault(name, []).append(scores)
        oov = np.array([sum(int(np.sum(s[: self._time] == UNK)) for s in own) for own in people.values()])
        return {name: PositionScores.join(scores).client_sums(len(people), oov) for name, scores in parts.items()}

    def _scores(self, chunk: _Chunk, weights: Mapping[str, float]) -> dict[str, PositionScores]:
        person, after = np.full(len(chunk.targets), chunk.person), self._ngrams.after(chunk.contexts)
        counted = self._counted(chunk, after)
        found = dict(self._ngrams.score(chunk.contexts, after, chunk.targets, person))
        if "private_mixed" in counted:
            found["private_ngram"] = score_ranks(*counted["private_mixed"].places(chunk.targets), person)
        for name, rows in counted.items():
            weight = np.float32(weights[name])
            places = Mixture(chunk.probabilities, rows).places(weight, 1 - weight, chunk.targets)
            found[name] = score_ranks(*places, person)
        return found


def _on_all_cores(work: Callable[[_Chunk], _Found], chunks: Iterable[_Chunk]) -> Iterator[_Found]:
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
