"""What `fedkeys vocabulary` finds, as DIR/vocabulary.json holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import msgspec

from orchestrator.run.folder import FOUND_WORDS_FILE
from orchestrator.run.results import write_figures


class Coverage(msgspec.Struct, frozen=True):
    """The shares of the running words of training and of test people that a list holds."""

    train: float
    train_pooled: float  # that the list from everybody's pooled text holds
    train_ratio: float  # the list's share over the pooled list's
    test: float
    test_pooled: float
    test_ratio: float


class VocabularyResult(msgspec.Struct, frozen=True):
    """DIR/vocabulary.json of a run that found its word list itself."""

    words: int
    epsilon: Optional[float]  # None without noise
    delta: float
    unit: str  # of privacy
    k: int
    max_nodes: int
    noise_std: float  # of a count, in people
    clients: int
    aggregator: str
    levels: int  # of the prefix tree
    upload_slots: int  # of one client, over all levels
    coverage: Coverage  # of the list, public words included
    most_possible_train_ratio: float  # of the words that k people use, counted exactly
    out: Optional[str]
    public: int  # of the words: those of the public list, after those that were found
    language: str  # of the public list; "none" if there is none


class TableRow(msgspec.Struct, frozen=True):
    """What a list would cover at an epsilon with this many people."""

    epsilon: Optional[float]  # None without noise
    people: int
    words: int
    noise_std: float
    coverage: Coverage


class ListRow(msgspec.Struct, frozen=True):
    """What a list of one kind covers."""

    name: str
    words: int
    from_text: int  # of the words: those that the training people typed
    fewest_people: Optional[int]  # who typed each of those; None if there is none, or nobody counted
    train: float  # the share of the training people's running words that it holds
    test: float  # of the test people's


def write_vocabulary(folder: Path, result: VocabularyResult) -> None:
    """Writes DIR/vocabulary.json."""
    write_figures(folder / FOUND_WORDS_FILE, result)
