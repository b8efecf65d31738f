"""DIR/evaluation.json as types: what `fedkeys evaluate` finds, and what reports and cards show of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

import msgspec

from models.metrics import RecallSummary
from orchestrator.run.results import read_figures

EVALUATION_FILE = "evaluation.json"
BASELINES = ("unigram", "bigram", "trigram")  # with one discount, in the order of the words that they look at
MODIFIED = {3: "modified_trigram", 4: "four_gram", 5: "five_gram"}  # with three estimated discounts, by order
NGRAMS = {  # what people read, in the order of the words that they look at
    "unigram": "unigram",
    "bigram": "bigram",
    "trigram": "trigram",
    "modified_trigram": "modified trigram",
    "four_gram": "modified 4-gram",
    "five_gram": "modified 5-gram",
}


class Score(msgspec.Struct, frozen=True):
    """A predictor's figures on the test people. See models.metrics.RecallSummary; None where there are too few people.

    `top1_of_all_words` counts hits over all typed words, those outside the vocabulary too: it compares runs with
    different word lists.
    """

    top1: float
    top3: float
    loss_nats_per_token: float
    top1_interval: Optional[tuple[float, float]]
    top1_per_client_mean: Optional[float]
    top1_worst_tenth_mean: Optional[float]
    min_positions: int
    clients_averaged: int
    clients: int
    positions: int
    oov: int
    oov_rate: float
    top1_of_all_words: float


class ComparedScore(Score, frozen=True, kw_only=True):
    """The same, next to the trigram's and the best n-gram's on the same positions; no interval with one person."""

    top1_minus_trigram: float
    top1_minus_trigram_interval: Optional[tuple[float, float]]
    top1_minus_best: Optional[float] = None  # None in an evaluation of before: its best n-gram is the trigram
    top1_minus_best_interval: Optional[tuple[float, float]] = None

    @property
    def lead(self) -> float:
        """Top-1 recall minus the best n-gram's."""
        return self.top1_minus_trigram if self.top1_minus_best is None else self.top1_minus_best

    @property
    def lead_interval(self) -> Optional[tuple[float, float]]:
        """95 % over people; None with one person."""
        return self.top1_minus_trigram_interval if self.top1_minus_best is None else self.top1_minus_best_interval


class MixedScore(ComparedScore, frozen=True, kw_only=True):
    """The mixture's, with the model's share in it."""

    model_weight: float


class PrivateNgram(msgspec.Struct, frozen=True):
    """The n-gram of a private run's people that was released under noise, next to the model on the same positions.

    Attributes:
      epsilon, delta: what its release has cost these people, beside what the model has.
      ngram, mixed: its figures, and those of the model mixed with it.
      model_weight: the model's share in the mixture, picked on the dev people.
      model_minus_ngram: top-1 recall of the model minus that of the n-gram.
      model_minus_ngram_interval: 95 % over people; None with one person.
    """

    epsilon: float
    delta: float
    ngram: Score
    mixed: Score
    model_weight: float
    model_minus_ngram: float
    model_minus_ngram_interval: Optional[tuple[float, float]]


class CacheScore(msgspec.Struct, frozen=True):
    """The best n-gram, mixed with a bigram of each person's own earlier text, on the same later text as fine-tuning."""

    own_share: float  # of the person's own words in the mixture, picked on the dev people
    score: RecallSummary
    tuned_minus_cache: float  # top-1 recall of the fine-tuned model minus the cache's
    tuned_minus_cache_interval: Optional[tuple[float, float]]  # 95 % over people; None with one person


class Personalised(msgspec.Struct, frozen=True):
    """What fine-tuning for each test person gave, scored on the person's later text."""

    learning_rate: float
    epochs: int
    step: float  # how far from the shared model towards the fine-tuned one, 0..1
    setting: str  # the three above, in words
    history_share: float  # of each person's sentences, fine-tuned on
    clients: int
    positions: int
    before: RecallSummary
    after: RecallSummary
    top1_gain: float
    top1_gain_of_others: float  # without the person who gains most
    top1_gain_interval: Optional[tuple[float, float]]  # None with one person
    share_better: float
    share_worse: float
    per_person_gain: tuple[float, ...]
    cache: Optional[CacheScore] = None  # None in an evaluation of before


class Prediction(msgspec.Struct, frozen=True):
    """A suggestion."""

    word: str
    probability: float


class Example(msgspec.Struct, frozen=True):
    """A text and what the model proposes next, likeliest first."""

    text: str
    predictions: tuple[Prediction, ...]


class Evaluation(msgspec.Struct, frozen=True):
    """DIR/evaluation.json.

    `personalised` is absent unless it was asked for, and None where nobody's text is long enough. `best_ngram` is the
    one of MODIFIED that has the highest top-1 recall on the dev people; `mixed` is the mixture with it. An evaluation
    of before has none of MODIFIED, and its mixture is with the trigram.
    """

    model: ComparedScore
    unigram: Score
    bigram: Score
    trigram: Score
    mixed: MixedScore
    positions: int
    clients: int
    oov_rate: float
    round_num: int
    per_person_top1: Mapping[str, tuple[float, ...]]  # by predictor, of those with enough words to tell
    examples: tuple[Example, ...]
    personalised: Union[Personalised, None, msgspec.UnsetType] = msgspec.UNSET
    modified_trigram: Optional[Score] = None
    four_gram: Optional[Score] = None
    five_gram: Optional[Score] = None
    best_ngram: str = "trigram"
    private_ngram: Optional[PrivateNgram] = None  # None if the run released none

    @property
    def ngrams(self) -> dict[str, Score]:
        """The scores of the n-gram models that were evaluated, in the order of NGRAMS."""
        found = {name: getattr(self, name) for name in NGRAMS}
        return {name: score for name, score in found.items() if score is not None}

    @property
    def scores(self) -> dict[str, Score]:
        """Each predictor's: the model, then those of text under noise, the mixture, the n-grams of most words first."""
        return {**self.private_scores, "mixed": self.mixed, **dict(reversed(self.ngrams.items()))}

    @property
    def private_scores(self) -> dict[str, Score]:
        """The scores of the model, and of the run's private n-gram and the mixture with it, if there is one."""
        private = self.private_ngram
        beside = {} if private is None else {"private_ngram": private.ngram, "private_mixed": private.mixed}
        return {"model": self.model, **beside}

    @property
    def labels(self) -> dict[str, str]:
        """What people read, by the names of `scores`."""
        pooled = {name: f"{NGRAMS[name]}, pooled text" for name in self.ngrams}
        private = {
            "private_ngram": "private n-gram, a noisy sum",
            "private_mixed": "mixed with the private n-gram",
        }
        return {"model": "federated model", **private, "mixed": f"mixed with the {self.best_label}", **pooled}

    @property
    def best(self) -> Score:
        """The score of the best n-gram model."""
        return self.ngrams[self.best_ngram]

    @property
    def best_label(self) -> str:
        """What people read of the best n-gram model."""
        return NGRAMS[self.best_ngram]

    @property
    def fine_tuning(self) -> Optional[Personalised]:
        """What fine-tuning gave; None if nobody asked for it, or nobody's text is long enough."""
        return self.personalised if isinstance(self.personalised, Personalised) else None


def read_evaluation(path: Path) -> Optional[Evaluation]:
    """Returns the evaluation of the run in folder `path`, None if there was none yet.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / EVALUATION_FILE, Evaluation, "evaluate")
