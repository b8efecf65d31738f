"""What a run has spent on its people's privacy in all: its model by the ledger, and its word list if it found one."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import msgspec

from orchestrator.privacy.ledger import epsilon_spent, read_ledger
from orchestrator.run.folder import FOUND_WORDS_FILE
from orchestrator.run.results import read_figures


class Guarantee(msgspec.Struct, frozen=True):
    """An epsilon that holds at a delta, for one person's whole text; None: no epsilon holds."""

    epsilon: Optional[float]
    delta: float

    def __add__(self, other: Guarantee) -> Guarantee:
        """Returns what two releases about the same people cost together: epsilons and deltas add up.

        >>> Guarantee(10.0, 0.25) + Guarantee(8.0, 0.5)
        Guarantee(epsilon=18.0, delta=0.75)
        """
        epsilon = None if self.epsilon is None or other.epsilon is None else self.epsilon + other.epsilon
        return Guarantee(epsilon, self.delta + other.delta)


def spent_on_words(path: Path) -> Optional[Guarantee]:
    """Returns what a run has spent on finding its word list; None if it did not find it.

    Raises:
      RunFolderError: the file is damaged.
    """
    return read_figures(path / FOUND_WORDS_FILE, Guarantee, "vocabulary")


def spent_with_words(path: Path) -> Optional[Guarantee]:
    """Returns what model and word list of a run have cost together.

    None without differential privacy, or if the run did not find its word list privately.

    Raises:
      RunFolderError: the ledger or the file of the word list is damaged.
      PrivacyStop: the ledger holds an event that the accountant does not know.
    """
    epsilon, words = epsilon_spent(path), spent_on_words(path)
    if epsilon is None or words is None:
        return None
    head, _ = read_ledger(path)
    return Guarantee(epsilon, head.delta) + words
