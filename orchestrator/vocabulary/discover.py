"""Finds the words that at least k people use: opens a prefix tree level by level, and looks at noisy sums only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.corpus import ClientId
from orchestrator.aggregator import Aggregator, Cohort
from orchestrator.errors import BelowThreshold
from orchestrator.vocabulary.prefix_tree import END, Level
from orchestrator.vocabulary.skellam import RandomBytes, draw_skellam, secret_bytes

WORD_SIGMAS = 3.0  # at least: a word that fewer than k people use is listed with a chance of 0.13 %
PREFIX_SIGMAS = 2.5  # at least: a dead prefix then opens 41 * 0.0062 = 0.25 others, so false paths end
FALSE_WORDS, FALSE_PREFIXES = 0.2, 16.0  # how many that nobody uses may pass at a level, on average
_MAX_LEVELS = 60  # no word is longer; false paths end long before
_MAX_SLOTS = 20_000_000  # of one level: 80 MB a client

Total = Callable[[Level], NDArray[np.int64]]  # a level's noisy sum, int64 [num_slots]


@dataclass(frozen=True)
class Discovery:
    """The words that were found, and how long the vectors were."""

    counts: Mapping[str, int]  # each word's noisy count of people
    level_slots: tuple[int, ...]  # the length of a client's vector at each level


def discover(total_of: Total, letters: str, k: int, noise_std: float) -> Discovery:
    """Finds the words whose noisy count of people stands out of the noise above k.

    The bounds lie far enough above k that few of the many nodes that nobody uses pass. All this is post-processing of
    noisy sums: it costs no privacy.

    Args:
      total_of: sums a level over the people, with noise.
      letters: what words are made of; public, so it must not depend on the text.
      k: people.
      noise_std: of a slot of total_of.

    Raises:
      VocabularyDiscoveryError: the letters are no alphabet.
      BelowThreshold: the sum was not made.
    """
    counts: dict[str, int] = {}
    level, slots = Level(letters, ()), []
    for _ in range(_MAX_LEVELS):
        total = total_of(level)
        slots.append(level.num_slots)
        ends = np.array([node.endswith(END) for node in level.nodes])
        word_bound = k + noise_std * max(WORD_SIGMAS, _sigmas(FALSE_WORDS, ends.sum()))
        prefix_bound = k + noise_std * max(PREFIX_SIGMAS, _sigmas(FALSE_PREFIXES, (~ends).sum()))
        counts.update((level.nodes[i].rstrip(END), int(total[i])) for i in np.flatnonzero(ends & (total >= word_bound)))
        opened = tuple(level.nodes[i] for i in np.flatnonzero(~ends & (total >= prefix_bound)))
        if not opened:
            break
        level = Level(letters, opened)
    return Discovery(counts, tuple(slots))


def _sigmas(expected: float, candidates: int) -> float:
    """Returns the bound, in standard deviations, that `expected` of `candidates` nodes without people exceed."""
    return float(stats.norm.isf(min(0.5, expected / candidates)))


@dataclass(frozen=True)
class SecureTotal:
    """Sums a level by an aggregator; each client adds its share of the noise, so nobody sees a sum without it.

    Every person must be summed: a share that is missing would be noise that is missing.
    """

    nodes: Mapping[ClientId, frozenset[str]]
    aggregator: Aggregator
    variance: float
    random_bytes: RandomBytes = secret_bytes

    def __call__(self, level: Level) -> NDArray[np.int64]:
        """See Total."""
        num_slots, share = level.num_slots, self.variance / len(self.nodes)
        if num_slots > _MAX_SLOTS:
            raise BelowThreshold(
                f"a level has {num_slots:,} slots, and at most {_MAX_SLOTS:,} can be summed: raise --epsilon or --k"
            )

        def vector(own: frozenset[str]) -> NDArray[np.uint32]:
            counts = draw_skellam(share, num_slots, self.random_bytes)
            counts[level.slots(own)] += 1
            return counts.astype(np.uint32)  # two's complement

        cohort = Cohort(1 + level.depth, tuple(self.nodes), len(self.nodes))
        vectors = ((person, vector(own)) for person, own in self.nodes.items())
        return self.aggregator.sum(vectors, cohort, {}).total.view(np.int32).astype(np.int64)


@dataclass(frozen=True)
class RepeatedTotal:
    """Sums a level in the clear as if each person were `times` people, to show what more people would give."""

    nodes: Mapping[ClientId, frozenset[str]]
    variance: float
    times: int = 1
    random_bytes: RandomBytes = secret_bytes

    def __call__(self, level: Level) -> NDArray[np.int64]:
        """See Total."""
        counts = draw_skellam(self.variance, level.num_slots, self.random_bytes)
        for own in self.nodes.values():
            counts[level.slots(own)] += self.times
        return counts


def ranked(counts: Mapping[str, int], max_words: int) -> tuple[str, ...]:
    """Returns at most max_words words, the most used first; words of equal counts are in alphabetical order.

    >>> ranked({"you": 12, "see": 40, "be": 12}, max_words=2)
    ('see', 'be')
    """
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:max_words])
