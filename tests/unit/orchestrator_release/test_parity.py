"""What a bundle's certificate is made from: people's text, or nobody's under differential privacy."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.release.parity import sentences_to_train_on
from orchestrator.settings.files import read_config

ANN, BOB = ((np.int32([4, 5]), np.int32([30])), (np.int32([6]),))


def test_the_steps_repeat_the_training_peoples_first_sentences():
    found = sentences_to_train_on(read_config(), [ANN, BOB], 5, num_rows=20)
    assert [own.tolist() for own in found] == [[4, 5], [3], [6], [4, 5], [3]]  # 30 is no row of the model: unknown
    assert [own.tolist() for own in sentences_to_train_on(read_config(), [ANN, BOB], 2, 20)] == [[4, 5], [3]]


@pytest.mark.parametrize("max_words", [1, 20])
def test_a_private_runs_certificate_has_nobodys_text(max_words):
    config = read_config(preset="private", overrides={"data.max_words": max_words})
    found = sentences_to_train_on(config, [ANN], 50, num_rows=9)
    other = sentences_to_train_on(config, [BOB], 50, num_rows=9)
    assert len(found) == 50
    assert all(np.array_equal(one, two) for one, two in zip(found, other))
    assert all(1 <= len(own) <= max_words for own in found)
    assert set(np.concatenate(found).tolist()) <= set(range(4, 9))  # words, none of the special ids
