"""Rebuilds typed sentences from a raw update, by beam search with the attacked model itself.

The update names the words (word_recovery). Their order is in it, too: with tied embeddings a typed word's row moves
against the hidden states of the contexts in which it was typed, and the server, who has the model, can compute the
hidden state of any context. So a beam grows sentences word by word, and each step scores how likely the model finds the
word and how well the context's hidden state fits the word's row.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import BOS, EOS, UNK, Vocabulary
from models.weights import ModelSize, Weights
from orchestrator.audit.attack_results import Example, RebuiltMeans
from orchestrator.audit.updates import AttackedUpdate
from orchestrator.audit.word_recovery import score_words

Sentence = tuple[int, ...]  # word ids, EOS at the end unless it was cut
State = Mapping[str, NDArray]  # of each beam: the first axis is the beams

# Picked on other clients than those that the command attacks.
BEAMS = 32
ROW_WEIGHT = 25.0  # nats that a perfect fit of row and context is worth
REUSE_PENALTY = 6.0  # nats for each time that the word was used before
_NUM_EXAMPLES = 8


@dataclass(frozen=True)
class Rebuilt:
    """How much of the sentences came back; shares in 0..1."""

    exact: float  # sentences that came back word for word
    pair_recall: float  # adjacent pairs of words, start and end included, that came back
    pair_precision: float
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class SteppedModel:
    """The attacked model, word by word, on arrays.

    Attributes:
      step: (words [beams], the state before them) -> (rows [beams, D] of the output layer, the state after them).
      start: the state before a sentence.
      output: [V, D] and output_bias: [V], of the output layer.
    """

    step: Callable[[NDArray, State], tuple[NDArray, State]]
    start: State
    output: NDArray
    output_bias: NDArray


def step_by_word(size: ModelSize, weights: Weights) -> SteppedModel:
    """Returns a model that is asked word by word; loads TensorFlow."""
    import tensorflow as tf

    from models.model import load_model

    model = load_model(size)
    named = model.named(weights)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(words: tf.Tensor, state: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
        return model.step(named, words, state)

    def of_arrays(words: NDArray, state: State) -> tuple[NDArray, State]:
        after = step(*tf.nest.map_structure(tf.constant, (words, dict(state))))
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), after)

    arrays = dict(zip(size.names, weights))
    return SteppedModel(of_arrays, size.start_state(), arrays[size.role("output")], arrays[size.role("output_bias")])


def rebuild_sentences(
    model: SteppedModel,
    embedding: NDArray[np.floating],
    output_bias: NDArray[np.floating],
    num_sentences: int,
    max_words: int,
    row_weight: float = ROW_WEIGHT,
) -> tuple[Sentence, ...]:
    """Returns the sentences that the update seems to come from, the surest first.

    Args:
      model: of the server, from which the client trained.
      embedding: [V, D], the update; output_bias: [V].
      num_sentences: how many; taken as known.
      max_words: of a sentence.
      row_weight: 0 leaves the rows out: the model alone puts the words in order.

    Source: beam search with the language model over recovered words: Gupta et al. 2022 (FILM),
    https://arxiv.org/abs/2205.08514. The rows' fit is added here.
    """
    words = candidate_words(embedding, output_bias)
    towards = _untyped_direction(embedding, words)
    rows = _unit(_without(-embedding[words].astype(np.float64), towards))
    uses = np.zeros(len(words), int)
    found: list[Sentence] = []
    for _ in range(num_sentences):
        sentence = _best_sentence(model, words, rows, towards, row_weight, uses, max_words)
        found.append(sentence)
        uses += np.isin(words, sentence) & (words != EOS)
    return tuple(found)


def candidate_words(embedding: NDArray[np.floating], output_bias: NDArray[np.floating]) -> NDArray[np.int_]:
    """Returns the ids that sentences are built of.

    The sign rule hardly ever names a wrong word, but it misses frequent ones, which the model expected more often than
    they came. So words whose rows are as long as those of the named words are taken, too.
    """
    scores = score_words(embedding, output_bias)
    named, _ = scores["bias_sign"]
    lengths, _ = scores["row_norm"]
    is_named = named > 0
    is_named[: UNK + 1] = False
    chosen = is_named | (lengths >= np.quantile(lengths[is_named], 0.05)) if is_named.any() else is_named
    chosen[: UNK + 1] = False
    chosen[[EOS, UNK]] = True
    return np.flatnonzero(chosen)


def _untyped_direction(embedding: NDArray[np.floating], words: NDArray[np.int_]) -> NDArray[np.float64]:
    """Returns the unit vector along which the rows of words not typed moved; zero if there are no such words."""
    others = np.ones(len(embedding), bool)
    others[words] = False
    return _unit(_unit(embedding[others].astype(np.float64)).sum(0))


def _best_sentence(
    model: SteppedModel,
    words: NDArray[np.int_],
    rows: NDArray[np.float64],
    towards: NDArray[np.float64],
    row_weight: float,
    uses: NDArray[np.int_],
    max_words: int,
) -> Sentence:
    """Returns the finished sentence with the best mean score a word."""
    contexts, totals = np.full((1, 1), BOS, np.int32), np.zeros(1)
    state = model.start
    best: Sentence = (EOS,)
    best_mean = -np.inf
    for length in range(1, max_words + 1):
        hidden, state = model.step(contexts[:, -1], state)
        logits = hidden @ model.output.T + model.output_bias
        top = logits.max(1, keepdims=True)
        log_sum = top + np.log(np.exp(logits - top).sum(1, keepdims=True))
        fit = _unit(_without(hidden.astype(np.float64), towards)) @ rows.T
        repeats = np.stack([(contexts == word).sum(1) for word in words], 1)
        scores = totals[:, np.newaxis] + (logits - log_sum)[:, words] + row_weight * fit
        scores -= REUSE_PENALTY * (uses + repeats)
        ends = scores[:, words == EOS][:, 0]
        last = length == max_words
        if ends.max() / length > best_mean and length > 1:
            best, best_mean = (*map(int, contexts[ends.argmax()][1:]), EOS), ends.max() / length
        scores[:, words == EOS] = -np.inf
        order = np.argsort(-scores, axis=None)[:BEAMS]
        beams, chosen = np.unravel_index(order, scores.shape)
        contexts = np.concatenate([contexts[beams], words[chosen, np.newaxis].astype(np.int32)], 1)
        totals, state = scores[beams, chosen], {name: value[beams] for name, value in state.items()}
        if last and totals[0] / length > best_mean:
            best = tuple(map(int, contexts[0][1:]))
    return best


def _unit(vectors: NDArray) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)


def _without(vectors: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors - (vectors @ direction)[:, np.newaxis] * direction


def compare_sentences(rebuilt: Sequence[Sentence], real: Sequence[Sentence]) -> Rebuilt:
    """Returns how much of the real sentences came back.

    >>> result = compare_sentences([(7, 8, EOS), (9, EOS)], [(7, 8, EOS), (8, 9, EOS)])
    >>> result.exact, round(result.pair_recall, 2), result.pair_precision
    (0.5, 0.67, 0.8)
    """
    exact = sum((Counter(rebuilt) & Counter(real)).values())
    pairs_rebuilt, pairs_real = _pairs(rebuilt), _pairs(real)
    hits = sum((pairs_rebuilt & pairs_real).values())
    return Rebuilt(
        exact=exact / len(real),
        pair_recall=hits / max(1, sum(pairs_real.values())),
        pair_precision=hits / max(1, sum(pairs_rebuilt.values())),
        sentences=tuple(rebuilt),
    )


def _pairs(sentences: Sequence[Sentence]) -> Counter:
    return Counter(pair for sentence in sentences for pair in zip((BOS, *sentence), sentence))


def measure_rebuilding(
    size: ModelSize, weights: Weights, updates: Sequence[AttackedUpdate], max_words: int, vocabulary: Vocabulary
) -> RebuiltMeans:
    """Rebuilds the sentences of each raw update, and returns the means over the clients.

    An example is the rebuilt sentence that shares most pairs of words with a sentence that the first client typed.
    """
    model = step_by_word(size, weights)
    embedding, output_bias = (size.names.index(size.role(role)) for role in ("embedding", "output_bias"))
    with_rows: list[Rebuilt] = []
    without_rows: list[Rebuilt] = []
    for update in updates:
        for row_weight, results in ((ROW_WEIGHT, with_rows), (0.0, without_rows)):
            rows, biases = update.delta[embedding], update.delta[output_bias]
            rebuilt = rebuild_sentences(model, rows, biases, len(update.sentences), max_words, row_weight)
            results.append(compare_sentences(rebuilt, update.sentences))
    return RebuiltMeans(
        clients=len(updates),
        exact=statistics.fmean(result.exact for result in with_rows),
        pair_recall=statistics.fmean(result.pair_recall for result in with_rows),
        pair_precision=statistics.fmean(result.pair_precision for result in with_rows),
        model_alone=statistics.fmean(result.pair_recall for result in without_rows),
        examples=tuple(
            Example(typed=_text(real, vocabulary), rebuilt=_text(_closest(real, with_rows[0].sentences), vocabulary))
            for real in updates[0].sentences[:_NUM_EXAMPLES]
        ),
    )


def _closest(real: Sentence, rebuilt: Sequence[Sentence]) -> Sentence:
    return max(rebuilt, key=lambda sentence: sum((_pairs([sentence]) & _pairs([real])).values()))


def _text(sentence: Sentence, vocabulary: Vocabulary) -> str:
    return " ".join(vocabulary.words[i] for i in sentence if i != EOS)
