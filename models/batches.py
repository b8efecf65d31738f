"""Sentences of word ids -> padded batches of (tokens, targets, mask)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from models.vocabulary import BOS, EOS, PAD, UNK


class Batches(NamedTuple):
    """One client's batches. In each row of `mask` the ones come first; an all-zero row is filling."""

    tokens: np.ndarray  # int32 [num_batches, batch, time]
    targets: np.ndarray  # int32 [num_batches, batch, time]
    mask: np.ndarray  # float32 [num_batches, batch, time], 1 = real

    @property
    def num_batches(self) -> int:
        """Batches of all epochs."""
        return len(self.tokens)

    @property
    def num_examples(self) -> int:
        """Sentences, filling rows not counted."""
        return int(self.mask[:, :, 0].sum()) if self.mask.size else 0

    @property
    def num_tokens(self) -> int:
        """Real positions."""
        return int(self.mask.sum())


def build_batches(
    sentences: Sequence[np.ndarray],
    *,
    batch_size: int,
    time: int,
    vocabulary_size: Optional[int] = None,
    max_sentences: Optional[int] = None,
    epochs: int = 1,
    length_buckets: int = 1,
    rng: Optional[np.random.Generator] = None,
) -> Batches:
    """Returns a client's sentences as padded batches.

    A sentence w1..wn becomes tokens [BOS, w1, .., wn] and targets [w1, .., wn, EOS], cut to `time` positions.

    Args:
      sentences: int arrays [num_words] of word ids.
      batch_size: the number of sentences in a batch, >= 1.
      time: the number of positions in a row, >= 1.
      vocabulary_size: ids from here on become UNK (a model smaller than the vocabulary); None keeps all.
      max_sentences: takes at most this many sentences, drawn anew by `rng` (without it the first ones); None takes all.
      epochs: passes over the sentences, each in a new order.
      length_buckets: the number of groups by length that sentences are put into before batching, so that a batch's rows
        are alike in length; the order of batches stays random. 1 mixes all lengths.
      rng: the source of orders; None keeps the sentences' order, for evaluation.

    >>> one = build_batches([np.array([7, 9])], batch_size=1, time=4)
    >>> one.tokens.tolist(), one.targets.tolist(), one.mask.tolist()
    ([[[1, 7, 9, 0]]], [[[7, 9, 2, 0]]], [[[1.0, 1.0, 1.0, 0.0]]])
    """
    for name, value in (
        ("batch_size", batch_size),
        ("time", time),
        ("epochs", epochs),
        ("length_buckets", length_buckets),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {name}={value}")
    count = len(sentences)
    chosen = np.arange(count) if rng is None else rng.permutation(count)
    if max_sentences is not None:
        chosen = chosen[:max_sentences]
    groups = []
    for _ in range(epochs):
        order = chosen if rng is None else rng.permutation(chosen)
        groups.extend(_batches_of_indices(sentences, order, batch_size, length_buckets, rng))
    shape = (len(groups), batch_size, time)
    tokens, targets = np.full(shape, PAD, np.int32), np.full(shape, PAD, np.int32)
    mask = np.zeros(shape, np.float32)
    for i, group in enumerate(groups):
        for row, index in enumerate(group):
            words = np.asarray(sentences[index])[:time]
            if vocabulary_size is not None:
                words = np.where(words >= vocabulary_size, UNK, words)
            num_words = len(words)
            real = min(num_words + 1, time)
            tokens[i, row, 0] = BOS
            tokens[i, row, 1:real] = words[: real - 1]
            targets[i, row, :num_words] = words
            if num_words < time:
                targets[i, row, num_words] = EOS
            mask[i, row, :real] = 1.0
    return Batches(tokens, targets, mask)


def _batches_of_indices(
    sentences: Sequence[np.ndarray],
    order: np.ndarray,
    batch_size: int,
    length_buckets: int,
    rng: Optional[np.random.Generator],
) -> list[np.ndarray]:
    """Returns `order` cut into batches.

    With buckets, the indices are sorted by length in `length_buckets` groups first.
    """
    if length_buckets > 1:
        lengths = np.array([len(sentences[i]) for i in order])
        groups = np.array_split(order[np.argsort(lengths, kind="stable")], length_buckets)
        order = np.concatenate([group if rng is None else rng.permutation(group) for group in groups])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if length_buckets > 1 and rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches
