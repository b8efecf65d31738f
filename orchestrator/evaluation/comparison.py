"""A run's model beside n-gram models that saw all the training text, on the same positions of the same people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Callable, Optional

import msgspec
import numpy as np
import tensorflow as tf

from models import cifg_lstm
from models.batches import build_batches
from models.client_data import Sentences
from models.corpus import ClientId
from models.errors import CorpusError
from models.files import write_atomically
from models.metrics import (
    ClientSums,
    PositionScores,
    difference_interval,
    score_positions,
    summarise,
    top1_per_client,
)
from models.ngram import KneserNey, build_kneser_ney, previous_two
from models.vocabulary import NUM_SPECIAL, UNK
from orchestrator.errors import RunFolderError
from orchestrator.evaluation.personal import personal_figures
from orchestrator.evaluation.prediction import Predictor
from orchestrator.rounds.evaluation import evaluation_batches, federated_sums
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder
from tff_pipelines.evaluation import build_evaluation
from tff_pipelines.runtime import Runtime

BARS = ("unigram", "bigram", "trigram")
_MIXING_WEIGHTS = tuple(round(0.1 * step, 1) for step in range(1, 10))
_EXAMPLES = ("see you", "how are", "i don't", "what do you", "thank you so", "i want to")


def evaluate_run(
    folder: RunFolder, workers: Optional[str], personalise: bool, note: Callable[[str], None]
) -> dict[str, Any]:
    """The figures of `fedkeys evaluate` (docs/configuration.md lists them); also written to DIR/evaluation.json.

    Args:
      folder: a run with a checkpoint.
      workers: as runtime.workers; None takes the run's.
      personalise: also fine-tune for each test person.
      note: is told what begins.

    Raises:
      RunFolderError: no checkpoint, or the text is not the one the run was trained on.
    """
    config, identity = folder.config(), folder.identity()
    state = folder.load_checkpoint()
    folder.check_digest(state)
    note("reading the text")
    corpus, data = load_client_data(config)
    if (corpus.digest, data.vocabulary.digest) != (identity.corpus_sha256, identity.vocabulary_sha256):
        raise RunFolderError(
            f"{folder.path} was trained on another text than {config.data.source} holds now: restore it"
        )
    note("starting the TFF workers")
    with Runtime(workers or config.runtime.workers) as runtime:
        note("federated evaluation on the test people")
        size = cifg_lstm.ModelSize.of(state.model)
        evaluation = build_evaluation(size, config.data.max_words, data.vocabulary.size)
        batches = evaluation_batches(data.test, config.data.max_words)
        sums = {"model": federated_sums(runtime, evaluation, state.model, batches, config)}
        personalised = personal_figures(runtime, config, corpus, data, state.model, note) if personalise else None
    if not sums["model"].positions.sum():
        raise CorpusError("no test person wrote a word of the vocabulary, so nothing can be scored: give more text")
    note("counting the n-gram bars")
    trigram = build_kneser_ney(data.bars, data.vocabulary.size)
    scorer = _Scorer(state.model, trigram, config.data.max_words)
    note("choosing the mixing weight on the dev people")
    mixing_weight = scorer.best_mixing_weight(data.dev)
    note("scoring the bars and the mixture on the test people")
    sums.update(scorer.score(data.test, mixing_weight))
    figures = _figures(sums, mixing_weight)
    if personalise:
        figures["personalised"] = personalised
    figures["round_num"] = state.round_num
    figures["per_person_top1"] = {name: top1_per_client(s).tolist() for name, s in sums.items()}
    predictor = Predictor(folder, state.model)
    figures["examples"] = [
        {"text": text, "predictions": [{"word": w, "probability": p} for w, p in predictor.next_words(text)]}
        for text in _EXAMPLES
    ]
    write_atomically(folder.path / "evaluation.json", msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    return figures


def _figures(sums: Mapping[str, ClientSums], mixing_weight: float) -> dict[str, Any]:
    summaries = {name: summarise(s) for name, s in sums.items()}
    figures: dict[str, Any] = {name: asdict(summary) for name, summary in summaries.items()}
    for summary in figures.values():
        # Hits over all typed words, known or not: what runs with different word lists are compared by.
        summary["top1_of_all_words"] = summary["top1"] * (1 - summary["oov_rate"])
    figures["mixed"]["model_weight"] = mixing_weight
    for name in ("model", "mixed"):
        figures[name]["top1_minus_trigram"] = summaries[name].top1 - summaries["trigram"].top1
        # One person has no spread: no interval.
        figures[name]["top1_minus_trigram_interval"] = (
            difference_interval(sums[name], sums["trigram"]) if summaries[name].clients > 1 else None
        )
    for name in ("positions", "clients", "oov_rate"):
        figures[name] = getattr(summaries["model"], name)
    return figures


@dataclass(frozen=True)
class _Chunk:
    """Some positions of one person."""

    person: int
    targets: np.ndarray  # int [n], words of the vocabulary
    contexts: np.ndarray  # int32 [n, 2], the two ids before each
    probabilities: np.ndarray  # float32 [n, vocabulary_size], the model's


class _Scorer:
    """Scores model, bars and mixture on the same positions."""

    def __init__(self, weights: cifg_lstm.Weights, trigram: KneserNey, time_steps: int):
        self._weights = tuple(map(tf.constant, weights))
        self._trigram, self._time = trigram, time_steps
        self._probabilities = tf.function(
            cifg_lstm.next_word_probabilities,
            reduce_retracing=True,
        )

    def _chunks(self, people: Mapping[ClientId, Sentences]) -> Iterator[_Chunk]:
        num_rows, size = int(self._weights[0].shape[0]), self._trigram.vocabulary_size
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
                        previous_two(tokens)[at[:, 0], at[:, 1]],
                        cifg_lstm.over_vocabulary(probabilities.numpy()[scored], size),
                    )

    def best_mixing_weight(self, people: Mapping[ClientId, Sentences]) -> float:
        """The model's share in the mixture that gives the highest pooled top-1 recall on these people."""
        hits = np.zeros(len(_MIXING_WEIGHTS), np.int64)
        for chunk in self._chunks(people):
            bar = self._trigram.probabilities(chunk.contexts)
            for i, weight in enumerate(_MIXING_WEIGHTS):
                mixed = np.float32(weight) * chunk.probabilities + np.float32(1 - weight) * bar
                hits[i] += np.count_nonzero(mixed[:, NUM_SPECIAL:].argmax(1) + NUM_SPECIAL == chunk.targets)
        return _MIXING_WEIGHTS[int(hits.argmax())]

    def score(self, people: Mapping[ClientId, Sentences], mixing_weight: float) -> dict[str, ClientSums]:
        """Sums per person of the bars and of the mixture."""
        parts: dict[str, list[PositionScores]] = {}
        for chunk in self._chunks(people):
            person = np.full(len(chunk.targets), chunk.person)
            rows = {name: self._trigram.probabilities(chunk.contexts, order) for order, name in enumerate(BARS, 1)}
            weight = np.float32(mixing_weight)
            rows["mixed"] = weight * chunk.probabilities + (1 - weight) * rows["trigram"]
            for name, probabilities in rows.items():
                parts.setdefault(name, []).append(score_positions(probabilities, chunk.targets, person))
        oov = np.array([sum(int(np.sum(s[: self._time] == UNK)) for s in own) for own in people.values()])
        return {name: _joined(scores).client_sums(len(people), oov) for name, scores in parts.items()}


def _joined(parts: Sequence[PositionScores]) -> PositionScores:
    return PositionScores(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("hit1", "hit3", "nll_nats", "person"))
    )
