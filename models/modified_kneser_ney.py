"""Builds the strong baselines: interpolated modified Kneser-Ney of order 3 and more, as dense probabilities.

An event is what may come next: a word (id >= 4), UNK or EOS. A sentence begins with one BOS, so the context of its
first word is BOS alone. With c the count of an n-gram, h its context, h' that without its first id:

    p(w | h) = (c(h w) - D(c(h w))) / c(h) + (D1 N1(h) + D2 N2(h) + D3 N3(h)) / c(h) * p(w | h')

N1, N2 and N3 are the numbers of words that were seen once, twice and more often after h. c is the plain count at the
highest order; below it, the number of different words in front of the n-gram, or the plain count if it begins with BOS.
Each order has discounts of its own, estimated from n1 to n4, the numbers of its n-grams with counts 1 to 4:

    Y = n1 / (n1 + 2 n2),  D1 = 1 - 2 Y n2 / n1,  D2 = 2 - 3 Y n3 / n2,  D3 = 3 - 4 Y n4 / n3

The recursion ends in the uniform distribution over events.

Source: Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", equation 26; Heafield
et al. 2013, "Scalable Modified Kneser-Ney Language Model Estimation", on adjusted counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.interpolated_rows import InterpolatedRows, Likeliest, list_likeliest
from models.ngram import check_ids, check_vocabulary_size
from models.vocabulary import BOS, EOS, UNK

LOWEST_ORDER = 3
FALLBACK = (0.5, 1.0, 1.5)  # where a text is too small to estimate discounts: KenLM's --discount_fallback
_UNSEEN = -1


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length: what each seen context says, and the share that it leaves to the shorter context.

    The last row is that of every unseen context: nothing was seen there, and the whole share is left over.
    """

    seen: sparse.csr_matrix  # float32 [num_contexts + 1, vocabulary_size]; discounted shares
    left_over: NDArray[np.float32]  # [num_contexts + 1], in 0..1


@dataclass(frozen=True)
class Continuations:
    """What the models of all orders say after some contexts; `ModifiedKneserNey.after` makes it."""

    _bigram: NDArray[np.float32]  # [distinct, vocabulary_size], once for each id that a context ends in
    _bigram_of: NDArray[np.int64]  # [n], the row of it that is a position's
    _likeliest: Likeliest  # of the rows of _bigram
    _rows: Sequence[NDArray[np.int64]]  # [n] each, a position's rows in the levels of lengths 2, 3, ...
    _lower: Sequence[_Level]
    _tops: Mapping[int, _Level]

    def rows(self, order: int) -> InterpolatedRows:
        """Returns p(next id | context) by the model of an order.

        Raises:
          ValueError: an order that was not built.
        """
        if order not in self._tops:
            raise ValueError(f"order must be in {LOWEST_ORDER}..{max(self._tops)}, got order={order}")
        return InterpolatedRows(self._bigram, self._bigram_of, self._likeliest, *self._parts(order))

    def probabilities(self, order: int) -> NDArray[np.float32]:
        """Returns p(next id | context) by the model of an order, float32 [n, vocabulary_size].

        Rows sum to one, PAD and BOS get 0. The answer takes 4 * n * vocabulary_size bytes: pass long texts in chunks.

        Raises: as rows.
        """
        return self.rows(order).dense()

    def _parts(self, order: int) -> tuple[NDArray[np.float32], sparse.csr_matrix]:
        """Returns (the bigram's share in each position's row, [n]; what longer contexts add, [n, vocabulary_size])."""
        level, which = self._tops[order], self._rows[order - 2]
        added, share = level.seen[which], level.left_over[which]  # _UNSEEN is the last row
        for length in range(order - 1, 2, -1):
            level, which = self._lower[length - 1], self._rows[length - 2]
            seen = level.seen[which]
            seen.data *= np.repeat(share, np.diff(seen.indptr))
            added, share = added + seen, share * level.left_over[which]
        return share, added


