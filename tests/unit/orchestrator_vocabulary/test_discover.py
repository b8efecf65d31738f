"""Finding words: exact without noise, and with noise hardly a word that too few people use."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from orchestrator.aggregator import PlainSum
from orchestrator.errors import BelowThreshold
from orchestrator.rounds.build import build_aggregator
from orchestrator.settings.sections import AggregationConfig
from orchestrator.vocabulary.discover import RepeatedTotal, SecureTotal, discover, ranked
from orchestrator.vocabulary.prefix_tree import Level, choose_nodes


def people_with_words(rng, num_people=30, num_words=60):
    """{person: Counter}, from words of one to nine letters, many of them each other's prefixes."""
    words = sorted({"".join(rng.choice(list("abc"), rng.integers(1, 10))) for _ in range(num_words)})
    share = rng.uniform(0, 1, len(words))
    return {
        f"p{i}": Counter({w: int(rng.integers(1, 9)) for w, s in zip(words, share) if rng.random() < s})
        for i in range(num_people)
    }


def users(people):
    return Counter(word for own in people.values() for word in own)


@pytest.mark.parametrize("aggregator", ["plain", "secagg", "encrypted", "split"])
def test_without_noise_the_list_is_exactly_the_words_of_k_people(aggregator):
    people = people_with_words(np.random.default_rng(0), num_people=12, num_words=25)
    nodes = {person: choose_nodes(own, 10**6) for person, own in people.items()}
    secure = SecureTotal(nodes, build_aggregator(AggregationConfig(aggregator=aggregator)), 0.0)
    found = discover(secure, "abc", k=5, noise_std=0.0)
    assert found.counts == {word: count for word, count in users(people).items() if count >= 5}
    assert len(found.counts) > 3


def test_exact_for_every_k():
    people = people_with_words(np.random.default_rng(1))
    nodes = {person: choose_nodes(own, 10**6) for person, own in people.items()}
    for k in (1, 2, 10, 29):
        found = discover(RepeatedTotal(nodes, 0.0), "abc", k, 0.0)
        assert found.counts == {word: count for word, count in users(people).items() if count >= k}


def test_words_with_other_letters_are_never_found():
    nodes = {f"p{i}": choose_nodes({"ab": 1, "ça": 1}, 100) for i in range(9)}
    assert discover(RepeatedTotal(nodes, 0.0), "ab", 5, 0.0).counts == {"ab": 9}


def test_a_sum_without_everybody_is_refused():
    class LosesOne:
        name = "plain"

        def sum(self, vectors, cohort, drops):
            return PlainSum().sum(list(vectors)[1:], cohort, drops)

    nodes = {f"p{i}": choose_nodes({"ab": 1}, 9) for i in range(4)}
    with pytest.raises(BelowThreshold):
        SecureTotal(nodes, LosesOne(), 4.0)(Level("ab", ()))


def test_rare_words_stay_out_of_a_noisy_list():
    """n = 300 words that 9 people use, k = 10: each is listed with 0.13 % at most; false alarm below 1e-6."""
    words = ["".join(np.random.default_rng(i).choice(list("abcdef"), 6)) for i in range(300)]
    own = choose_nodes(Counter(words), 10**6)
    nodes = {f"p{i}": own for i in range(9)}
    variance = 25.0
    rng = np.random.default_rng(4)
    found = discover(RepeatedTotal(nodes, variance, random_bytes=rng.bytes), "abcdef", 10, 5.0)
    assert len(set(found.counts) & set(words)) <= stats.binom.isf(1e-6, 300, stats.norm.sf(3))


def test_what_nobody_uses_hardly_passes():
    """n = 50 trees that nobody fills: 0.2 false words a level on average, a dozen levels; false alarm below 1e-6."""
    rng = np.random.default_rng(8)
    found = [
        len(discover(RepeatedTotal({}, 400.0, random_bytes=rng.bytes), "abcde", 10, 20.0).counts) for _ in range(50)
    ]
    assert sum(found) <= stats.poisson.isf(1e-6, 50 * 0.2 * 12)


def test_ranks_are_by_count():
    assert ranked({"b": 3, "a": 3, "c": 9}, 2) == ("c", "a")
