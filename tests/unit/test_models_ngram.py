from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ngram import build_kneser_ney, previous_two
from models.vocabulary import BOS, EOS, PAD, UNK

VOCABULARY_SIZE = 9  # the four special ids and the words 4..8
TOY = [[4, 5, 6], [4, 5, 7, 4, 5], [6, UNK, 5], [4], [5, 6, 4, 5, 6]]  # word 8 never occurs

toy_texts = st.lists(st.lists(st.integers(UNK, VOCABULARY_SIZE - 1), min_size=1, max_size=6), min_size=1, max_size=8)


def build(sentences, **options):
    arrays = [np.array(sentence, np.int32) for sentence in sentences]
    return build_kneser_ney(arrays, VOCABULARY_SIZE, **options)


def all_contexts() -> np.ndarray:
    """Every pair of ids, the impossible ones as well."""
    return np.array(list(itertools.product(range(VOCABULARY_SIZE), repeat=2)), np.int32)


def occurrences(sentences: list[list[int]], length: int) -> list[tuple[int, ...]]:
    """All n-grams of this length that end in a word, UNK or EOS, with repeats."""
    found = []
    for sentence in sentences:
        padded = [BOS, BOS, *sentence, EOS]
        for end in range(2, len(padded)):
            found.append(tuple(padded[end - length + 1 : end + 1]))
    return found


def plain_probability(sentences, discount, context, word, highest=True) -> float:
    """Kneser-Ney as it is written in the papers, with nothing but lists."""

    def count(ngram: tuple[int, ...]) -> int:
        starts_sentence = len(ngram) > 1 and ngram[0] == BOS
        if highest or starts_sentence:
            return occurrences(sentences, len(ngram)).count(ngram)
        longer = occurrences(sentences, len(ngram) + 1)
        return len({other[0] for other in longer if other[1:] == ngram})

    events = range(EOS, VOCABULARY_SIZE)
    if word not in events:
        return 0.0
    lower = plain_probability(sentences, discount, context[1:], word, highest=False) if context else 1 / len(events)
    counts = {event: count((*context, event)) for event in events}
    total = sum(counts.values())
    if total == 0:
        return lower
    words_seen = sum(1 for number in counts.values() if number > 0)
    return max(counts[word] - discount, 0) / total + discount * words_seen / total * lower


