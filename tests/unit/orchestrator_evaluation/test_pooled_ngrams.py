"""The baselines' scores, worked out row by row, are those of whole rows; and which n-gram is the best."""

from __future__ import annotations

import numpy as np
import pytest

from models.metrics import score_positions
from models.modified_kneser_ney import build_modified_kneser_ney, previous_ids
from models.ngram import build_kneser_ney
from orchestrator.evaluation.pooled_ngrams import PooledNgrams
from orchestrator.evaluation.results import BASELINES, MODIFIED

SIZE, TIME = 40, 12


def sentences(seed, number):
    rng = np.random.default_rng(seed)
    return tuple(4 + (rng.geometric(0.15, rng.integers(1, 12)).astype(np.int32) % (SIZE - 4)) for _ in range(number))


@pytest.fixture(scope="module")
def text():
    return sentences(0, 400)


@pytest.fixture(scope="module")
def ngrams(text):
    return PooledNgrams(text, SIZE, TIME)


@pytest.fixture(scope="module")
def positions():
    """(contexts, targets, person) of a few sentences of three people, most words of them more than once."""
    rows = [[1, *sentence] for sentence in sentences(1, 60)]
    contexts = [previous_ids(np.array([row]), 4)[0, :-1] for row in rows]
    targets = np.concatenate([row[1:] for row in rows])
    return np.concatenate(contexts), targets, np.arange(len(targets)) % 3


def assert_same(found, rows, targets, person):
    expected = score_positions(rows, targets, person)
    for name in ("hit1", "hit3", "nll_nats", "person"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


def test_every_baseline_s_scores_are_those_of_whole_rows_to_the_bit(text, ngrams, positions):
    contexts, targets, person = positions
    found = dict(ngrams.score(contexts, ngrams.after(contexts), targets, person))
    assert list(found) == [*BASELINES, *MODIFIED.values()]
    one_discount, after = build_kneser_ney(text, SIZE), build_modified_kneser_ney(text, SIZE).after(contexts)
    for order, name in enumerate(BASELINES, 1):
        assert_same(found[name], one_discount.probabilities(contexts[:, -2:], order), targets, person)
    for order, name in MODIFIED.items():
        assert_same(found[name], after.probabilities(order), targets, person)


def test_the_best_order_is_the_one_that_proposes_most_of_these_people_s_words_first(ngrams, text):
    # Four words decide the next: only the 5-gram knows. Else the tie goes to the lowest order.
    rng = np.random.default_rng(3)
    rules = [np.array([a, 5, 6, 7, b], np.int32) for a, b in ((8, 9), (10, 11), (12, 13))] * 30
    told = PooledNgrams(tuple(rng.permutation(np.array(rules))), SIZE, TIME)
    assert told.best_order({"ann": rules}) == 5
    assert told.best_order({"ann": [np.array([20, 21], np.int32)]}) == 3
    people = {"ann": text[:50], "bob": text[50:90]}
    hits = dict.fromkeys(MODIFIED, 0)
    for own in people.values():
        for sentence in own:
            row = np.array([[1, *sentence]])
            contexts = previous_ids(row[:, :TIME], 4)[0]
            for (order, name), count in zip(MODIFIED.items(), [len(sentence)] * 3):
                after = ngrams.after(contexts[:count])
                scores = dict(ngrams.score(contexts[:count], after, sentence[:TIME], np.zeros(count, int)))[name]
                hits[order] += scores.hit1.sum()
    assert ngrams.best_order(people) == max(hits, key=lambda order: hits[order])
