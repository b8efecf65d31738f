"""What one person adds to the sum is never longer than 1, and a noisy sum predicts what its definition says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.private_bigram import PrivateBigram, Slots, build_private_bigram, person_vector
from models.vocabulary import BOS, EOS, UNK

SLOTS = Slots(vocabulary_size=7, pair_words=2)  # words 4, 5 and 6; pairs of 4 and 5


def test_nobody_s_vector_is_longer_than_one_whatever_they_type():
    sentences = [np.array(ids) for length in range(4) for ids in itertools.product((UNK, 4, 5, 6), repeat=length)]
    texts = [[one] * times for one in sentences for times in (1, 9)]
    texts += [[one, other] for one, other in itertools.product(sentences[:21], repeat=2)]
    norms = [np.linalg.norm(person_vector(text, SLOTS).astype(np.float64)) for text in texts]
    assert max(norms) == pytest.approx(1.0, abs=1e-7)  # the bound is reached, and the encoder clips the last bits
    assert min(norms) == pytest.approx(0.4, abs=1e-7)  # of those who typed none of the pairs


def test_a_vector_says_how_often_words_were_typed_and_whether_pairs_were():
    vector = person_vector([np.array([4, 5]), np.array([4, 5, 6]), np.array([UNK])], SLOTS)
    words, pairs = vector[:7], vector[7:].reshape(3, 3)
    expected = np.array([0, 0, 3, 1, 2, 2, 1])  # EOS thrice, UNK once
    np.testing.assert_allclose(words, 0.4 * expected / np.sqrt(19), rtol=1e-6)
    # (edge, 4), (4, 5) and (5, edge), each once however often; 6 and UNK have no place.
    np.testing.assert_allclose(pairs, np.sqrt(0.84 / 3) * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]), rtol=1e-6)


def noisy(words, pairs):
    return np.concatenate([np.array(words, float), np.array(pairs, float).ravel()])


def rows_of(model: PrivateBigram, *before):
    return [row.copy() for row in model.rows(np.array(before))]


def test_what_stays_under_the_noise_counts_as_nothing():
    # The noise has a standard deviation of 1: words pass above 3 and pairs above 2.5, at the bound they don't.
    total = noisy([50, 50, 6, 3, 18, 2.9, -9], [[0, 50, 2.5], [0, 0, 2.4], [0, 0, 2.6]])
    model = build_private_bigram(total, 1.0, SLOTS)
    # 80 % for EOS and word 4, 6 : 18; 20 % for UNK and the words 5 and 6 by 1 / place: 1 : 1/2 : 1/3.
    words = np.array([0, 0, 0.8 * 0.25, 0.2 * 6 / 11, 0.8 * 0.75, 0.2 * 3 / 11, 0.2 * 2 / 11])
    at_start, after_4, after_5, after_6 = rows_of(model, BOS, 4, 5, 6)
    np.testing.assert_allclose(after_4, words, rtol=1e-5)
    np.testing.assert_allclose(after_6, words, rtol=1e-5)
    np.testing.assert_allclose(at_start, words * 100 / 150 + np.eye(7)[4] * 50 / 150, rtol=1e-5)
    np.testing.assert_allclose(after_5, words * 100 / 102.6 + np.eye(7)[5] * 2.6 / 102.6, rtol=1e-5)


def test_pairs_with_the_edge_end_a_sentence_and_every_row_sums_to_one():
    rng = np.random.default_rng(0)
    model = build_private_bigram(rng.normal(0, 4, SLOTS.size), 1.0, SLOTS)
    for row in rows_of(model, BOS, UNK, 4, 5, 6):
        assert row.sum() == pytest.approx(1.0, abs=1e-6)
        assert row.min() >= 0.0
        assert row[:EOS].max() == 0.0
    told = build_private_bigram(noisy([0] * 7, [[0, 0, 0], [300, 0, 0], [0, 0, 0]]), 1.0, SLOTS)
    after_4, after_5 = rows_of(told, 4, 5)
    assert after_4[EOS] - 0.25 * after_5[EOS] == pytest.approx(0.75, abs=1e-6)  # 300 / 400


def test_without_a_word_above_the_noise_all_follow_the_list():
    model = build_private_bigram(np.zeros(SLOTS.size), 1.0, SLOTS)
    (row,) = rows_of(model, 4)
    np.testing.assert_allclose(row[UNK:], np.array([1, 1, 1 / 2, 1 / 3]) / (17 / 6), rtol=1e-5)


@pytest.mark.parametrize(("size", "pairs"), [(7, 0), (7, 4)])
def test_slots_refuse_more_pairs_than_words(size, pairs):
    with pytest.raises(ValueError, match=r"pair_words must be in 1\.\.3"):
        Slots(size, pairs)


def test_a_sum_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"\[16\], got shape \(15,\)"):
        build_private_bigram(np.zeros(15), 1.0, SLOTS)


def test_rows_that_are_not_written_out_are_the_same_to_the_bit():
    slots = Slots(vocabulary_size=30, pair_words=12)
    model = build_private_bigram(np.random.default_rng(4).exponential(8.0, slots.size), 1.0, slots)
    before = np.array([BOS, UNK, 4, 29, 4, 15, EOS])  # 29 has no pairs
    np.testing.assert_array_equal(model.interpolated(before).dense(), rows_of(model, *before))
