"""Releases a private run's n-gram: one sum over all training people, under noise and a ledger of its own.

It is the baseline that a private model has to beat. Its budget is the run's once more, not a part of it: both are
releases about the same people, and orchestrator.run.spent adds them up. DIR/private_ngram holds what
orchestrator.run.noisy_counts releases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from models.private_bigram import PrivateBigram, Slots
from models.vocabulary import NUM_SPECIAL
from orchestrator.errors import ConfigError, PrivacyStop
from orchestrator.privacy.ledger import LEDGER_FILE, epsilon_spent
from orchestrator.privacy.noise import SEED_FILE
from orchestrator.run.folder import NGRAM_FOLDER, NGRAM_RELEASE_FILE
from orchestrator.run.noisy_counts import CountsRelease, NgramRelease, one_round, read_counts
from orchestrator.run.results import read_figures
from orchestrator.run.saved import Run
from orchestrator.run.spent import require_counts_ledger
from orchestrator.settings.run_config import RunConfig


@dataclass(frozen=True)
class ReleasedNgram:
    """A run's private n-gram: how it was released, and what predicts."""

    release: NgramRelease
    model: PrivateBigram


def release_ngram(run: Run, epsilon: Optional[float], pair_words: int, note: Callable[[str], None]) -> NgramRelease:
    """Sums and keeps the n-gram of a private run. It is one release: what is there already is not made again.

    Args:
      run: under differential privacy.
      epsilon: of this release, at the run's delta; None takes the run's.
      pair_words: words of which pairs are counted, at most; the others are counted one by one.
      note: is told what begins.

    Raises:
      ConfigError: the run has no differential privacy, or its aggregator can't sum so many people.
      RunFolderError: another n-gram was released already, or the text is not the run's.
      PrivacyStop: another one was charged, or cut off where the same can't be made again.
    """
    people, folder = run.text.data.train, run.path / NGRAM_FOLDER
    config = _release_config(run, len(people), epsilon)
    slots = Slots(run.vocabulary.size, min(pair_words, run.vocabulary.size - NUM_SPECIAL))
    release = CountsRelease(folder, config, people, slots)
    if (there := release.read("an n-gram")) is not None:
        return there
    run.folder.lock()
    folder.mkdir(exist_ok=True)
    if run.config.data.forgotten and (folder / LEDGER_FILE).exists() and not (folder / SEED_FILE).exists():
        raise PrivacyStop(
            f"{folder} was charged for the n-gram of the run that this one replaces: another one would cost the same "
            "people again, so this run releases none"
        )
    return release.make(note)


def _release_config(run: Run, num_people: int, epsilon: Optional[float]) -> RunConfig:
    if not run.config.privacy.traits.adds_noise:
        raise ConfigError(
            f"{run.path} has privacy.mechanism = 'none': `fedkeys evaluate` compares it with n-grams of all the text; "
            "a private n-gram is the baseline of a run under differential privacy"
        )
    if not (of_release := epsilon or run.config.privacy.epsilon or epsilon_spent(run.path)):
        raise ConfigError(
            f"{run.path} has no privacy.epsilon, and no round of it was charged yet: give the release's by --epsilon"
        )
    return one_round(run.config, num_people, of_release, run.config.privacy.delta)


def read_release(path: Path) -> Optional[NgramRelease]:
    """Returns how the n-gram of the run in a folder was released; None if it was not.

    Raises:
      RunFolderError: the file is damaged, or an n-gram lies without its ledger.
    """
    require_counts_ledger(path / NGRAM_FOLDER)
    return read_figures(path / NGRAM_FOLDER / NGRAM_RELEASE_FILE, NgramRelease)


def read_ngram(run: Run) -> Optional[ReleasedNgram]:
    """Returns a run's private n-gram; None if it released none.

    Raises:
      RunFolderError: a file is damaged or missing.
    """
    release = read_release(run.path)
    if release is None:
        return None
    model = read_counts(run.path / NGRAM_FOLDER, run.vocabulary.size)
    return None if model is None else ReleasedNgram(release, model)
