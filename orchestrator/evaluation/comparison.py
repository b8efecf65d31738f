"""A run's model beside n-gram models that saw all the training text, on the same positions of the same people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Callable, Optional, Union

import msgspec

from models.errors import CorpusError
from models.metrics import ClientSums, difference_interval, summarise, top1_per_client
from models.weights import ModelSize
from orchestrator.evaluation.baseline_scores import Baselines, baselines_beside
from orchestrator.evaluation.ngram_release import ReleasedNgram, read_ngram
from orchestrator.evaluation.own_words import Cache
from orchestrator.evaluation.personal import personal_figures
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
from orchestrator.evaluation.scorer import Scorer
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.run.results import write_figures
from orchestrator.run.saved import Run
from tff_pipelines.evaluation import build_evaluation
from tff_pipelines.runtime import Runtime, borrow
from tff_pipelines.worker_process import Place

_EXAMPLES = ("have a good", "nice to meet", "what do you", "thank you so", "do you have any", "i want to")


def evaluate_run(
    run: Run,
    personalise: bool,
    note: Callable[[str], None],
    runtime: Union[Runtime, Sequence[Place], None] = None,
    baselines: Optional[Baselines] = None,
) -> Evaluation:
    """Returns the figures of `fedkeys evaluate`, and keeps them in DIR/evaluation.json.

    Args:
      run: with a checkpoint.
      personalise: also fine-tune for each test person.
      note: is told what begins.
      runtime: to evaluate in, or workers that start already; None starts the run's workers for it.
      baselines: of the run's text, if they are being counted already; None begins to.

    Raises:
      RunFolderError: no checkpoint, or the text is not the one the run was trained on.
      CorpusError: no test person wrote a word of the vocabulary.
    """
    if baselines is None:
        note("reading the text")
        with baselines_beside(run.text.data, run.config.data.max_words) as begun:
            return evaluate_run(run, personalise, note, runtime, begun)
    config, state = run.config, run.newest
    corpus, data = run.text
    if not isinstance(runtime, Runtime):
        note("starting the TFF workers")
    with borrow(runtime, config.runtime.workers) as runtime:
        note("federated evaluation on the test people; beside it, counting the n-gram baselines")
        size = ModelSize.of(state.model, config.model.kind)
        evaluation = build_evaluation(size, config.data.max_words, data.vocabulary.size)
        batches = evaluation_batches(data.test, config.data.max_words)
        sums = {"model": federated_sums(runtime, evaluation, state.model, batches, config.runtime.clients_per_call)}
        counted = baselines.counted
        personalised = (
            personal_figures(runtime, config, corpus, data, state.model, Cache(*counted), note)
            if personalise
            else msgspec.UNSET
        )
    if not sums["model"].positions.sum():
        raise CorpusError("no test person wrote a word of the vocabulary, so nothing can be scored: give more text")
    note("choosing the model's weight in the mixtures on the dev people")
    private = read_ngram(run)
    scorer = Scorer(size, state.model, counted, private)
    weights = scorer.best_mixing_weights(data.dev)
    note("scoring the mixture on the test people")
    sums.update(scorer.score(data.test, weights, baselines.scores))
    predictor = Predictor.of_run(run, state.model)
    examples = tuple(Example(text, predictor.next_words(text)) for text in _EXAMPLES)
    figures = _evaluation(state.round_num, sums, MODIFIED[counted.order], weights, private, examples, personalised)
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
