"""DIR/audit.json as types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import msgspec

from orchestrator.run.results import read_figures

FILE_NAME = "audit.json"


class _Stated(msgspec.Struct, frozen=True):
    one_round: Optional[float]
    run: Optional[float]


class _OneShot(msgspec.Struct, frozen=True):
    canaries: int
    epsilon: Optional[float]


class _OneRun(msgspec.Struct, frozen=True):
    canaries: int
    guesses: int
    right: int
    confidence: float
    epsilon: float


class _Estimate(msgspec.Struct, frozen=True):
    epsilon: Optional[float]
    epsilon_interval: tuple[Optional[float], Optional[float]]


class _WholeRun(msgspec.Struct, frozen=True):
    canaries: int
    rounds: int
    all_releases: _Estimate
    final_model: _Estimate
    one_run: _OneRun
    scores_in: tuple[float, ...]
    scores_out: tuple[float, ...]


class _Exposed(msgspec.Struct, frozen=True):
    phrases: int
    mean: float
    most: float


class _Exposure(msgspec.Struct, frozen=True):
    most_possible: float
    by_repeats: Mapping[str, Optional[_Exposed]]
    never_took_part: Optional[_Exposed]


class AuditView(msgspec.Struct, frozen=True):
    """DIR/audit.json, as `fedkeys audit` writes it."""

    noise_multiplier: float
    delta: float
    stated: _Stated
    one_shot: _OneShot
    one_run: _OneRun
    exposure: Optional[_Exposure]
    whole_run: Optional[_WholeRun] = None


def read_audit(path: Path) -> Optional[AuditView]:
    """The audit of the run in folder `path`, None if there was none yet.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / FILE_NAME, AuditView, "audit")