@pytest.mark.parametrize("discount", [0.0, 0.4, 0.75, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_equals_plain_counting(order, discount):
    contexts = all_contexts()
    rows = build(TOY, discount=discount).probabilities(contexts, order)
    expected = [
        [plain_probability(TOY, discount, tuple(context), word) for word in range(VOCABULARY_SIZE)]
        for context in contexts[:, 3 - order :].tolist()
    ]
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(toy_texts, st.integers(1, 3), st.tuples(st.integers(1, 8), st.integers(1, 8)))
def test_equals_plain_counting_on_random_text(sentences, order, context):
    row = build(sentences).probabilities(np.array([context]), order)[0]
    context = context[3 - order :]
    expected = [plain_probability(sentences, 0.75, context, word) for word in range(VOCABULARY_SIZE)]
    np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(sentences=toy_texts, order=st.integers(1, 3), discount=st.floats(0, 1))
def test_rows_are_distributions(sentences, order, discount):
    rows = build(sentences, order=order, discount=discount).probabilities(all_contexts())
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert (rows >= 0).all()
    assert (rows[:, [PAD, BOS]] == 0).all()


def test_hand_computed_trigram():
    # "4 5", "6 5": the plain trigram count of (4, 5, EOS) is 1 of 1. In front of (5, EOS) stand two words,
    # of 2. In front of 4, 5, 6, EOS stand 1, 2, 1, 1 different words, of 5. The events are these and UNK.
    model = build_kneser_ney([np.array([4, 5]), np.array([6, 5])], vocabulary_size=7)
    unigram = 0.25 / 5 + 0.75 * 4 / 5 / 5
    bigram = 1.25 / 2 + 0.75 * 1 / 2 * unigram
    trigram = 0.25 / 1 + 0.75 * 1 / 1 * bigram
    assert model.probabilities(np.array([[4, 5]]))[0, EOS] == pytest.approx(trigram, rel=1e-6)


def test_unigram_is_relative_frequency_when_every_id_occurs():
    sentences = [[4, 5, 6], [4, 7, 8, UNK], [4]]
    row = build(sentences).probabilities(np.array([[BOS, BOS]]), order=1)[0]
    np.testing.assert_allclose(row, np.array([0, 0, 3, 1, 3, 1, 1, 1, 1]) / 11, rtol=1e-6)


def test_unseen_words_keep_some_probability():
    rows = build(TOY).probabilities(all_contexts())
    assert (rows[:, 8] > 0).all()


def test_unseen_context_falls_back():
    model = build(TOY)
    # (7, 6) and (8, 6) never occur: both are left with what the level below the trigram says after 6.
    rows = model.probabilities(np.array([[7, 6], [8, 6], [BOS, 6]]))
    np.testing.assert_array_equal(rows[0], rows[1])
    assert np.abs(rows[0] - rows[2]).max() > 0.01  # (BOS, 6) does occur
    # 8 never occurs: nothing is left but the unigram.
    unseen = model.probabilities(np.array([[4, 8], [8, 8]]))
    np.testing.assert_array_equal(unseen[0], unseen[1])


def test_bigram_and_unigram_do_not_depend_on_the_order_built():
    contexts = all_contexts()
    for order in (1, 2):
        alone = build(TOY, order=order).probabilities(contexts)
        np.testing.assert_array_equal(build(TOY, order=3).probabilities(contexts, order), alone)


def test_chunks_and_order_of_contexts_change_nothing():
    model, contexts = build(TOY), all_contexts()
    whole = model.probabilities(contexts)
    parts = [model.probabilities(contexts[:7]), model.probabilities(contexts[7:])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(model.probabilities(contexts[::-1]), whole[::-1])
    assert model.probabilities(contexts[:0]).shape == (0, VOCABULARY_SIZE)


def test_previous_two_never_looks_ahead():
    tokens = np.array([[BOS, 4, 5, 6], [BOS, 7, PAD, PAD]])
    contexts = previous_two(tokens)
    assert contexts.tolist() == [
        [[BOS, BOS], [BOS, 4], [4, 5], [5, 6]],
        [[BOS, BOS], [BOS, 7], [7, PAD], [PAD, PAD]],
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentences": []}, "sentences must hold at least one sentence, got 0"),
        ({"sentences": [[4, 9]]}, r"sentences must hold ids in 3\.\.8, got 9"),
        ({"sentences": [[EOS]]}, r"sentences must hold ids in 3\.\.8, got 2"),
        ({"sentences": [[4.5]]}, "sentences must hold integer ids, got dtype float64"),
        ({"vocabulary_size": 4}, "got vocabulary_size=4"),
        ({"vocabulary_size": 2**21}, "got vocabulary_size=2097152"),
        ({"order": 4}, "order must be in 1..3, got order=4"),
        ({"order": 0}, "order must be in 1..3, got order=0"),
        ({"discount": -0.5}, "discount must be in 0..1, got discount=-0.5"),
        ({"discount": 1.5}, "discount must be in 0..1, got discount=1.5"),
        ({"discount": float("nan")}, "discount must be in 0..1, got discount=nan"),
    ],
)
def test_bad_arguments_of_build(options, message):
    arguments = {"sentences": TOY, "vocabulary_size": VOCABULARY_SIZE, **options}
    arguments["sentences"] = [np.array(sentence) for sentence in arguments["sentences"]]
    with pytest.raises(ValueError, match=message):
        build_kneser_ney(**arguments)


@pytest.mark.parametrize(
    ("contexts", "order", "message"),
    [
        ([[4, 5]], 3, "order must be in 1..2, got order=3"),
        ([[4, 5]], 0, "order must be in 1..2, got order=0"),
        ([[4]], 2, r"contexts must have the shape \[n, 2\], got shape \(1, 1\)"),
        ([4, 5], 2, r"got shape \(2,\)"),
        ([[4, 9]], 2, r"contexts must hold ids in 0\.\.8, got 9"),
        ([[-1, 4]], 2, r"contexts must hold ids in 0\.\.8, got -1"),
    ],
)
def test_bad_arguments_of_probabilities(contexts, order, message):
    with pytest.raises(ValueError, match=message):
        build(TOY, order=2).probabilities(np.array(contexts), order)


def test_previous_two_refuses_flat_tokens():
    with pytest.raises(ValueError, match=r"tokens must have the shape \[rows, time\], got shape \(2,\)"):
        previous_two(np.array([BOS, 4]))
