"""A run's model beside n-gram models that saw all the training text, on the same positions of the same people."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Callable, Optional, Union

import msgspec
import numpy as np
import tensorflow as tf

from models import inference
from models.batches import build_batches
from models.client_data import Sentences
from models.corpus import ClientId
from models.errors import CorpusError
from models.metrics import (
    ClientSums,
    PositionScores,
    difference_interval,
    summarise,
    top1_per_client,
)
from models.model import load_model
from models.vocabulary import NUM_SPECIAL, UNK
from models.weights import ModelSize, Weights
from orchestrator.evaluation.personal import personal_figures
from orchestrator.evaluation.pooled_ngrams import Mixture, PooledNgrams
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
    Score,
)
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.run.results import write_figures
from orchestrator.run.saved import Run
from tff_pipelines.evaluation import build_evaluation
from tff_pipelines.runtime import Runtime, borrow

_MIXING_WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))
_EXAMPLES = ("have a good", "nice to meet", "what do you", "thank you so", "do you have any", "i want to")


def evaluate_run(
    run: Run, personalise: bool, note: Callable[[str], None], runtime: Optional[Runtime] = None
) -> Evaluation:
    """Returns the figures of `fedkeys evaluate`, and keeps them in DIR/evaluation.json.

    Args:
      run: with a checkpoint.
      personalise: also fine-tune for each test person.
      note: is told what begins.
      runtime: to evaluate in; None starts the run's workers for it.

    Raises:
      RunFolderError: no checkpoint, or the text is not the one the run was trained on.
      CorpusError: no test person wrote a word of the vocabulary.
    """
    config, state = run.config, run.newest
    note("reading the text")
    corpus, data = run.text
    if runtime is None:
        note("starting the TFF workers")
    with borrow(runtime, config.runtime.workers) as runtime:
        note("federated evaluation on the test people")
        size = ModelSize.of(state.model, config.model.kind)
        evaluation = build_evaluation(size, config.data.max_words, data.vocabulary.size)
        batches = evaluation_batches(data.test, config.data.max_words)
        sums = {"model": federated_sums(runtime, evaluation, state.model, batches, config.runtime.clients_per_call)}
        personalised = (
            personal_figures(runtime, config, corpus, data, state.model, note) if personalise else msgspec.UNSET
        )
    if not sums["model"].positions.sum():
        raise CorpusError("no test person wrote a word of the vocabulary, so nothing can be scored: give more text")
    note("counting the n-gram baselines")
    ngrams = PooledNgrams(data.pooled, data.vocabulary.size, config.data.max_words)
    note("choosing the best n-gram, and the model's weight in the mixture with it, on the dev people")
    order = ngrams.best_order(data.dev)
    scorer = _Scorer(size, state.model, ngrams, order, config.data.max_words)
    mixing_weight = scorer.best_mixing_weight(data.dev)
    note("scoring the baselines and the mixture on the test people")
    sums.update(scorer.score(data.test, mixing_weight))
    predictor = Predictor.of_run(run, state.model)
    examples = tuple(Example(text, predictor.next_words(text)) for text in _EXAMPLES)
    figures = _evaluation(state.round_num, sums, MODIFIED[order], mixing_weight, examples, personalised)
    write_figures(run.path / EVALUATION_FILE, figures, private=True)  # it has each test person's recall
    return figures


def _evaluation(
    round_num: int,
    sums: Mapping[str, ClientSums],
    best_ngram: str,
    mixing_weight: float,
    examples: tuple[Example, ...],
    personalised: Union[Personalised, None, msgspec.UnsetType],
) -> Evaluation:
    scores = {name: _score(own) for name, own in sums.items()}
    model = scores["model"]
    return Evaluation(
        model=ComparedScore(**_compared(scores, sums, "model", best_ngram)),
        **{name: scores[name] for name in NGRAMS},
        best_ngram=best_ngram,
        mixed=MixedScore(**_compared(scores, sums, "mixed", best_ngram), model_weight=mixing_weight),
        positions=model.positions,
        clients=model.clients,
        oov_rate=model.oov_rate,
        round_num=round_num,
        per_person_top1={name: tuple(top1_per_client(own).tolist()) for name, own in sums.items()},
        examples=examples,
        personalised=personalised,
    )


def _score(sums: ClientSums) -> Score:
    summary = summarise(sums)
    return Score(**asdict(summary), top1_of_all_words=summary.top1 * (1 - summary.oov_rate))


def _compared(scores: Mapping[str, Score], sums: Mapping[str, ClientSums], name: str, best: str) -> dict[str, Any]:
    """Returns the fields of a ComparedScore."""
    fields = msgspec.structs.asdict(scores[name])
    for label, other in (("trigram", "trigram"), ("best", best)):
        fields[f"top1_minus_{label}"] = scores[name].top1 - scores[other].top1
        # One person has no spread: no interval.
        interval = difference_interval(sums[name], sums[other]) if scores[name].clients > 1 else None
        fields[f"top1_minus_{label}_interval"] = interval
    return fields


@dataclass(frozen=True)
class _Chunk:
    """Some positions of one person."""

    person: int
    targets: np.ndarray  # int [n], words of the vocabulary
    contexts: np.ndarray  # int32 [n, 4], the ids before each
    probabilities: np.ndarray  # float32 [n, vocabulary_size], the model's


class _Scorer:
    """Scores model, baselines and the mixture with the n-gram of an order on the same positions."""

    def __init__(self, size: ModelSize, weights: Weights, ngrams: PooledNgrams, order: int, time_steps: int):
        self._num_rows, self._weights = size.vocabulary_size, tuple(map(tf.constant, weights))
        self._ngrams, self._order, self._time = ngrams, order, time_steps
        self._probabilities = tf.function(
            functools.partial(inference.next_word_probabilities, load_model(size)),
            reduce_retracing=True,
        )

    def _chunks(self, people: Mapping[ClientId, Sentences]) -> Iterator[_Chunk]:
        num_rows, size = self._num_rows, self._ngrams.vocabulary_size
        for person, sentences in enumerate(people.values()):
            batches = build_batches(sentences, batch_size=128, time=self._time)
            for tokens, targets, mask in zip(*batches):
                known = np.where(tokens >= num_rows, UNK, tokens)
                probabilities, where = self._probabilities(self._weights, tf.constant(known), tf.constant(mask))
                where = where.numpy()
                target = targets[where[:, 0], where[:, 1]]
                scored = target >= NUM_SPECIAL
                if scored.any():
                    at = where[scored]
                    yield _Chunk(
                        person,
                        target[scored],
                        self._ngrams.contexts(tokens)[at[:, 0], at[:, 1]],
                        inference.over_vocabulary(probabilities.numpy()[scored], size),
                    )

    def best_mixing_weight(self, people: Mapping[ClientId, Sentences]) -> float:
        """Returns the model's share in the mixture that gives the highest pooled top-1 recall on these people."""
        hits = np.zeros(len(_MIXING_WEIGHTS), np.int64)
        for chunk in self._chunks(people):
            counted = self._ngrams.rows(chunk.contexts, self._order)
            for own, other, target in zip(chunk.probabilities, counted, chunk.targets):
                hits += _proposes_first(own, other, target)
        return _MIXING_WEIGHTS[int(hits.argmax())]

    def score(self, people: Mapping[ClientId, Sentences], mixing_weight: float) -> dict[str, ClientSums]:
        """Returns the sums per person of the baselines and of the mixture."""
        parts: dict[str, list[PositionScores]] = {}
        for chunk in self._chunks(people):
            person = np.full(len(chunk.targets), chunk.person)
            mixtures = {"mixed": Mixture(chunk.probabilities, mixing_weight, self._order)}
            for name, scores in self._ngrams.score(chunk.contexts, chunk.targets, person, mixtures):
                parts.setdefault(name, []).append(scores)
        oov = np.array([sum(int(np.sum(s[: self._time] == UNK)) for s in own) for own in people.values()])
        return {name: _joined(scores).client_sums(len(people), oov) for name, scores in parts.items()}


