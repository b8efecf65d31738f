"""What a run's report is drawn from: the files of the run folder, checked, and the series that follow from them."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import msgspec

from orchestrator.errors import RunFolderError
from orchestrator.run.canary_clients import canary_names
from orchestrator.run.folder import RunFolder, RunIdentity
from orchestrator.run.results import Evaluation, _convert, _read_evaluation
from orchestrator.settings.run_config import RunConfig


class StageBill(msgspec.Struct, frozen=True):
    """See orchestrator.aggregator.StageCost."""

    bytes_up: float = 0.0
    bytes_down: float = 0.0
    cpu_s: float = 0.0


class Bill(msgspec.Struct, frozen=True):
    """See orchestrator.aggregator.CostLedger."""

    per_client: Mapping[str, StageBill]
    server: Mapping[str, StageBill]
    decryptor: Mapping[str, StageBill]


class Round(msgspec.Struct, frozen=True):
    """A line of rounds.jsonl. See orchestrator.rounds.round.RoundReport."""

    round_num: int
    outcome: str
    selected: tuple[str, ...]
    survivors: tuple[str, ...]
    metrics: Mapping[str, Optional[float]]  # None where it was not a finite number
    stage_s: Mapping[str, float]
    cost: Bill
    wall_s: float
    weights_sha256: str
    reason: str = ""
    epsilon: Optional[float] = None
    fleet: Optional[Mapping[str, Any]] = None  # see orchestrator.fleet.source

    @property
    def upload_bytes(self) -> float:
        """What a client sent, over all stages: the mean of those who took part."""
        return sum(stage.bytes_up for stage in self.cost.per_client.values())

    @property
    def uploaded_bytes(self) -> float:
        """What the survivors together sent."""
        return len(self.survivors) * self.upload_bytes

    def metric(self, name: str) -> float:
        """A metric of the round, NaN where there is none."""
        value = self.metrics.get(name)
        return math.nan if value is None else value


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
    """Everything that the report shows of a run; `rounds` is never empty."""

    name: str
    path: str
    config: RunConfig
    identity: RunIdentity
    rounds: tuple[Round, ...]
    evaluation: Optional[Evaluation]

    @property
    def wall_s(self) -> float:
        """Time of all rounds with their evaluations; start-up, checkpoints and interruptions are not in it."""
        return sum(r.wall_s for r in self.rounds)

    @property
    def participations(self) -> Mapping[str, int]:
        """How often each person who was ever selected was; canary clients are none."""
        canaries = set(canary_names(self.config))
        return collections.Counter(client for r in self.rounds for client in r.selected if client not in canaries)

    @property
    def dev_points(self) -> list[DevPoint]:
        """The evaluations in training, oldest first."""
        wall_s = itertools.accumulate(r.wall_s for r in self.rounds)
        uploaded = itertools.accumulate(r.uploaded_bytes for r in self.rounds)
        return [
            DevPoint(r.round_num, s, b, r.metric("dev_top1"), r.metric("dev_top3"), r.metric("dev_loss"))
            for r, s, b in zip(self.rounds, wall_s, uploaded)
            if "dev_top1" in r.metrics
        ]


def read_run(folder: RunFolder) -> RunView:
    """The run of a folder.

    Raises:
      RunFolderError: there is no run or no round yet, or a file is damaged.
    """
    config, identity = folder.config(), folder.identity()
    rounds = _convert(folder.rounds(), tuple[Round, ...], folder.rounds_path)
    if not rounds:
        raise RunFolderError(
            f"{folder.path} has no round yet: train it with `fedkeys train --run {folder.path} --resume`"
        )
    return RunView(folder.path.resolve().name, str(folder.path), config, identity, rounds, _read_evaluation(folder))
