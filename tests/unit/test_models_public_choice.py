"""Which public sentences are rated as what people type: by hand, against rows written out, and on two kinds of text."""

from __future__ import annotations

import numpy as np
import pytest

from models.private_bigram import Slots, build_private_bigram, person_vector
from models.public_choice import choose_sentences, count_public_text, rate_sentences
from models.vocabulary import BOS, EOS, UNK

SLOTS = Slots(vocabulary_size=14, pair_words=8)


def text(seed, number, words):
    rng = np.random.default_rng(seed)
    return tuple(rng.choice(words, rng.integers(1, 6)).astype(np.int32) for _ in range(number))


def model_of(people, noise_std=0.5):
    return build_private_bigram(sum(person_vector(own, SLOTS) for own in people), noise_std, SLOTS)


PEOPLE = model_of([text(seed, 12, [4, 5, 6, 7, 13]) for seed in range(40)])


def test_a_rate_is_the_difference_of_two_log_likelihoods_a_word():
    public = model_of([text(seed, 12, [7, 8, 9, 10, 12]) for seed in range(50, 90)])
    sentences = text(1, 30, np.arange(3, 14))
    rates = rate_sentences(sentences, PEOPLE, public)
    for sentence, rate in zip(sentences, rates):
        ids, nats = [BOS, *sentence, EOS], 0.0
        for before, after in zip(ids, ids[1:]):
            ours, theirs = (next(model.rows(np.array([before])))[after] for model in (PEOPLE, public))
            nats += np.log(ours) - np.log(theirs)
        assert rate == pytest.approx(nats / (len(sentence) + 1), rel=1e-5)
    assert rates.min() < -0.5 < 0.5 < rates.max()


def test_many_sentences_are_rated_as_each_by_itself():
    sentences = text(2, 4000, np.arange(3, 14))
    rates = rate_sentences(sentences, PEOPLE, PEOPLE)
    assert sum(len(own) + 1 for own in sentences) > 8192  # more than one call looks at
    np.testing.assert_array_equal(rates, 0)
    public = model_of([sentences[:50]])
    rates = rate_sentences(sentences, PEOPLE, public)
    for place in (0, 1, 2047, 2048, 3999):
        assert rates[place] == pytest.approx(rate_sentences(sentences[place : place + 1], PEOPLE, public)[0])


def test_public_text_is_counted_in_as_many_parts_as_people():
    sentences = text(3, 10, np.arange(3, 14))
    counted = count_public_text(sentences, 4, PEOPLE)
    expected = model_of([sentences[:2], sentences[2:5], sentences[5:8], sentences[8:]], PEOPLE.noise_std)
    np.testing.assert_allclose(counted.words, expected.words, rtol=1e-6)
    np.testing.assert_allclose(counted.pairs.toarray(), expected.pairs.toarray(), rtol=1e-6)
    few = count_public_text(sentences[:2], 4, PEOPLE)  # fewer sentences than people
    np.testing.assert_allclose(few.words, model_of([sentences[:1], sentences[1:2]]).words, rtol=1e-6)


def test_sentences_of_people_s_words_and_pairs_come_first():
    alike, other = text(4, 60, [4, 5, 6, 7]), text(5, 180, [8, 9, 10, 11, UNK])
    order = np.random.default_rng(6).permutation(240)
    sentences = [(*alike, *other)[place] for place in order]
    rates = rate_sentences(sentences, PEOPLE, count_public_text(sentences, 40, PEOPLE))
    lengths = [len(own) for own in sentences]
    chosen = choose_sentences(rates, lengths, 0.2)
    assert (order[chosen] < 60).all()
    assert (np.diff(chosen) > 0).all()
    words = np.array(lengths)[chosen].sum()
    assert 0.2 * sum(lengths) <= words < 0.2 * sum(lengths) + 6


@pytest.mark.parametrize(
    ("share", "places"), [(1e-9, [1]), (0.15, [1]), (0.16, [1, 3]), (0.5, [1, 3]), (1.0, [0, 1, 2, 3])]
)
def test_the_share_is_of_words_and_of_equal_rates_the_earlier_comes_first(share, places):
    assert choose_sentences(np.array([0.5, 2.0, -1.0, 2.0]), [5, 3, 4, 8], share).tolist() == places


def test_an_end_that_no_model_expects_makes_no_nan():
    silent = build_private_bigram(np.zeros(SLOTS.size), 0.5, SLOTS)
    assert np.isfinite(rate_sentences((np.array([4]),), silent, silent)).all()
    assert rate_sentences((), silent, silent).shape == (0,)