@dataclass(frozen=True)
class ModifiedKneserNey:
    """Smoothed n-gram models of the orders from LOWEST_ORDER to `order`; `build_modified_kneser_ney` makes it.

    Attributes:
      vocabulary_size: number of ids.
      order: the highest.
      discounts: (D1, D2, D3) at the top of each order's model.
    """

    vocabulary_size: int
    order: int
    discounts: Mapping[int, tuple[float, float, float]]
    _contexts: tuple[NDArray[np.int64], ...]  # of lengths 1 to order - 1: packed, ascending
    _lower: tuple[_Level, ...]  # n-grams of lengths 1 to order - 1, by the words in front
    _tops: Mapping[int, _Level]  # {order: by plain counts}

    def after(self, contexts: NDArray[np.integer]) -> Continuations:
        """Returns what the models say after these contexts; each order is a model in its own right.

        Args:
          contexts: [n, order - 1], the ids before each position, oldest first; BOS before the first word. A lower order
            does not look at the older ones.

        Raises:
          ValueError: contexts of another shape or beyond the vocabulary.
        """
        contexts = np.asarray(contexts)
        if contexts.ndim != 2 or contexts.shape[1] != self.order - 1:
            raise ValueError(f"contexts must have the shape [n, {self.order - 1}], got shape {contexts.shape}")
        check_ids("contexts", contexts, 0, self.vocabulary_size)
        rows = list(self._rows_of(contexts))
        _, at, bigram_of = np.unique(rows[0], return_index=True, return_inverse=True)
        level, which = self._lower[1], rows[0][at]
        bigram = level.left_over[which, np.newaxis] * self._unigram()
        seen = level.seen[which].tocoo()
        bigram[seen.row, seen.col] += seen.data
        return Continuations(bigram, bigram_of, self._likeliest.of(which), rows, self._lower, self._tops)

    @cached_property
    def _likeliest(self) -> Likeliest:
        """The likeliest words after each id."""
        return list_likeliest(self._unigram()[0], self._lower[1].left_over, self._lower[1].seen)

    def _unigram(self) -> NDArray[np.float32]:
        """Returns the lowest level, [1, vocabulary_size]: what was seen at all, and the same share for every event."""
        unigram = np.zeros((1, self.vocabulary_size), np.float32)
        unigram[:, EOS:] = self._lower[0].left_over[0] / (self.vocabulary_size - EOS)  # PAD and BOS never come next
        seen = self._lower[0].seen
        unigram[0, seen.indices] += seen.data
        return unigram

    def _rows_of(self, contexts: NDArray[np.integer]) -> Iterator[NDArray[np.int64]]:
        """Yields the row of each position's context of length 1, 2, ... in its table, int64 [n]; _UNSEEN where none."""
        rows, num_shorter = np.zeros(len(contexts), np.int64), 1
        for length, known in enumerate(self._contexts, 1):
            ids = contexts[:, -length].astype(np.int64)
            keys = ids * num_shorter + rows
            found = np.searchsorted(known, keys)
            is_known = (np.append(known, _UNSEEN)[found] == keys) & (rows != _UNSEEN)
            if length > 1:
                is_known &= contexts[:, -length + 1] != BOS  # nothing stands before a sentence
            rows, num_shorter = np.where(is_known, found, _UNSEEN), len(known)
            yield rows


def build_modified_kneser_ney(
    sentences: Iterable[NDArray[np.integer]], vocabulary_size: int, order: int = 5
) -> ModifiedKneserNey:
    """Returns the models of the orders LOWEST_ORDER to `order`, counted from the sentences.

    Args:
      sentences: word ids [num_words] each, UNK (3) to vocabulary_size - 1; BOS and EOS are added here.
      vocabulary_size: number of ids, the four special ones included.
      order: of the longest n-grams.

    Raises:
      ValueError: no sentence, an id outside the range, or an argument outside its own.
    """
    check_vocabulary_size(vocabulary_size)
    if order < LOWEST_ORDER:
        raise ValueError(f"order must be at least {LOWEST_ORDER}, got order={order}")
    events, before = _positions([np.asarray(sentence) for sentence in sentences], vocabulary_size, order - 1)
    contexts = [np.zeros(1, np.int64)]  # by length; of length 0 there is one
    rows = np.zeros(len(events), np.int64)
    ngrams: list[NDArray[np.int64]] = []  # by length, from 1: packed (row of the context, event), ascending
    counts: list[NDArray[np.int64]] = []
    for length in range(order):
        if length:
            exists = (before[:, -length + 1] != BOS) if length > 1 else np.ones(len(events), bool)
            events, before, rows = events[exists], before[exists], rows[exists]
            known, rows = np.unique(before[:, -length] * len(contexts[-1]) + rows, return_inverse=True)
            contexts.append(known)
        own, own_counts = np.unique(rows * vocabulary_size + events, return_counts=True)
        ngrams.append(own)
        counts.append(own_counts)
    lower, tops, discounts = [], {}, {}
    for length in range(1, order + 1):
        own, plain = ngrams[length - 1], counts[length - 1]
        if length >= LOWEST_ORDER:
            discounts[length] = estimate_discounts(plain)
            tops[length] = _build_level(own, plain, len(contexts[length - 1]), vocabulary_size, discounts[length])
        if length < order:
            adjusted = _words_in_front(ngrams, counts, contexts, length, vocabulary_size)
            level = _build_level(
                own, adjusted, len(contexts[length - 1]), vocabulary_size, estimate_discounts(adjusted)
            )
            lower.append(level)
    return ModifiedKneserNey(vocabulary_size, order, discounts, tuple(contexts[1:]), tuple(lower), tops)


