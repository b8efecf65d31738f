"""Audits with a known answer: bounds stay below what is true, estimates come near it, phrases are planted and found."""

from __future__ import annotations

import numpy as np
import pytest

from models.client_data import ClientData
from models.corpus import ClientId, PeopleSplit
from models.vocabulary import SPECIAL_WORDS, Vocabulary
from orchestrator.audit.canaries import one_run_bound, one_shot_estimate, two_normals_epsilon
from orchestrator.audit.exposure import exposure
from orchestrator.audit.one_run import count_right, epsilon_lower_bound, one_run_p_value
from orchestrator.errors import ConfigError
from orchestrator.privacy.accounting import Cost
from orchestrator.run.planted import REPEATS, plant_phrases, planted_phrases
from orchestrator.settings.files import read_config

DELTA = 1e-5


@pytest.mark.parametrize(("canaries", "right", "epsilon"), [(100, 100, 3.493), (1000, 1000, 5.809), (1000, 500, 0.0)])
def test_the_bound_of_one_run_has_its_known_values(canaries, right, epsilon):
    """At delta 0 the guesses are coins of probability e^eps / (1 + e^eps): all right is a closed form."""
    bound = epsilon_lower_bound(canaries, canaries, right, 0.0)
    assert bound == pytest.approx(epsilon, abs=5e-4)
    if right == canaries:
        share = 0.05 ** (1 / canaries)
        assert bound == pytest.approx(np.log(share / (1 - share)), abs=1e-6)


def test_a_larger_delta_proves_less():
    bounds = [epsilon_lower_bound(1000, 200, 190, delta) for delta in (0.0, 1e-6, 1e-4, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]
    assert one_run_p_value(1000, 200, 190, 1.0, 1.0) == 1.0


def test_the_bound_stays_below_the_epsilon_of_a_known_mechanism():
    """Each of 20 bounds exceeds the true epsilon with probability 5 % at most, so 8 of them do with 3e-6 at most."""
    true = Cost(0.5).epsilon(DELTA)  # noise multiplier 1
    release = np.random.default_rng(0).normal(size=2000) * 0.1
    bounds = [one_run_bound(release, 2.0, 2.0, 200, 40, DELTA, seed).epsilon for seed in range(20)]
    assert sum(bound > true for bound in bounds) < 8


def test_the_bound_finds_a_mechanism_without_noise():
    result = one_run_bound(np.zeros(20_000), 0.0, 1.0, 200, 40, DELTA, seed=1)
    assert result.right == 40
    assert result.epsilon > 2.0


def test_canaries_that_never_enter_tell_nothing():
    """Noise 1e6 times the canaries: at most chance; 40 guesses at 5 standard deviations, below 1e-6."""
    result = one_run_bound(np.zeros(2000), 1e6, 1.0, 200, 40, DELTA, seed=2)
    assert abs(result.right - 20) < 5 * np.sqrt(10)


def test_the_estimate_comes_near_a_known_mechanism():
    """Seeded. The mean cosine's standard error is 1 / (12 sigma) here: the estimate is off by half an epsilon or so."""
    true = Cost(0.5).epsilon(DELTA)
    result = one_shot_estimate(np.zeros(20_000), 1.0, 1.0, 140, DELTA, seed=3)
    assert result.epsilon == pytest.approx(true, abs=1.0)
    assert result.null_deviation == pytest.approx(20_000**-0.5)


def test_without_noise_the_estimate_knows_no_limit():
    assert one_shot_estimate(np.zeros(200_000), 0.0, 1.0, 4, DELTA, seed=3).epsilon is None


@pytest.mark.parametrize("multiplier", [0.7, 1.0, 3.0])
def test_two_normals_of_one_width_are_the_gaussian_mechanism(multiplier):
    true = Cost(0.5 / multiplier**2).epsilon(DELTA)
    assert two_normals_epsilon(1.0, multiplier, 0.0, multiplier, DELTA) == pytest.approx(true, abs=1e-3)


def test_guesses_call_both_ends():
    assert count_right(np.arange(10.0), np.arange(10) >= 5, 10) == 10
    assert count_right(-np.arange(10.0), np.arange(10) >= 5, 4) == 0


def test_exposure_of_a_phrase_that_nobody_typed_is_small_on_average():
    """Mean 1.44 bits with a standard deviation of 1.44: 2000 draws at 6 standard errors, below 1e-8."""
    rng = np.random.default_rng(4)
    bits = [exposure(rng.random(), rng.random(255)) for _ in range(2000)]
    assert np.mean(bits) == pytest.approx(1.4427, abs=6 * 1.4427 / np.sqrt(2000) + 0.05)  # 0.05: 255 are not infinite
    assert exposure(-1.0, rng.random(255)) == 8.0
    assert exposure(2.0, rng.random(255)) == 0.0


def people(count=60):
    vocabulary = Vocabulary((*SPECIAL_WORDS, *(f"word{i}" for i in range(100))))
    train = {ClientId(f"p{i:02}"): (np.array([4, 5], np.int32),) * 3 for i in range(count)}
    return ClientData(vocabulary, PeopleSplit(tuple(train), (), ()), train, {}, {}, ())


def test_phrases_are_planted_as_often_as_they_say():
    config = read_config(overrides={"audit.phrases": 5})
    data = people()
    planted = planted_phrases(config, data)
    assert [sum(phrase.repeats == r for phrase in planted) for r in REPEATS] == [5, 5, 5]
    after = plant_phrases(config, data)
    for phrase in planted:
        own = after.train[phrase.client_id]
        assert sum(np.array_equal(sentence, phrase.words) for sentence in own) == phrase.repeats
        assert len(own) == 3 + phrase.repeats
    assert sum(map(len, after.train.values())) == 3 * 60 + 5 * sum(REPEATS)
    assert all(len(own) == 3 for own in data.train.values())


def test_phrases_are_off_by_default():
    data = people()
    assert plant_phrases(read_config(), data) is data


def test_phrases_that_would_be_cut_are_refused():
    with pytest.raises(ConfigError, match=r"audit\.phrase_words = 9, data\.max_words = 8"):
        read_config(overrides={"audit.phrases": 1, "audit.phrase_words": 9, "data.max_words": 8})
