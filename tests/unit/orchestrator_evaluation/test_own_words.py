"""The cache of a person's own words, against whole rows, and what it is compared with."""

from __future__ import annotations

import numpy as np
import pytest

from models.metrics import ClientSums, score_positions
from models.modified_kneser_ney import build_modified_kneser_ney, previous_ids
from models.ngram import build_kneser_ney
from orchestrator.evaluation.mixture import MIXING_WEIGHTS
from orchestrator.evaluation.own_words import Cache, split_text
from orchestrator.evaluation.pooled_ngrams import PooledNgrams

SIZE, TIME = 30, 6


def sentences(seed, number):
    rng = np.random.default_rng(seed)
    return tuple(3 + (rng.geometric(0.2, rng.integers(1, 9)) % (SIZE - 3)).astype(np.int32) for _ in range(number))


POOLED = sentences(0, 300)
PEOPLE = {"ann": sentences(1, 25), "bob": sentences(2, 40)}


@pytest.fixture(scope="module")
def cache():
    return Cache(PooledNgrams(POOLED, SIZE, TIME), 4)


def rows_of(own):
    """(targets, the person's own rows, the pooled rows) of a person's later text, from the definitions."""
    cut = len(own) - round(len(own) / 5)
    bigram = build_kneser_ney(own[:cut], SIZE, order=2)
    contexts, targets = [], []
    for sentence in own[cut:]:
        words = sentence[:TIME]
        scored = words >= 4
        contexts.append(previous_ids(np.array([[1, *words[:-1]]]), 4)[0][scored])
        targets.append(words[scored])
    contexts, targets = np.concatenate(contexts), np.concatenate(targets)
    pooled = build_modified_kneser_ney(POOLED, SIZE).after(contexts).probabilities(4)
    return targets, bigram.probabilities(contexts[:, -2:]), pooled


def test_the_cache_is_scored_as_whole_rows_are(cache):
    sums = cache.sums(PEOPLE, 0.3)
    for person, own in enumerate(PEOPLE.values()):
        targets, own_rows, pooled = rows_of(own)
        mixed = np.float32(0.3) * own_rows + np.float32(0.7) * pooled
        expected = score_positions(mixed, targets, np.zeros(len(targets), int)).client_sums(1)
        for name in ("hits1", "hits3", "positions"):
            assert getattr(sums, name)[person] == getattr(expected, name)[0]
        assert sums.nll_sum_nats[person] == pytest.approx(expected.nll_sum_nats[0], rel=1e-5)
        later = own[-round(len(own) / 5) :]
        assert sums.oov[person] == sum(int(np.sum(words[:TIME] == 3)) for words in later)


def test_the_share_is_the_one_that_proposes_most_of_these_words_first(cache):
    hits = dict.fromkeys(MIXING_WEIGHTS, 0)
    for own in PEOPLE.values():
        targets, own_rows, pooled = rows_of(own)
        for share in hits:
            mixed = np.float32(share) * own_rows + np.float32(1 - share) * pooled
            hits[share] += int(np.sum(4 + mixed[:, 4:].argmax(axis=1) == targets))
    assert cache.best_share(PEOPLE) == max(hits, key=lambda share: hits[share])
    # Who always types what nobody else does is served by what they typed before.
    odd = tuple(np.array([28, 27, 29, 26], np.int32) for _ in range(25))
    assert cache.sums({"eve": odd}, 0.9).hits1[0] == 4 * 5
    assert cache.sums({"eve": odd}, 0.1).hits1[0] < 4 * 5


@pytest.mark.slow  # loads TensorFlow Federated
def test_fine_tuning_is_compared_with_the_cache_on_the_same_words():
    from orchestrator.evaluation.personal import CacheSums, Setting, personal_gains

    def sums(*hits):
        count = np.array(hits)
        return ClientSums(count, count, np.ones(len(hits)), np.full(len(hits), 10), np.zeros(len(hits), int))

    setting = Setting(0.3, 1, 1.0)
    gains = personal_gains(setting, sums(1, 2, 3), sums(4, 5, 3), CacheSums(0.3, sums(2, 2, 2)))
    assert gains.cache.own_share == 0.3
    assert gains.cache.score.top1 == pytest.approx(0.2)
    assert gains.cache.tuned_minus_cache == pytest.approx(0.2)
    low, high = gains.cache.tuned_minus_cache_interval
    assert 0.1 - 1e-9 <= low < 0.2 < high <= 0.3 + 1e-9
    assert personal_gains(setting, sums(1, 2), sums(1, 2)).cache is None


def test_at_least_one_sentence_is_later():
    assert [len(part) for part in split_text([np.array([4])] * 2)] == [1, 1]
