"""Sentences -> padded batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batches import build_batches
from models.vocabulary import BOS, EOS, PAD, UNK

SENTENCES = st.lists(st.lists(st.integers(4, 50), min_size=1, max_size=9).map(np.array), max_size=12)


def test_a_sentence_is_shifted_by_one_and_ended():
    batches = build_batches([np.array([7, 8])], batch_size=2, time=4)
    assert batches.tokens[0].tolist() == [[BOS, 7, 8, PAD], [PAD] * 4]
    assert batches.targets[0].tolist() == [[7, 8, EOS, PAD], [PAD] * 4]
    assert batches.mask[0].tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]


def test_a_long_sentence_is_cut_and_has_no_end():
    batches = build_batches([np.array([4, 5, 6, 7])], batch_size=1, time=3)
    assert batches.tokens[0, 0].tolist() == [BOS, 4, 5]
    assert batches.targets[0, 0].tolist() == [4, 5, 6]


def test_words_beyond_the_model_become_unknown():
    batches = build_batches([np.array([4, 9, 5])], batch_size=1, time=4, vocabulary_size=9)
    assert batches.targets[0, 0].tolist() == [4, UNK, 5, EOS]
    assert batches.tokens[0, 0].tolist() == [BOS, 4, UNK, 5]


@settings(deadline=None)
@given(sentences=SENTENCES, seed=st.integers(0, 99), buckets=st.integers(1, 4), epochs=st.integers(1, 3))
def test_every_sentence_comes_once_an_epoch_in_any_order(sentences, seed, buckets, epochs):
    batches = build_batches(
        sentences,
        batch_size=3,
        time=10,
        epochs=epochs,
        length_buckets=buckets,
        rng=np.random.default_rng(seed),
    )
    rows = [row[row != PAD].tolist() for row in batches.targets.reshape(-1, 10) if row.any()]
    assert sorted(rows) == sorted([*s.tolist(), EOS] for s in sentences for _ in range(epochs))
    assert batches.num_examples == epochs * len(sentences)
    assert batches.num_tokens == epochs * sum(len(s) + 1 for s in sentences)
    assert np.all(np.diff(batches.mask, axis=2) <= 0), "in each row the ones come first"


def test_buckets_put_like_lengths_together():
    sentences = [np.full(length, 5) for length in (9, 1, 8, 2)]
    batches = build_batches(sentences, batch_size=2, time=10, length_buckets=2, rng=np.random.default_rng(0))
    spread = np.ptp(batches.mask.sum(2), axis=1)
    assert spread.tolist() == [1, 1]


def test_the_limit_draws_other_sentences_each_time():
    sentences = [np.array([word]) for word in range(4, 104)]
    drawn = [
        frozenset(
            build_batches(sentences, batch_size=5, time=2, max_sentences=5, rng=np.random.default_rng(seed))
            .targets[:, :, 0]
            .ravel()
            .tolist()
        )
        for seed in (1, 2)
    ]
    assert len(drawn[0]) == 5
    assert drawn[0] != drawn[1]
    first = build_batches(sentences, batch_size=5, time=2, max_sentences=5)
    assert first.targets[0, :, 0].tolist() == [4, 5, 6, 7, 8]


def test_nobody_to_batch_gives_no_batches():
    assert build_batches([], batch_size=4, time=5).tokens.shape == (0, 4, 5)


@pytest.mark.parametrize("name", ["batch_size", "time", "epochs", "length_buckets"])
def test_sizes_below_one_are_refused_by_name(name):
    sizes = {"batch_size": 1, "time": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {name}=0"):
        build_batches([], **sizes)


def test_buckets_mix_within_and_never_across():
    """20 lengths in 4 groups of 5: sorted would be one bucket a length."""
    sentences = [np.full(length, 5) for length in range(1, 21)]
    batches = build_batches(sentences, batch_size=5, time=30, length_buckets=4, rng=np.random.default_rng(1))
    lengths = (batches.mask.sum(2) - 1).astype(int).tolist()
    assert sorted(sorted(batch) for batch in lengths) == [list(range(1 + 5 * i, 6 + 5 * i)) for i in range(4)]
    assert any(batch != sorted(batch) for batch in lengths)
