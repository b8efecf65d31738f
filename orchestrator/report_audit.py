"""The audit as a section of the run's report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import msgspec

from orchestrator.report_data import RunView, read_figures
from orchestrator.report_parts import Section, Table

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


def read_audit(path: Path) -> Optional[AuditView]:
    """The audit of the run in folder `path`, None if there was none yet.

    Raises:
      RunFolderError: its file is damaged.
    """
    return read_figures(path / FILE_NAME, AuditView, "audit")


def audit(run: RunView) -> Optional[Section]:
    """What was measured of the run's privacy, next to what is stated; None before `fedkeys audit`."""
    view = read_audit(Path(run.path))
    if view is None:
        return None
    return Section(
        "Privacy, measured",
        (
            "An upper bound says what nobody can exceed, whoever attacks. A lower bound says what an attack did "
            "reach. An "
            f"estimate says neither. Epsilon at delta {view.delta:.2g}.",
        ),
        tables=tuple(table for table in (_epsilons(view), _phrases(view)) if table is not None),
    )


def _epsilons(view: AuditView) -> Table:
    def text(value: Optional[float], otherwise: str) -> str:
        return otherwise if value is None else f"{value:.3g}"

    one_shot, one_run = view.one_shot, view.one_run
    rows: Any = (
        (text(view.stated.run, "no limit"), "the run", "upper bound", "the ledger"),
        (
            text(view.stated.one_round, "no limit"),
            "one round",
            "upper bound",
            f"noise multiplier {view.noise_multiplier:.3g}",
        ),
        (text(one_shot.epsilon, "above 200"), "one round", "estimate", f"{one_shot.canaries} canary clients"),
        (
            text(one_run.epsilon, ""),
            "one round",
            f"lower bound at {one_run.confidence:.0%}",
            f"{one_run.right} of {one_run.guesses} guesses right",
        ),
    )
    return Table(("epsilon", "of", "kind", "from"), rows, texts=True)


def _phrases(view: AuditView) -> Optional[Table]:
    if view.exposure is None:
        return None
    parts = [(f"{repeats} times", part) for repeats, part in view.exposure.by_repeats.items()]
    parts.append(("by people who took part in no round", view.exposure.never_took_part))
    rows = [(name, str(p.phrases), f"{p.mean:.1f}", f"{p.most:.1f}") for name, p in parts if p is not None]
    return Table(
        ("secret phrase typed", "phrases", "mean exposure, bits", "most"),
        tuple(rows),
        f"Estimates. 1.4 bits: the model never saw it; {view.exposure.most_possible:.0f}: it ranks first of all tried.",
    )