def estimate_discounts(counts: NDArray[np.integer]) -> tuple[float, float, float]:
    """Returns what is taken off the counts 1, 2 and 3 or more; FALLBACK where too little was counted to tell.

    A discount of 0 is no estimate, either: whatever a context had not before it would be impossible.

    n1 = 4, n2 = 2, n3 = n4 = 1: Y = 4 / 8, D1 = 1 - 2 / 2 * 2 / 4, D2 = 2 - 3 / 2 * 1 / 2, D3 = 3 - 4 / 2.

    >>> estimate_discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4, 9]))
    (0.5, 1.25, 1.0)
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not n1 * n2 * n3:
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return discounts if all(0 < own <= count for count, own in enumerate(discounts, 1)) else FALLBACK


def previous_ids(tokens: NDArray[np.integer], number: int) -> NDArray[np.int32]:
    """Returns the ids up to each position, int32 [rows, time, number], from the model's input tokens.

    The n-gram models are therefore asked at the very positions at which the neural model is asked.

    Args:
      tokens: [rows, time], each row BOS, w1, w2, ... as in `models.batches`.
      number: of ids, oldest first; BOS before the first word.

    Raises:
      ValueError: tokens not two-dimensional.

    >>> previous_ids(np.array([[BOS, 7, 8]]), 3)[0].tolist()
    [[1, 1, 1], [1, 1, 7], [1, 7, 8]]
    """
    tokens = np.asarray(tokens, np.int32)
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have the shape [rows, time], got shape {tokens.shape}")
    before = np.full((*tokens.shape, number), BOS, np.int32)
    for back in range(min(number, tokens.shape[1])):
        before[:, back:, number - 1 - back] = tokens[:, : tokens.shape[1] - back]
    return before


def _positions(
    sentences: Sequence[NDArray[np.integer]], vocabulary_size: int, number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns every event of the text, [n], and the ids before each, [n, number], BOS before a sentence's first."""
    if not sentences:
        raise ValueError("sentences must hold at least one sentence, got 0")
    words = np.concatenate(sentences)
    check_ids("sentences", words, UNK, vocabulary_size)
    lengths = np.array([len(sentence) for sentence in sentences])
    ends = np.cumsum(lengths + number + 1) - 1  # of each sentence in a stream: BOS ... BOS w1 .. wn EOS
    stream = np.full(ends[-1] + 1, BOS, np.int64)
    stream[ends] = EOS
    starts = np.repeat(ends - lengths, lengths)
    stream[starts + np.arange(len(words)) - np.repeat(np.cumsum(lengths) - lengths, lengths)] = words
    at = np.flatnonzero(stream != BOS)
    return stream[at], np.stack([stream[at - back] for back in range(number, 0, -1)], axis=1)


def _words_in_front(
    ngrams: Sequence[NDArray[np.int64]],
    counts: Sequence[NDArray[np.int64]],
    contexts: Sequence[NDArray[np.int64]],
    length: int,
    vocabulary_size: int,
) -> NDArray[np.int64]:
    """Returns the adjusted counts of the n-grams of a length, in their order; see the module."""
    longer, own = ngrams[length], ngrams[length - 1]
    shorter_rows = contexts[length][longer // vocabulary_size] % len(contexts[length - 1])
    followed, numbers = np.unique(shorter_rows * vocabulary_size + longer % vocabulary_size, return_counts=True)
    adjusted = counts[length - 1].copy()  # what nothing stands in front of begins a sentence, and keeps its count
    adjusted[np.searchsorted(own, followed)] = numbers
    return adjusted


def _build_level(
    ngrams: NDArray[np.int64],
    counts: NDArray[np.int64],
    num_contexts: int,
    vocabulary_size: int,
    discounts: tuple[float, float, float],
) -> _Level:
    """Returns the level of these packed n-grams (ascending, all different, of every context) with their counts."""
    taken_off = np.array(discounts)[np.minimum(counts, 3) - 1]
    rows = ngrams // vocabulary_size
    starts = np.searchsorted(rows, np.arange(num_contexts))
    totals = np.add.reduceat(counts, starts)
    shares = (counts - taken_off) / totals[rows]
    seen = sparse.csr_matrix(
        (shares.astype(np.float32), ngrams % vocabulary_size, np.append(starts, [len(ngrams), len(ngrams)])),
        shape=(num_contexts + 1, vocabulary_size),
    )
    left_over = np.append(np.add.reduceat(taken_off, starts) / totals, 1.0)
    return _Level(seen, left_over.astype(np.float32))
