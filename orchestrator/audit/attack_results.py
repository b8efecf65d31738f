"""DIR/attack.json as `fedkeys attack` writes it, read back for the pages that show it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import msgspec

from orchestrator.run.results import read_figures

FILE_NAME = "attack.json"


class Score(msgspec.Struct, frozen=True):
    """See orchestrator.audit.word_recovery.Recovery; means over the attacked clients."""

    precision: float
    recall: float
    f1: float
    best_f1: float
    auc: float
    f1_sd: Optional[float] = None
    auc_sd: Optional[float] = None


class OnlyTarget(msgspec.Struct, frozen=True):
    """Words that one client alone typed, and how many of them a sum still shows."""

    words: int
    readable: int
    examples: tuple[str, ...]


class Named(msgspec.Struct, frozen=True):
    """A word that the server is sure of, and who typed it."""

    word: str
    typed_by: str


class NoisePoint(msgspec.Struct, frozen=True):
    """The AUC of the best rule at a level of noise."""

    multiplier: float
    auc: float


class NoiseView(msgspec.Struct, frozen=True):
    """The noise of the view `noised`."""

    source: str
    multiplier: float
    clip_norm: float
    clients: int
    curve: tuple[NoisePoint, ...]
    hidden_from: Optional[float]


class Example(msgspec.Struct, frozen=True):
    """A sentence and the closest that came out of the update."""

    typed: str
    rebuilt: str


class RebuiltView(msgspec.Struct, frozen=True):
    """See orchestrator.audit.sentences.rebuilding_figures."""

    clients: int
    exact: float
    pair_recall: float
    pair_precision: float
    model_alone: float
    examples: tuple[Example, ...]


class AttackView(msgspec.Struct, frozen=True):
    """DIR/attack.json, as `fedkeys attack` writes it."""

    round_num: int
    sentences: int
    clients: tuple[str, ...]
    words: int
    views: Mapping[str, Optional[Mapping[str, Score]]]
    reasons: Mapping[str, str]
    baselines: Mapping[str, float]
    typed_words: Mapping[str, float]
    target_only: Mapping[str, OnlyTarget]
    named: Mapping[str, Optional[tuple[Named, ...]]]
    noise: NoiseView
    rebuilt: Mapping[str, RebuiltView]  # by the number of sentences in the update

    @property
    def shown(self) -> dict[str, Mapping[str, Score]]:
        """The views that could be had."""
        return {view: rules for view, rules in self.views.items() if rules is not None}

    @property
    def largest_sum(self) -> Optional[str]:
        """The view of the sum of the most clients."""
        return list(self.target_only)[-1] if self.target_only else None


def read_attack(path: Path) -> Optional[AttackView]:
    """The attack on the run in folder `path`, None if there was none yet.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / FILE_NAME, AttackView, "attack")