def _proposes_first(own: np.ndarray, counted: np.ndarray, target: int) -> np.ndarray:
    """Returns, for each mixing weight, whether the mixture of two distributions proposes the target first.

    Args:
      own: float32 [vocabulary_size], which the weight multiplies.
      counted: float32 [vocabulary_size], which one minus the weight multiplies.
      target: the id of a word.
    """
    shares = np.array(_MIXING_WEIGHTS, np.float32), np.array([1 - weight for weight in _MIXING_WEIGHTS], np.float32)
    # Where the first word of either is ahead of the target no other need be looked at, and that is most often so.
    rivals = [int(row[NUM_SPECIAL:].argmax()) + NUM_SPECIAL for row in (own, counted)]
    at_rivals, at_target = (
        np.outer(shares[0], own[ids]) + np.outer(shares[1], counted[ids]) for ids in (rivals, [target])
    )
    is_first = ~(at_rivals > at_target).any(axis=1)
    for i in np.flatnonzero(is_first):
        mixed = shares[0][i] * own + shares[1][i] * counted
        is_first[i] = mixed[NUM_SPECIAL:].argmax() + NUM_SPECIAL == target
    return is_first


def _joined(parts: Sequence[PositionScores]) -> PositionScores:
    return PositionScores(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("hit1", "hit3", "nll_nats", "person"))
    )
