"""Sentences rebuilt from an update, with a model whose next word is known."""

from __future__ import annotations

import numpy as np
import pytest

from models.vocabulary import BOS, EOS
from orchestrator.audit.sentences import SteppedModel, candidate_words, compare_sentences, rebuild_sentences

SIZE = 10
NEXT = {BOS: 4, 4: 5, 5: EOS, 6: 7}  # what the model expects after a word; 9 follows whatever else


def model():
    """The hidden state points at the row of the word that comes next."""
    rows = np.eye(SIZE, dtype=np.float32)

    def step(words, state):
        return np.stack([5 * rows[NEXT.get(int(word), 9)] for word in words]), {"cell": np.zeros((len(words), 1))}

    return SteppedModel(step, {"cell": np.zeros((1, 1))}, rows, np.zeros(SIZE, np.float32))


def update_of(typed):
    """(embedding, output bias) of an update that typed these pairs of (word before, word)."""
    rows = np.eye(SIZE)
    embedding, bias = np.tile(0.01 * rows[0], (SIZE, 1)), np.full(SIZE, 0.01)
    for before, word in typed:
        embedding[word] -= rows[NEXT.get(before, 9)]
        bias[word] -= 1.0
    return embedding, bias


def test_the_words_of_a_sentence_come_back_in_order():
    embedding, bias = update_of([(BOS, 4), (4, 5), (5, EOS)])
    assert {4, 5, EOS} <= set(candidate_words(embedding, bias))
    assert rebuild_sentences(model(), embedding, bias, num_sentences=1, max_words=6) == ((4, 5, EOS),)


def test_a_sentence_ends_where_it_must():
    (sentence,) = rebuild_sentences(model(), *update_of([(BOS, 4), (4, 5), (5, EOS)]), 1, max_words=2)
    assert len(sentence) <= 2


def test_sentences_count_as_often_as_they_came():
    found = compare_sentences([(7, EOS), (7, EOS)], [(7, EOS), (8, EOS)])
    assert found.exact == 0.5
    assert found.pair_recall == pytest.approx(2 / 4)  # (start, 7), (7, end) once each
    assert found.pair_precision == pytest.approx(2 / 4)
