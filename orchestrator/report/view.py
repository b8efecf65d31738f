"""What a report is drawn from: a run, its evaluation, and the series that follow from them."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from models.disclosure import MIN_GROUP
from orchestrator.evaluation.results import Evaluation, read_evaluation
from orchestrator.run.canary_clients import canary_names
from orchestrator.run.identity import RunIdentity
from orchestrator.run.lines import Round
from orchestrator.run.saved import Run
from orchestrator.settings.run_config import RunConfig


class DevPoint(NamedTuple):
    """An evaluation on the dev people in training, and what the run had cost until then."""

    round_num: int
    wall_s: float
    uploaded_bytes: float
    top1: float
    top3: float
    loss_nats: float


@dataclass(frozen=True)
class RunView:
    """Everything that the report's sections show of a run.

    Attributes:
      run: with a round at least.
      evaluation: None before `fedkeys evaluate`.
      words: show the words that people typed; False masks them.
    """

    run: Run
    evaluation: Optional[Evaluation]
    words: bool = False

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.run.name

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @property
    def config(self) -> RunConfig:
        """The run's settings."""
        return self.run.config

    @property
    def identity(self) -> RunIdentity:
        """What the run was made of."""
        return self.run.identity

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The run's rounds, never empty."""
        return self.run.rounds

    @property
    def wall_s(self) -> float:
        """Time of all rounds with their evaluations; start-up, checkpoints and interruptions are not in it."""
        return sum(r.wall_s for r in self.rounds)

    @property
    def shows_test_people(self) -> bool:
        """True if the run was scored on enough test people for figures of them."""
        return self.evaluation is not None and self.evaluation.clients >= MIN_GROUP

    @property
    def participations(self) -> Mapping[str, int]:
        """How often each person who was ever selected was; canary clients are none."""
        canaries = set(canary_names(self.config.audit))
        return collections.Counter(client for r in self.rounds for client in r.selected if client not in canaries)

    @property
    def dev_points(self) -> list[DevPoint]:
        """The evaluations in training, oldest first; none if they are of too few people."""
        wall_s = itertools.accumulate(r.wall_s for r in self.rounds)
        uploaded = itertools.accumulate(r.uploaded_bytes for r in self.rounds)
        return [
            DevPoint(r.round_num, s, b, r.metric("dev_top1"), r.metric("dev_top3"), r.metric("dev_loss"))
            for r, s, b in zip(self.rounds, wall_s, uploaded)
            if "dev_top1" in r.metrics and not r.metric("dev_people") < MIN_GROUP  # older runs did not count them
        ]


def view_run(run: Run, words: bool = False) -> RunView:
    """Returns what a run's report is drawn from; words: show what people typed.

    Raises:
      RunFolderError: the run has no round yet, or its evaluation is damaged.
    """
    run.require_rounds()
    return RunView(run, read_evaluation(run.path), words)
