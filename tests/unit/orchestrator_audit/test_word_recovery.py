"""Telling typed words from an update: constructed updates whose answer is known."""

import numpy as np
import pytest

from models.vocabulary import NUM_SPECIAL
from orchestrator.audit.word_recovery import (
    RULES,
    best_auc,
    chance_auc_error,
    guess_frequent,
    measure,
    readable_words,
    score_words,
)

NUM_WORDS, WIDTH, TYPED = 500, 16, (4, 10, 77, 300, 499)


def one_step(seed=0, rate=0.5):
    """(embedding, output bias, typed) of one step of SGD of a bigram-like model with tied rows, in closed form."""
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.ones(NUM_WORDS) * 5)
    hidden = rng.normal(size=WIDTH) + 1.0
    typed = np.zeros(NUM_WORDS, bool)
    typed[list(TYPED)] = True
    gradient = probability - typed / len(TYPED)  # of the output bias: predicted minus true share
    embedding = gradient[:, np.newaxis] * hidden
    embedding[typed] += rng.normal(size=(len(TYPED), WIDTH))  # the input's gradient
    return rate * embedding, rate * gradient, typed


def test_an_update_in_the_clear_gives_every_word_away():
    embedding, output_bias, typed = one_step()
    scores = score_words(embedding, output_bias)
    assert tuple(scores) == RULES
    for rule in ("bias_sign", "row_norm"):
        result = measure(*scores[rule], typed)
        assert (result.best_f1, result.auc) == (1.0, 1.0), rule
    result = measure(*scores["bias_sign"], typed)
    assert (result.precision, result.recall, result.f1) == (1.0, 1.0, 1.0)
    assert readable_words(embedding, output_bias, typed).tolist() == sorted(TYPED, key=lambda word: output_bias[word])


def test_row_direction_needs_no_bias():
    rng = np.random.default_rng(1)
    _, gradient, typed = one_step()
    embedding = gradient[:, np.newaxis] * (rng.normal(size=WIDTH) + 1.0)  # untied: no gradient of the input
    result = measure(*score_words(embedding, np.zeros(NUM_WORDS))["row_direction"], typed)
    assert (result.f1, result.auc) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_uniform_words_tell_nothing(seed):
    """9 scores in all at 6 standard errors: false alarm below 1e-7."""
    rng = np.random.default_rng(seed)
    typed = np.zeros(NUM_WORDS, bool)
    typed[rng.choice(np.arange(NUM_SPECIAL, NUM_WORDS), 100, replace=False)] = True
    embedding = rng.integers(0, 2**32, (NUM_WORDS, WIDTH), np.uint32).view(np.int32)
    output_bias = rng.integers(0, 2**32, NUM_WORDS, np.uint32).view(np.int32)
    error = chance_auc_error(100, NUM_WORDS - NUM_SPECIAL - 100)
    for rule, (score, threshold) in score_words(embedding, output_bias).items():
        assert abs(measure(score, threshold, typed).auc - 0.5) < 6 * error, rule


def test_noise_hides_words_by_degrees():
    embedding, output_bias, typed = one_step()
    rng = np.random.default_rng(2)
    aucs = []
    for level in (0.0, 0.5, 100.0):
        noisy = [part + level * rng.standard_normal(part.shape) for part in (embedding, output_bias)]
        aucs.append(best_auc(noisy[0], noisy[1], typed))
    assert aucs[0] == 1.0
    assert aucs[0] > aucs[1] > aucs[2]


def test_ties_count_half():
    typed = np.array([False] * NUM_SPECIAL + [True, False, True, False])
    assert measure(np.zeros(8), 0.0, typed).auc == 0.5


def test_special_ids_are_not_words():
    typed = np.array([False] * NUM_SPECIAL + [True, False])
    score = np.array([9.0] * NUM_SPECIAL + [2.0, 1.0])
    assert measure(score, 1.5, typed).f1 == 1.0


def test_the_guess_names_the_most_frequent_words():
    typed = np.zeros(NUM_WORDS, bool)
    typed[[4, 5, 300]] = True
    result = guess_frequent(typed)
    assert result.precision == result.recall == result.f1 == 2 / 3


@pytest.mark.parametrize("typed", [np.zeros(9, bool), np.arange(9) >= NUM_SPECIAL])
def test_a_truth_of_one_kind_is_refused(typed):
    with pytest.raises(ValueError, match="typed must hold both"):
        measure(np.zeros(9), 0.0, typed)


def test_the_standard_error_is_that_of_random_scores():
    """2000 draws: the sample's standard deviation is within 10 % at far more than 5 standard errors."""
    rng = np.random.default_rng(3)
    typed = np.zeros(NUM_SPECIAL + 60, bool)
    typed[NUM_SPECIAL : NUM_SPECIAL + 12] = True
    aucs = [measure(rng.random(len(typed)), 0.5, typed).auc for _ in range(2000)]
    assert np.std(aucs) == pytest.approx(chance_auc_error(12, 48), rel=0.1)
