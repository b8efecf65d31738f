"""A line of DIR/rounds.jsonl, as a training writes it and everything else reads it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

import msgspec

from models.corpus import ClientId
from orchestrator.aggregator import CostLedger
from orchestrator.errors import RunFolderError
from orchestrator.fleet.results import FleetOfRound
from orchestrator.rounds.types import RoundReport


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A RoundReport (see orchestrator.rounds.round), how long the round took, and who trained if not this process."""

    round_num: int
    outcome: str  # "completed" or "abandoned"
    selected: tuple[ClientId, ...]
    survivors: tuple[ClientId, ...]
    metrics: Mapping[str, Optional[float]]  # None where it was not a finite number
    stage_s: Mapping[str, float]
    cost: CostLedger
    weights_sha256: str
    reason: str = ""
    epsilon: Optional[float] = None
    aggregate_sha256: str = ""
    fleet: Optional[FleetOfRound] = None
    canary_products: Optional[tuple[float, ...]] = None
    wall_s: float
    clients: Union[str, msgspec.UnsetType] = msgspec.UNSET  # "device files"; not there if the run's own text trained

    @property
    def upload_bytes(self) -> float:
        """What a client sent, over all stages: the mean of those who took part."""
        return sum(stage.bytes_up for stage in self.cost.per_client.values())

    @property
    def uploaded_bytes(self) -> float:
        """What the survivors together sent."""
        return len(self.survivors) * self.upload_bytes

    def metric(self, name: str) -> float:
        """Returns a metric of the round, NaN where there is none."""
        value = self.metrics.get(name)
        return math.nan if value is None else value


def line_of(report: RoundReport, wall_s: float, clients: Union[str, msgspec.UnsetType] = msgspec.UNSET) -> Round:
    """Returns the line that a round leaves."""
    values = {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}
    values["fleet"] = msgspec.convert(report.fleet, Optional[FleetOfRound])
    return Round(**values, wall_s=wall_s, clients=clients)


def encode_line(line: Round) -> bytes:
    """Returns the line as JSON, with its newline."""
    return msgspec.json.encode(line) + b"\n"


def read_lines(path: Path) -> list[tuple[Round, bytes]]:
    """Returns each round with its line as it stands in the file, oldest first.

    A last line that a kill cut off is passed over.

    Raises:
      RunFolderError: another line is damaged.
    """
    if not path.exists():
        return []
    *lines, rest = path.read_bytes().split(b"\n")
    rounds = []
    for number, line in enumerate([*lines, rest] if rest else lines, 1):
        if not line:
            continue
        try:
            rounds.append((msgspec.json.decode(line, type=Round), line + b"\n"))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number <= len(lines):
                raise RunFolderError(f"{path}, line {number} is damaged ({error}): restore the file") from None
    return rounds
