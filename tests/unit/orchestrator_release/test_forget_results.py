"""How far two models differ on a person's words, beside people who never trained."""

from __future__ import annotations

import numpy as np
import pytest

from models.metrics import ClientSums
from orchestrator.release.forget_results import Moved, Scores, compare_exposure


def sums(losses: list[float], hits: list[int]) -> ClientSums:
    """Sums of people with four scored positions each, the last of them with none."""
    positions = np.array([4] * (len(losses) - 1) + [0])
    return ClientSums(np.array(hits), np.array(hits), np.array(losses), positions, np.zeros(len(losses), np.int64))


def test_the_person_is_compared_with_the_strangers_who_have_words_to_score() -> None:
    before = sums([8.0, 12.0, 12.0, 16.0, 0.0], [3, 1, 2, 0, 0])
    after = sums([16.0, 12.0, 20.0, 28.0, 0.0], [1, 1, 1, 0, 0])  # rises a position: 2; 0, 2, 3
    found = compare_exposure(before, after, num_sentences=7)
    assert found is not None
    assert found.person == Moved(Scores(2.0, 0.75), Scores(4.0, 0.25))
    assert found.strangers == Moved(Scores(pytest.approx(10 / 3), 0.25), Scores(5.0, pytest.approx(1 / 6)))
    assert (found.num_strangers, found.as_far, found.sentences) == (3, 2, 7)  # the one of 2 and the one of 3
    assert found.deviation == pytest.approx(np.std([0, 2, 3], ddof=1))


@pytest.mark.parametrize("positions", [[0, 4, 4], [4, 0, 0]])
def test_without_a_word_of_the_person_or_of_a_stranger_there_is_nothing_to_compare(positions: list[int]) -> None:
    none = np.zeros(3, np.int64)
    same = ClientSums(none, none, np.zeros(3), np.array(positions), none)
    assert compare_exposure(same, same, 3) is None
