"""What a run has spent on its people's privacy in all: its model, its n-gram, its word list, and its start."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import msgspec

from orchestrator.errors import RunFolderError
from orchestrator.privacy.ledger import LEDGER_FILE, epsilon_of, read_ledger
from orchestrator.run.folder import FOUND_WORDS_FILE, NGRAM_FILE, NGRAM_FOLDER, NGRAM_RELEASE_FILE
from orchestrator.run.results import read_figures
from orchestrator.run.saved import Run
from orchestrator.run.start_origin import StartText


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
    return read_figures(path / FOUND_WORDS_FILE, Guarantee)


def spent_on_start(run: Run) -> Optional[Guarantee]:
    """Returns what the training of a run's start has cost the run's own people; None if it was not on their text.

    Two texts are taken to be of the same people if they have one name or one digest. Of a text with a licence only the
    digest counts: people whom a run protects are not public because a start calls their text so.
    """
    own = [Guarantee(text.epsilon, text.delta) for text in _start_texts_of_the_same(run)]
    return functools.reduce(operator.add, own) if own else None


def _start_texts_of_the_same(run: Run) -> list[StartText]:
    identity = run.identity
    return [
        text
        for text in (run.start.texts if run.start else ())
        if text.sha256 == identity.corpus_sha256 or (text.licence is None and text.name == identity.corpus_name)
    ]


def spent_on_ngram(path: Path) -> Optional[Guarantee]:
    """Returns what a run has spent on its private n-gram; None if it released none.

    Raises: as orchestrator.privacy.ledger.epsilon_spent, and RunFolderError where an n-gram lies without its ledger.
    """
    folders = _ngram_ledgers(path)
    return _by_ledgers(folders) if folders else None


def _ngram_ledgers(path: Path) -> list[Path]:
    """Returns the folder of a run's n-gram if it holds a ledger."""
    folder = path / NGRAM_FOLDER
    require_counts_ledger(folder)
    return [folder] if (folder / LEDGER_FILE).exists() else []


def require_counts_ledger(folder: Path, *from_them: str) -> None:
    """Checks that the ledger is there wherever released counts are: without it nobody knows what was released.

    Args:
      folder: of the release, see orchestrator.run.noisy_counts.
      from_them: files there that are made of the counts.

    Raises:
      RunFolderError: the ledger is missing.
    """
    kept = [name for name in (NGRAM_FILE, NGRAM_RELEASE_FILE, *from_them) if (folder / name).exists()]
    if kept and not (folder / LEDGER_FILE).exists():
        raise RunFolderError(f"{folder} holds {kept[0]} without its {LEDGER_FILE}: restore the ledger")


def spent_in_all(run: Run) -> Optional[Guarantee]:
    """Returns what spent_together does; None without differential privacy, or if the model alone has cost anything.

    Raises: as spent_together.
    """
    beside = spent_on_ngram(run.path) or spent_on_words(run.path) or spent_on_start(run)
    return spent_together(run) if beside and (run.path / LEDGER_FILE).exists() else None


def spent_together(run: Run, *anew: Run) -> Guarantee:
    """Returns what model, n-gram, word list and start of a private run have cost the same people together.

    The ledgers of model and n-gram, and noisy counts that chose the public text of a start, add up in zCDP; whatever
    else in epsilon and delta.

    Args:
      run: the run.
      anew: runs that forget some of its people. They take over word list, start and what the n-gram has cost: these
        count once.

    Raises:
      RunFolderError: a ledger is missing or damaged, or the file of the word list is damaged.
      PrivacyStop: a ledger holds an event that the accountant does not know.
    """
    runs = (run, *anew)
    ngrams: dict[str, Path] = {}  # by their noise
    for folder in [folder for own in runs for folder in _ngram_ledgers(own.path)]:
        ngrams.setdefault(read_ledger(folder)[0].noise_commitment, folder)
    texts = _start_texts_of_the_same(run)
    chose = [text.noise_multiplier for text in texts if text.noise_multiplier]
    released = _by_ledgers([*(own.path for own in runs), *ngrams.values()], chose)
    of_start = [Guarantee(text.epsilon, text.delta) for text in texts if not text.noise_multiplier]
    words = spent_on_words(run.path)
    return functools.reduce(operator.add, [*([words] if words else []), *of_start], released)


def _by_ledgers(folders: Sequence[Path], noise_multipliers: Sequence[float] = ()) -> Guarantee:
    """Returns what the ledgers of some folders, and Gaussian releases of these noise multipliers, cost together."""
    beside = sum(1 / (2 * multiplier**2) for multiplier in noise_multipliers)
    return Guarantee(epsilon_of(folders, beside), max(read_ledger(folder)[0].delta for folder in folders))
