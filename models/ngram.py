"""Builds the baselines: interpolated Kneser-Ney uni-, bi- and trigrams over one vocabulary, as dense probabilities.

An event is what may come next: a word (id >= 4), UNK or EOS. A context is the two ids before it, BOS before
the first word. With one discount D, c the count of an n-gram, h its context, h' that without its first id:

    p(w | h) = max(c(h w) - D, 0) / c(h) + D * (number of different words seen after h) / c(h) * p(w | h')

c is the plain count at the highest order; below it, the number of different words seen in front of the
n-gram. The recursion ends in the uniform distribution over events.

Source: Kneser & Ney 1995, "Improved backing-off for m-gram language modeling" (the count of different words
in front); Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", on
Kneser-Ney smoothing (the interpolated form above) and on Jelinek-Mercer smoothing (the uniform end).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Optional

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.interpolated_rows import InterpolatedRows, Likeliest, list_likeliest
from models.vocabulary import BOS, EOS, NUM_SPECIAL, UNK

MAX_ORDER = 3
# An n-gram is packed into one int64, so vocabulary_size ** 3 must stay below 2 ** 63.
MAX_VOCABULARY_SIZE = 2**21 - 1


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length: what each seen context says, and the share that it leaves to the shorter context."""

    contexts: NDArray[np.int64]  # [num_contexts], packed, ascending
    seen: sparse.csr_matrix  # float32 [num_contexts + 1, vocabulary_size]; discounted shares
    left_over: NDArray[np.float32]  # [num_contexts + 1], in 0..1; one minus the sum of the row of `seen`
    # The last row belongs to every unseen context: nothing was seen there, and the whole share is left over.

    def row_of(self, contexts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the row of each packed context, int64 [n]; the last row for an unseen one."""
        found = np.searchsorted(self.contexts, contexts)
        found = np.minimum(found, len(self.contexts) - 1)  # beyond the last context any row will do: none matches
        return np.where(self.contexts[found] == contexts, found, len(self.contexts))


@dataclass(frozen=True)
class KneserNey:
    """A smoothed n-gram model; `build_kneser_ney` makes it."""

    vocabulary_size: int
    order: int
    raw: tuple[_Level, ...]  # lengths 1..order with plain counts, each for use as the highest order
    continuation: tuple[_Level, ...]  # lengths 1..order-1 with counts of different words in front

    def probabilities(self, contexts: NDArray[np.integer], order: Optional[int] = None) -> NDArray[np.float32]:
        """Returns p(next id | context), float32 [n, vocabulary_size]; rows sum to one, PAD and BOS get 0.

        Order 3 reads both ids of a context, 2 the last one, 1 none; each is a model in its own right (plain
        counts at its top), not the lower part of the trigram. Order 1 is relative frequencies, unless the
        text lacked some id: then the discount is shared among all, and none has probability 0.
        The answer takes 4 * n * vocabulary_size bytes: pass long texts in chunks.

        Args:
            contexts: [n, 2], the two ids before each position, older first; BOS before the first word.
            order: 1 to `self.order`; `self.order` if None.

        Raises:
            ValueError: contexts of another shape or beyond the vocabulary, or an order that was not built.

        One sentence, "4 5": p(5 | 4) = (1 - 0.75)/1 + 0.75 * p(5), p(5) = (1 - 0.75)/3 + 0.75 * 1/4 = 0.2708.

        >>> bigram = build_kneser_ney([np.array([4, 5])], vocabulary_size=6, order=2)
        >>> float(bigram.probabilities(np.array([[BOS, 4]]))[0, 5])
        0.453125
        """
        order = self.order if order is None else order
        return _mix(self._levels(order), self._keys(contexts, order), self.vocabulary_size)

    def rows(self, contexts: NDArray[np.integer], order: int) -> InterpolatedRows:
        """Returns the same rows, of which only what is asked for is written out; arguments and errors are the same."""
        levels, keys = self._levels(order), self._keys(contexts, order)
        share = np.ones(len(keys), np.float32)
        added = sparse.csr_matrix((len(keys), self.vocabulary_size), dtype=np.float32)
        if order == MAX_ORDER:
            *levels, top = levels
            row = top.row_of(keys)
            share, added, keys = top.left_over[row], top.seen[row], keys % self.vocabulary_size
        distinct, which = np.unique(keys, return_inverse=True)
        shorter = _mix(levels, distinct, self.vocabulary_size)
        likeliest = self._likeliest[order].of(levels[-1].row_of(distinct))
        return InterpolatedRows(shorter, which, likeliest, share, added)

    @cached_property
    def _likeliest(self) -> dict[int, Likeliest]:
        """By order, the likeliest words of the rows that `rows` begins with."""
        found = {}
        for order in range(1, self.order + 1):
            *shorter, level = self._levels(order)[: MAX_ORDER - 1]
            general = _mix(shorter, np.zeros(1, np.int64), self.vocabulary_size)[0]
            found[order] = list_likeliest(general, level.left_over, level.seen)
        return found

    def _levels(self, order: int) -> Sequence[_Level]:
        """Returns the levels that the model of an order interpolates, of one id first."""
        if not 1 <= order <= self.order:
            raise ValueError(f"order must be in 1..{self.order}, got order={order}")
        return (*self.continuation[: order - 1], self.raw[order - 1])

    def _keys(self, contexts: NDArray[np.integer], order: int) -> NDArray[np.int64]:
        """Returns the contexts as the highest level packs them, int64 [n]."""
        contexts = np.asarray(contexts)
        if contexts.ndim != 2 or contexts.shape[1] != MAX_ORDER - 1:
            raise ValueError(f"contexts must have the shape [n, 2], got shape {contexts.shape}")
        check_ids("contexts", contexts, 0, self.vocabulary_size)
        keys = np.zeros(len(contexts), np.int64)
        for column in range(MAX_ORDER - order, MAX_ORDER - 1):
            keys = keys * self.vocabulary_size + contexts[:, column]
        return keys


def build_kneser_ney(
    sentences: Iterable[NDArray[np.integer]], vocabulary_size: int, order: int = 3, discount: float = 0.75
) -> KneserNey:
    """Returns the model of orders 1 to `order` counted from the sentences.

    Args:
        sentences: word ids [num_words] each, UNK (3) to vocabulary_size - 1; BOS and EOS are added here.
        vocabulary_size: number of ids, the four special ones included.
        order: 1 to 3, the longest n-grams kept.
        discount: D, from 0 to 1, the same at every order.

    Raises:
        ValueError: no sentence, an id outside the range, or an argument outside its own.
    """
    check_vocabulary_size(vocabulary_size)
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order must be in 1..{MAX_ORDER}, got order={order}")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount must be in 0..1, got discount={discount}")
    stream = _pad_and_join([np.asarray(sentence) for sentence in sentences], vocabulary_size)
    events = np.flatnonzero(stream != BOS)
    keys = np.zeros(len(events), np.int64)
    raw: list[_Level] = []
    continuation: list[_Level] = []
    shorter_counts = np.empty(0, np.int64)
    for length in range(1, order + 1):
        keys = keys + stream[events - (length - 1)] * vocabulary_size ** (length - 1)
        ngrams, counts = np.unique(keys, return_counts=True)
        raw.append(_build_level(ngrams, counts, vocabulary_size, discount))
        if length > 1:
            below = _build_continuation(ngrams, shorter_counts, length, vocabulary_size, discount)
            continuation.append(below)
        shorter_counts = counts
    return KneserNey(vocabulary_size, order, tuple(raw), tuple(continuation))


def previous_two(tokens: NDArray[np.integer]) -> NDArray[np.int32]:
    """Returns the n-gram context of each position, int32 [rows, time, 2], from the model's input tokens.

    The n-gram model is therefore asked at the very positions at which the neural model is asked.

    Args:
        tokens: [rows, time], each row BOS, w1, w2, ... as in `models.batches`.

    Raises:
        ValueError: tokens not two-dimensional.

    >>> previous_two(np.array([[BOS, 7, 8]]))[0].tolist()
    [[1, 1], [1, 7], [7, 8]]
    """
    tokens = np.asarray(tokens, np.int32)
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have the shape [rows, time], got shape {tokens.shape}")
    older = np.full_like(tokens, BOS)
    older[:, 1:] = tokens[:, :-1]
    return np.stack([older, tokens], axis=-1)


def _mix(levels: Sequence[_Level], keys: NDArray[np.int64], vocabulary_size: int) -> NDArray[np.float32]:
    """Returns the interpolated rows, float32 [len(keys), vocabulary_size]; keys are of the last level."""
    if not levels:
        uniform = np.zeros((len(keys), vocabulary_size), np.float32)
        uniform[:, EOS:] = 1 / (vocabulary_size - EOS)  # PAD and BOS, the two ids below EOS, never come next
        return uniform
    # Many positions share a context, and many contexts a shorter one: each row is worked out once.
    distinct, which = np.unique(keys, return_inverse=True)
    shorter = distinct % vocabulary_size ** max(len(levels) - 2, 0)
    mixed = _mix(levels[:-1], shorter, vocabulary_size)
    level, row = levels[-1], levels[-1].row_of(distinct)
    mixed *= level.left_over[row][:, np.newaxis]
    seen = level.seen[row].tocoo()
    mixed[seen.row, seen.col] += seen.data
    return mixed if np.array_equal(distinct, keys) else mixed[which]


def _build_level(ngrams: NDArray[np.int64], counts: NDArray[np.int64], vocabulary_size: int, discount: float) -> _Level:
    """Returns the level of these packed n-grams (ascending, all different) with their counts (from 1)."""
    contexts, starts = np.unique(ngrams // vocabulary_size, return_index=True)
    words_seen = np.diff(starts, append=len(ngrams))
    totals = np.add.reduceat(counts, starts)
    shares = (counts - discount) / np.repeat(totals, words_seen)
    row_ends = np.append(starts, [len(ngrams), len(ngrams)])
    seen = sparse.csr_matrix(
        (shares.astype(np.float32), ngrams % vocabulary_size, row_ends),
        shape=(len(contexts) + 1, vocabulary_size),
    )
    left_over = np.append(discount * words_seen / totals, 1.0)
    return _Level(contexts, seen, left_over.astype(np.float32))


def _build_continuation(
    ngrams: NDArray[np.int64],
    shorter_counts: NDArray[np.int64],
    length: int,
    vocabulary_size: int,
    discount: float,
) -> _Level:
    """Returns the level below `ngrams` (of `length`), counted by the different words in front.

    `shorter_counts` are the plain counts of the shorter n-grams in ascending order. Every event has two ids
    in front of it, so these are the same n-grams as those left when the first id is dropped.
    """
    shorter, words_in_front = np.unique(ngrams % vocabulary_size ** (length - 1), return_counts=True)
    # Only BOS stands in front of a sentence's start, so that count would be 1 whatever the word; such n-grams
    # keep their plain counts. Source: Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model
    # Estimation", the definition of adjusted counts.
    starts_sentence = shorter // vocabulary_size ** (length - 2) == BOS
    counts = np.where(starts_sentence, shorter_counts, words_in_front)
    return _build_level(shorter, counts, vocabulary_size, discount)


def _pad_and_join(sentences: Sequence[NDArray[np.integer]], vocabulary_size: int) -> NDArray[np.int64]:
    """Returns all sentences as one stream, int64: BOS BOS w1 .. wn EOS BOS BOS ..."""
    if not sentences:
        raise ValueError("sentences must hold at least one sentence, got 0")
    words = np.concatenate(sentences)
    check_ids("sentences", words, UNK, vocabulary_size)
    lengths = np.array([len(sentence) for sentence in sentences])
    ends = np.cumsum(lengths + 3) - 1
    starts = ends - lengths - 2
    is_word = np.ones(ends[-1] + 1, bool)
    is_word[np.concatenate([starts, starts + 1, ends])] = False
    stream = np.full(len(is_word), BOS, np.int64)
    stream[ends] = EOS
    stream[is_word] = words
    return stream


def check_vocabulary_size(vocabulary_size: int) -> None:
    """Raises ValueError unless n-grams of so many ids can be counted."""
    if not NUM_SPECIAL < vocabulary_size <= MAX_VOCABULARY_SIZE:
        raise ValueError(
            f"vocabulary_size must be in {NUM_SPECIAL + 1}..{MAX_VOCABULARY_SIZE}, "
            f"got vocabulary_size={vocabulary_size}"
        )


def check_ids(name: str, ids: NDArray[np.integer], low: int, vocabulary_size: int) -> None:
    """Raises ValueError unless all ids are integers in low..vocabulary_size - 1."""
    if ids.size and not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"{name} must hold integer ids, got dtype {ids.dtype}")
    outside = ids[(ids < low) | (ids >= vocabulary_size)]
    if outside.size:
        raise ValueError(f"{name} must hold ids in {low}..{vocabulary_size - 1}, got {outside[0]}")
