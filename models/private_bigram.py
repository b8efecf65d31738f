"""A bigram model from one noisy sum over people: what each person adds to the sum, and what the noisy sum predicts.

A person's vector has two parts. The first is how often they typed each id, the second which pairs of a short list they
typed at all: whether, not how often, since one talkative person says little of what others type. Each part has a fixed
L2 norm, both together 1. So whoever is added to the sum or taken out of it moves it by at most 1.

All that is done with the noisy sum costs no privacy. A cell that is no longer than a few standard deviations of the
noise counts as nothing. With k the sum of what is left after h and s the noise's standard deviation:

    p(w | h) = k / (k + 100 s) * cell(h w) / k + 100 s / (k + 100 s) * p(w)

p(w) is what is left of the first part, and for the other words, together 20 %, falls as 1 / place in the word list:
Zipf's law. The two numbers and the bounds below were chosen on the dev people of the built-in text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.client_data import Sentences
from models.interpolated_rows import InterpolatedRows, Likeliest, list_likeliest
from models.vocabulary import BOS, EOS, NUM_SPECIAL, UNK

WORDS_SHARE = 0.4  # the L2 norm of the first part; that of the second follows
_WORD_BOUND, _PAIR_BOUND = 3.0, 2.5  # in standard deviations of the noise
_LOWER_ORDER = 100.0  # the weight of p(w), in standard deviations of the noise
_TAIL = 0.2  # the share of the words that nothing is left of


@dataclass(frozen=True)
class Slots:
    """Where a vector holds what.

    Attributes:
      vocabulary_size: ids that may be typed.
      pair_words: the words, first in the word list, of which pairs are counted; a pair may also begin a sentence with
        one or end it after one.
    """

    vocabulary_size: int
    pair_words: int

    def __post_init__(self) -> None:
        most = self.vocabulary_size - NUM_SPECIAL
        if not 1 <= self.pair_words <= most:
            raise ValueError(f"pair_words must be in 1..{most}, got pair_words={self.pair_words}")

    @property
    def side(self) -> int:
        """Rows and columns of the table of pairs: that of the sentence's edge comes first."""
        return self.pair_words + 1

    @property
    def size(self) -> int:
        """The length of a vector."""
        return self.vocabulary_size + self.side**2

    def place(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Returns the row or column of each id, 0 for BOS and EOS; -1 for an id that has none.

        >>> Slots(vocabulary_size=10, pair_words=2).place(np.array([BOS, EOS, UNK, 4, 5, 6])).tolist()
        [0, 0, -1, 1, 2, -1]
        """
        places = np.asarray(ids, np.int64) - NUM_SPECIAL + 1
        places = np.where((places < 1) | (places > self.pair_words), -1, places)
        return np.where((ids == BOS) | (ids == EOS), 0, places)


def read_positions(sentences: Sentences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns (the id before each position, the id at it) of at least one sentence; each ends with EOS.

    >>> [ids.tolist() for ids in read_positions((np.array([4, 5]), np.array([6])))]
    [[1, 4, 5, 1, 6], [4, 5, 2, 6, 2]]
    """
    before = np.concatenate([np.append(BOS, own) for own in sentences])
    return before.astype(np.int64), np.concatenate([np.append(own, EOS) for own in sentences]).astype(np.int64)


def person_vector(sentences: Sentences, slots: Slots) -> NDArray[np.float32]:
    """Returns what one person adds to the sum, float32 [slots.size], of an L2 norm of at most 1.

    Two words, "4 4": id 4 twice and EOS once, pairs (edge, 4), (4, 4) and (4, edge).

    >>> vector = person_vector((np.array([4, 4]),), Slots(vocabulary_size=6, pair_words=1))
    >>> (1000 * vector).astype(int).tolist()
    [0, 0, 178, 0, 357, 0, 0, 529, 529, 529]
    """
    before, after = read_positions(sentences)
    words = np.bincount(after, minlength=slots.vocabulary_size).astype(np.float64)
    rows, columns = slots.place(before), slots.place(after)
    known = (rows >= 0) & (columns >= 0)
    pairs = np.zeros(slots.side**2)
    pairs[rows[known] * slots.side + columns[known]] = 1.0
    parts = _scaled(words, WORDS_SHARE), _scaled(pairs, np.sqrt(1 - WORDS_SHARE**2))
    return np.concatenate(parts).astype(np.float32)


def _scaled(part: NDArray[np.float64], norm: float) -> NDArray[np.float64]:
    length = np.linalg.norm(part)
    return part * (norm / length) if length else part


@dataclass(frozen=True)
class PrivateBigram:
    """What a noisy sum predicts; `build_private_bigram` makes it.

    Attributes:
      words: p(id), float32 [vocabulary_size].
      pairs: cells that stand out of the noise, float32 [side, side].
      noise_std: of a cell.
    """

    slots: Slots
    words: NDArray[np.float32]
    pairs: sparse.csr_matrix
    noise_std: float

    def rows(self, before: NDArray[np.integer]) -> Iterator[NDArray[np.float32]]:
        """Yields p(next id | the id before), each float32 [vocabulary_size], in the same memory; it sums to one.

        Args:
          before: [n], ids; BOS before the first word.
        """
        row = np.empty_like(self.words)
        for place in self.slots.place(before):
            share, ids, added = self._after(place)
            np.multiply(self.words, share, out=row)
            row[ids] += added
            yield row

    def interpolated(self, before: NDArray[np.integer]) -> InterpolatedRows:
        """Returns the same rows, of which only what is asked for is written out."""
        places, which = np.unique(self.slots.place(before), return_inverse=True)
        shares, ids, added = zip(*map(self._after, places))
        ends = np.append(0, np.cumsum([len(own) for own in ids]))
        shape = len(places), len(self.words)
        parts = sparse.csr_matrix((np.concatenate(added), np.concatenate(ids), ends), shape)
        return InterpolatedRows(
            self.words[np.newaxis], np.zeros_like(which), self._likeliest, np.array(shares)[which], parts[which]
        )

    def _after(self, place: int) -> tuple[np.float32, NDArray[np.int64], NDArray[np.float32]]:
        """Returns (the share that p(w) has after a place, the ids that pairs add to, ascending, what they add)."""
        own = slice(*self.pairs.indptr[place : place + 2]) if place >= 0 else slice(0)
        cells, columns = self.pairs.data[own], self.pairs.indices[own]
        total = float(cells.sum())
        share = total / (total + _LOWER_ORDER * self.noise_std)
        ids = np.where(columns == 0, EOS, columns + NUM_SPECIAL - 1).astype(np.int64)
        return np.float32(1 - share), ids, cells * np.float32(share / total if total else 0)

    @cached_property
    def _likeliest(self) -> Likeliest:
        """The likeliest words of p(w)."""
        no_pairs = sparse.csr_matrix((1, len(self.words)), dtype=np.float32)
        return list_likeliest(self.words, np.ones(1, np.float32), no_pairs)


def build_private_bigram(noisy: NDArray[np.floating], noise_std: float, slots: Slots) -> PrivateBigram:
    """Returns the model of a noisy sum of people's vectors.

    Args:
      noisy: [slots.size].
      noise_std: the standard deviation of the noise in each slot, above 0.
      slots: of the vectors.

    Raises:
      ValueError: another length.
    """
    if noisy.shape != (slots.size,):
        raise ValueError(f"noisy must have the shape [{slots.size}], got shape {noisy.shape}")
    words = noisy[: slots.vocabulary_size].astype(np.float64)
    words[:EOS] = 0.0  # PAD and BOS never come next
    words = np.where(words > _WORD_BOUND * noise_std, words, 0.0)
    tail = np.where(words > 0, 0.0, 1.0 / np.maximum(1, np.arange(slots.vocabulary_size) - NUM_SPECIAL + 1))
    tail[:UNK] = 0.0
    shares = {True: (1 - _TAIL, _TAIL), False: (0.0, 1.0)}[bool(words.any())]
    chances = sum(share * part / max(part.sum(), 1e-30) for share, part in zip(shares, (words, tail)))
    pairs = noisy[slots.vocabulary_size :].astype(np.float32).reshape(slots.side, slots.side)
    pairs = np.where(pairs > _PAIR_BOUND * noise_std, pairs, np.float32(0))
    return PrivateBigram(slots, (chances / chances.sum()).astype(np.float32), sparse.csr_matrix(pairs), noise_std)
