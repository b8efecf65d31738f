"""Modified Kneser-Ney against KenLM's probabilities, against plain counting, and against what must hold of any text."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.modified_kneser_ney import FALLBACK, build_modified_kneser_ney, estimate_discounts, previous_ids
from models.vocabulary import BOS, EOS, PAD, UNK

KENLM = json.loads((Path(__file__).parents[1] / "data" / "kenlm_toy.json").read_text())
VOCABULARY_SIZE = 9  # the four special ids and the words 4..8
TOY = [[4, 5, 6], [4, 5, 7, 4, 5], [6, UNK, 5], [4], [5, 6, 4, 5, 6], [4, 5, 7, 4, 8]]

toy_texts = st.lists(st.lists(st.integers(UNK, VOCABULARY_SIZE - 1), min_size=1, max_size=7), min_size=1, max_size=12)


def build(sentences, vocabulary_size=VOCABULARY_SIZE, order=5):
    return build_modified_kneser_ney([np.array(s, np.int32) for s in sentences], vocabulary_size, order)


def occurrences(sentences, length):
    """All n-grams of this length that end in a word, UNK or EOS, with repeats; a sentence begins with one BOS."""
    padded = [(BOS, *sentence, EOS) for sentence in sentences]
    return [s[end - length : end] for s in padded for end in range(max(length, 2), len(s) + 1)]


def count_of(sentences, ngram, highest):
    if highest or ngram[0] == BOS:
        return occurrences(sentences, len(ngram)).count(ngram)
    return len({longer[0] for longer in occurrences(sentences, len(ngram) + 1) if longer[1:] == ngram})


def plain_probability(sentences, context, word, order):
    """Modified Kneser-Ney as it is written in the papers, with nothing but lists."""
    if word not in range(EOS, VOCABULARY_SIZE):
        return 0.0
    length = len(context) + 1
    events = range(EOS, VOCABULARY_SIZE)
    shorter = plain_probability(sentences, context[1:], word, order) if context else 1 / len(events)
    counts = {event: count_of(sentences, (*context, event), length == order) for event in events}
    total = sum(counts.values())
    if total == 0:
        return shorter
    everywhere = {ngram: count_of(sentences, ngram, length == order) for ngram in set(occurrences(sentences, length))}
    discounts = (0.0, *estimate_discounts(np.array(list(everywhere.values()))))
    taken_off = {event: discounts[min(count, 3)] for event, count in counts.items()}
    return (counts[word] - taken_off[word]) / total + sum(taken_off.values()) / total * shorter


def cut_to_sentence(context):
    """A context as the papers have it: one BOS, and nothing before it."""
    return context[max((place for place, word in enumerate(context) if word == BOS), default=0) :]


def possible_contexts(number):
    """Every context that a sentence can have."""
    every = itertools.product((BOS, UNK, 4, 5, 6, 7, 8), repeat=number)
    return [c for c in every if BOS not in c or set(c[: len(c) - c[::-1].index(BOS)]) == {BOS}]


@pytest.mark.parametrize("order", [3, 4])
def test_equals_plain_counting(order):
    contexts = possible_contexts(order - 1)
    rows = build(TOY, order=4).after(np.array([(BOS, BOS, BOS, *c)[-3:] for c in contexts])).probabilities(order)
    checked = list(range(0, len(contexts), 7))
    expected = [
        [plain_probability(TOY, cut_to_sentence(contexts[n]), word, order) for word in range(VOCABULARY_SIZE)]
        for n in checked
    ]
    np.testing.assert_allclose(rows[checked], expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(toy_texts, st.integers(0, 4), st.lists(st.integers(UNK, 8), min_size=4, max_size=4))
def test_equals_plain_counting_on_random_text(sentences, before_sentence, context):
    context = [BOS] * before_sentence + context[before_sentence:]
    model = build(sentences)
    for order in (3, 4, 5):
        rows = model.after(np.array([context])).probabilities(order)
        own = cut_to_sentence(tuple(context[5 - order :]))
        expected = [plain_probability(sentences, own, word, order) for word in range(VOCABULARY_SIZE)]
        np.testing.assert_allclose(rows[0], expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(toy_texts, st.lists(st.lists(st.integers(0, 8), min_size=4, max_size=4), min_size=1, max_size=9))
def test_rows_sum_to_one_for_any_context_and_nothing_is_impossible_but_the_start_and_padding(sentences, contexts):
    model = build(sentences)
    for order in (3, 4, 5):
        rows = model.after(np.array(contexts)).probabilities(order)
        np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)
        assert (rows[:, [PAD, BOS]] == 0).all()
        assert (rows[:, EOS:] >= 0).all()


@pytest.mark.parametrize("order", ["3", "4", "5"])
def test_every_probability_of_kenlm_is_found(order):
    """KenLM's lmplz on the same sentences: n-grams of its file, sentence starts, and what it backs off to.

    The last word of the text occurs once: of the last n-gram KenLM counts n1 to n4 by its plain count, whatever its
    adjusted one is, and these two are then the same.
    """
    words = {"<s>": BOS, "</s>": EOS, "<unk>": UNK, **{w: 4 + place for place, w in enumerate(KENLM["words"])}}
    sentences = [[words[w] for w in sentence.split()] for sentence in KENLM["sentences"]]
    model = build(sentences, vocabulary_size=4 + len(KENLM["words"]))
    queries = [([words[w] for w in context.split()], words[word], log10) for context, word, log10 in KENLM[order]]
    contexts = np.array([([BOS] * 4 + context)[-4:] for context, _, _ in queries])
    rows = model.after(contexts).probabilities(int(order))
    found = np.log10(rows[np.arange(len(rows)), [word for _, word, _ in queries]])
    np.testing.assert_allclose(found, [log10 for _, _, log10 in queries], atol=2e-5)
    np.testing.assert_allclose(model.discounts[int(order)], KENLM["discounts"][order], rtol=1e-5)


def test_an_order_that_was_not_built_is_refused():
    with pytest.raises(ValueError, match="order must be in 3..4, got order=5"):
        build(TOY, order=4).after(np.zeros((1, 3), int)).probabilities(5)


def test_a_longer_context_says_more_where_the_text_does():
    # After "1 2" came 3 and 4 alike; the word before tells them apart.
    text = [[5, 4, 6, 7]] * 4 + [[8, 4, 6, 5]] * 4
    model, contexts = build(text), np.array([[BOS, 5, 4, 6], [BOS, 8, 4, 6]])
    first, second = model.after(contexts).probabilities(3)
    assert first.tolist() == second.tolist()
    for order in (4, 5):
        assert model.after(contexts).probabilities(order)[:, 4:].argmax(axis=1).tolist() == [3, 1]


def test_discounts_by_hand_and_where_there_is_too_little_to_tell():
    # n1 = 6, n2 = 3, n3 = 2, n4 = 1: Y = 6 / 12.
    counts = [1] * 6 + [2] * 3 + [3] * 2 + [4] + [7] * 5
    assert estimate_discounts(np.array(counts)) == pytest.approx((1 - 1 * 3 / 6, 2 - 1.5 * 2 / 3, 3 - 2 * 1 / 2))
    assert estimate_discounts(np.array([1, 1, 2])) == FALLBACK  # nothing was seen three times
    assert estimate_discounts(np.array([1, 1, 2, 3, 3, 3])) == FALLBACK  # D2 would be 2 - 3 / 2 * 3
    assert estimate_discounts(np.array([1] * 6 + [2] * 3 + [3] * 4)) == FALLBACK  # D2 would be 2 - 3 / 2 * 4 / 3 = 0


def test_no_word_is_impossible_where_a_discount_would_come_to_nothing():
    # 3-grams: one was seen once, one twice, two three times, so D2 would be 2 - 3 * 1 / 3 * 2 / 1 = 0.
    text = [[4]] + [[5]] * 2 + [[6]] * 3 + [[7]] * 3
    row = build(text, order=3).after(np.array([[BOS, 5]])).probabilities(3)[0]
    assert (row[EOS:] > 0).all()


def test_positions_are_those_of_the_neural_model():
    assert previous_ids(np.array([[BOS, 7, 8, 9, 4, 5]]), 4)[0].tolist() == [
        [BOS, BOS, BOS, BOS], [BOS, BOS, BOS, 7], [BOS, BOS, 7, 8], [BOS, 7, 8, 9], [7, 8, 9, 4], [8, 9, 4, 5]
    ]  # fmt: skip
    assert previous_ids(np.array([[BOS, 7]]), 4).shape == (1, 2, 4)
    with pytest.raises(ValueError, match="tokens must have the shape"):
        previous_ids(np.array([BOS, 7]), 4)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sentences": []}, "at least one sentence"),
        ({"sentences": [np.array([BOS])]}, "ids in 3..8, got 1"),
        ({"sentences": [np.array([9])]}, "ids in 3..8, got 9"),
        ({"order": 2}, "order must be at least 3, got order=2"),
        ({"vocabulary_size": 4}, "vocabulary_size must be in 5.."),
    ],
)
def test_bad_arguments_are_refused_by_name(change, complaint):
    arguments = {"sentences": [np.array([4, 5])], "vocabulary_size": 9, "order": 5, **change}
    with pytest.raises(ValueError, match=complaint):
        build_modified_kneser_ney(**arguments)


@pytest.mark.parametrize("contexts", [np.zeros((2, 3), int), np.full((1, 4), 9), np.full((1, 4), 4.0)])
def test_bad_contexts_are_refused(contexts):
    with pytest.raises(ValueError, match="contexts must"):
        build(TOY).after(contexts)
