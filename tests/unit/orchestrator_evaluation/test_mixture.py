"""Mixtures: what they propose first, found without looking at most words, and a private n-gram beside a model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from models.interpolated_rows import InterpolatedRows, list_likeliest
from models.private_bigram import Slots, build_private_bigram
from models.ranks import target_ranks
from models.tokeniser import tokeniser_of
from models.vocabulary import BOS, NUM_SPECIAL, SPECIAL_WORDS, UNK, Vocabulary
from orchestrator.evaluation.mixture import Mixture

POSITIONS, ROWS = 600, 40  # of the model


def whole_rows(own, size):
    """The model's rows over all ids: <unk> and each word that it has no row for share <unk>'s alike."""
    share = own[:, [UNK]] / (size - own.shape[1] + 1)
    rows = np.hstack([own, np.repeat(share, size - own.shape[1], 1)])
    rows[:, [UNK]] = share
    return rows


def counted_rows(rng, size, decimals):
    """Rows of an n-gram model, whose parts are rounded so that words tie."""
    shorter = rng.dirichlet(np.full(size, 0.1), 9).round(decimals).astype(np.float32)
    shorter_of = rng.integers(0, 9, POSITIONS)
    seen = rng.dirichlet(np.full(size, 0.02), POSITIONS).round(decimals).astype(np.float32)
    likeliest = list_likeliest(np.zeros(size, np.float32), np.zeros(9, np.float32), sparse.csr_matrix(shorter))
    share = rng.choice(np.float32([0.25, 0.5, 1]), POSITIONS)
    return InterpolatedRows(shorter, shorter_of, likeliest, share, sparse.csr_matrix(seen))


@pytest.mark.parametrize("decimals", [1, 3, 8])
@pytest.mark.parametrize("size", [ROWS, ROWS + 7])
def test_ranks_and_probabilities_are_those_of_whole_rows_ties_and_missing_words_included(size, decimals):
    rng = np.random.default_rng(decimals)
    counted = counted_rows(rng, size, decimals)
    own = rng.dirichlet(np.full(ROWS, 0.05), POSITIONS).round(decimals).astype(np.float32)
    whole = whole_rows(own, size)
    targets = rng.integers(4, size, POSITIONS)
    mixture = Mixture(own, counted)
    for weight in np.float32([0.1, 0.5, 0.9]):
        rows = weight * whole + (1 - weight) * counted.dense()
        ranks, of_target = mixture.places(weight, 1 - weight, targets)
        expected = np.minimum(target_ranks(rows, targets), 3)
        assert all((expected == rank).any() for rank in range(4))
        np.testing.assert_array_equal(ranks, expected)
        np.testing.assert_array_equal(of_target, rows[np.arange(POSITIONS), targets])


VOCABULARY = Vocabulary(SPECIAL_WORDS + tuple(f"word{letter}" for letter in "abcdefghijkl"))


@pytest.fixture(scope="module")
def private():
    from orchestrator.evaluation.ngram_release import ReleasedNgram
    from orchestrator.run.noisy_counts import NgramRelease

    slots = Slots(VOCABULARY.size, 8)
    noisy = np.random.default_rng(1).exponential(20.0, slots.size)
    model = build_private_bigram(noisy, 1.0, slots)
    return ReleasedNgram(NgramRelease(1.0, 1e-3, 1.0, 9, "plain", "central", 8, 1.0, model.pairs.nnz), model)


@pytest.mark.slow  # loads TensorFlow
def test_a_private_n_gram_is_scored_and_mixed_row_by_row(private) -> None:
    """Against whole rows, by the metric that scores everything else; the model has fewer words than the list."""
    from models.metrics import score_positions
    from models.model import load_model
    from models.weights import ModelSize
    from orchestrator.evaluation.baseline_scores import Counted, Job
    from orchestrator.evaluation.mixture import MIXING_WEIGHTS
    from orchestrator.evaluation.scorer import Scorer

    rng, size = np.random.default_rng(2), ModelSize(10, 4, 6)
    people = {
        name: tuple(rng.integers(3, VOCABULARY.size, rng.integers(1, 6)).astype(np.int32) for _ in range(30))
        for name in ("ann", "bob")
    }
    job = Job(people["ann"], people, people, VOCABULARY.size, 5)
    known = Counted(job.counted().ngrams, 3)
    baselines = job.score(known.ngrams)
    scorer = Scorer(size, load_model(size).initial_weights(seed=3), known, private)
    weights = {"mixed": 0.5, "private_mixed": 0.3}
    sums = scorer.score(people, weights, baselines)
    hits = dict.fromkeys(MIXING_WEIGHTS, 0)
    for person, chunk in enumerate(scorer._chunks(people)):
        before, targets = chunk.contexts[:, -1], chunk.targets
        counted = np.stack([row.copy() for row in private.model.rows(before)])
        own = whole_rows(chunk.probabilities, VOCABULARY.size)
        who = np.zeros(len(targets), int)
        # The baselines were scored row by row of a batch, the model goes over it step by step.
        for name, scores in known.ngrams.score(chunk.contexts, known.ngrams.after(chunk.contexts), targets, who):
            assert sums[name].hits1[person] == scores.client_sums(1).hits1[0]
            assert sums[name].nll_sum_nats[person] == scores.client_sums(1).nll_sum_nats[0]  # to the last digit
        for name, rows in (
            ("private_ngram", counted),
            ("private_mixed", np.float32(0.3) * own + np.float32(0.7) * counted),
        ):
            expected = score_positions(rows, targets, who).client_sums(1)
            assert sums[name].hits1[person] == expected.hits1[0]
            assert sums[name].hits3[person] == expected.hits3[0]
            assert sums[name].nll_sum_nats[person] == pytest.approx(expected.nll_sum_nats[0], rel=1e-5)
        for weight in hits:
            mixed = np.float32(weight) * own + np.float32(1 - weight) * counted
            hits[weight] += int(np.sum(NUM_SPECIAL + mixed[:, NUM_SPECIAL:].argmax(axis=1) == targets))
    assert scorer.best_mixing_weights(people)["private_mixed"] == max(hits, key=lambda weight: hits[weight])
    without = Scorer(size, scorer._weights, known).score(people, {"mixed": 0.5}, baselines)
    assert set(without) == set(sums) - {"private_ngram", "private_mixed"}


@pytest.mark.slow
@pytest.mark.parametrize(("text", "before"), [("", BOS), ("wordb ", VOCABULARY.encode("wordb")[0])])
def test_a_predictor_mixes_the_n_gram_after_the_last_word(private, text, before) -> None:
    from models.model import load_model
    from models.weights import ModelSize
    from orchestrator.evaluation.prediction import Predictor

    size = ModelSize(10, 4, 6)
    weights, tokeniser = load_model(size).initial_weights(seed=3), tokeniser_of(2, "none")
    alone = Predictor(size, weights, VOCABULARY, 5, tokeniser).next_words(text, 6)
    mixed = Predictor(size, weights, VOCABULARY, 5, tokeniser, (private.model, 0.25)).next_words(text, 12)
    own = {one.word: one.probability for one in alone}
    (row,) = private.model.rows(np.array([before]))
    assert len(mixed) == 12  # words that the model does not know, too
    for word, probability in ((one.word, one.probability) for one in mixed if one.word in own):
        assert probability == pytest.approx(0.75 * own[word] + 0.25 * row[VOCABULARY.encode(word)[0]], rel=1e-5)
