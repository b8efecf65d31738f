"""What `fedkeys attack` finds, as DIR/attack.json holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import msgspec

from models.disclosure import MASKED
from orchestrator.run.results import read_figures

FILE_NAME = "attack.json"
HIDDEN_AUC = 0.55  # an attack with an AUC up to this counts as one that tells nothing


class Recovery(msgspec.Struct, frozen=True):
    """How well a rule finds the words that one client typed; all in 0..1."""

    precision: float
    recall: float
    f1: float  # at the rule's own threshold
    best_f1: float  # at the best threshold, which only somebody who knows the answer can pick
    auc: float  # probability that a typed word scores above another; 0.5 = no better than chance


HIDDEN_VIEWS = ("masked", "encrypted", "split")  # of one client's upload, in each sum that hides it


class Score(msgspec.Struct, frozen=True):
    """The means of Recovery over the attacked clients; the standard deviations are None if there is one client."""

    precision: float
    recall: float
    f1: float
    best_f1: float
    auc: float
    f1_sd: Optional[float] = None
    auc_sd: Optional[float] = None


class OnlyTarget(msgspec.Struct, frozen=True):
    """The words that one client alone typed, and how many of them a sum still shows; added up over the clients."""

    words: int
    readable: int
    examples: tuple[str, ...]  # of the first client


class Named(msgspec.Struct, frozen=True):
    """A word that the server is sure of."""

    word: str
    typed_by: str  # "client", "other" (somebody else in the sum) or "nobody"


class NoisePoint(msgspec.Struct, frozen=True):
    """The AUC of the best rule at a level of noise; the mean over the clients."""

    multiplier: float
    auc: float


class NoiseResult(msgspec.Struct, frozen=True):
    """The noise of the view `noised`, and what other levels of noise would hide."""

    source: str  # "run", "given" or "example"
    multiplier: float
    clip_norm: float
    clients: int  # in the sum
    curve: tuple[NoisePoint, ...]
    hidden_from: Optional[float]  # the lowest multiplier tried from which on the AUC stays within HIDDEN_AUC


class Example(msgspec.Struct, frozen=True):
    """A sentence, and the closest one that came out of the update."""

    typed: str
    rebuilt: str


class RebuiltMeans(msgspec.Struct, frozen=True):
    """How much of the clients' sentences came back from their raw updates: means over the clients, in 0..1."""

    clients: int
    exact: float  # sentences that came back word for word
    pair_recall: float  # pairs of adjacent words that came back
    pair_precision: float
    model_alone: float  # pair_recall by the model and the words, without the update's rows
    examples: tuple[Example, ...]  # of the first client


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that must hold if the attack works where it must and fails where it must."""

    name: str
    ok: bool
    value: float
    standard_error: Optional[float] = None  # of a value that is compared with chance


class AttackResult(msgspec.Struct, frozen=True):
    """DIR/attack.json. Mappings are by view, in the order of orchestrator.audit.views.view_names."""

    round_num: int
    sentences: int  # of each client
    clients: tuple[str, ...]
    aggregator: str
    words: int  # that the model knows
    views: Mapping[str, Optional[Mapping[str, Score]]]  # by rule; on the words of everybody in the view
    attribution: Mapping[str, Mapping[str, Score]]  # by rule; the sums, on the words of the target alone
    per_client: Mapping[str, tuple[Mapping[str, Recovery], ...]]
    baselines: Mapping[str, float]  # the F1 of naming the most frequent words
    typed_words: Mapping[str, float]
    reasons: Mapping[str, str]  # why a view can't be had
    baseline_f1: float  # of the view `raw`
    target_only: Mapping[str, OnlyTarget]
    target_only_words: Optional[int]  # of the largest sum
    target_only_readable: Optional[int]
    named: Mapping[str, Optional[tuple[Named, ...]]]  # the surest word first
    noise: NoiseResult
    rebuilt: Mapping[str, RebuiltMeans]  # by the number of sentences in the update
    checks: tuple[Check, ...]

    @property
    def shown(self) -> dict[str, Mapping[str, Score]]:
        """The views that could be had."""
        return {view: rules for view, rules in self.views.items() if rules is not None}

    def auc_error(self, score: Score) -> Optional[float]:
        """Returns the standard error of a mean AUC over the clients; None with one client."""
        return None if score.auc_sd is None else score.auc_sd / math.sqrt(len(self.clients))

    @property
    def largest_sum(self) -> Optional[str]:
        """The view of the sum of the most clients."""
        return list(self.target_only)[-1] if self.target_only else None

    def without_words(self) -> AttackResult:
        """Returns the same figures, with every word that somebody typed masked, and without sentences."""
        replace = msgspec.structs.replace
        return replace(
            self,
            named={view: None if words is None else tuple(map(_masked, words)) for view, words in self.named.items()},
            target_only={view: replace(only, examples=()) for view, only in self.target_only.items()},
            rebuilt={count: replace(means, examples=()) for count, means in self.rebuilt.items()},
        )


def _masked(named: Named) -> Named:
    return named if named.typed_by == "nobody" else Named(MASKED, named.typed_by)


def read_attack(path: Path) -> Optional[AttackResult]:
    """Returns the attack on the run in folder `path`, None if there was none yet.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / FILE_NAME, AttackResult, "attack")
