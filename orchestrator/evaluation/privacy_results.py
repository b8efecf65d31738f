"""The figures that `fedkeys privacy` prints, beside the accuracy of runs as they were trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import msgspec

from orchestrator.evaluation.privacy import RunPrivacy
from orchestrator.evaluation.projection import Projection
from orchestrator.privacy.ledger import epsilon_by_round, epsilon_spent
from orchestrator.run.saved import Run
from orchestrator.run.spent import Guarantee


class MechanismFigures(msgspec.Struct, frozen=True):
    """See MechanismCost; None is infinite, or without noise."""

    mechanism: str
    epsilon_at_the_runs_noise: Optional[float]
    noise_multiplier: float
    running_sum_noise: float


class BandFigures(msgspec.Struct, frozen=True):
    """What a number of bands comes to: see orchestrator.privacy.bands.Bands."""

    bands: int
    rms_error_times_sensitivity: float
    memory_bytes: int


class PopulationFigures(msgspec.Struct, frozen=True):
    """What the run's noise would come to with other people: see orchestrator.evaluation.projection.Projection."""

    people: int
    cohort_size: int
    separation: int
    participations: int
    delta: float
    epsilon: Optional[float]
    running_sum_noise: float
    noise_multiplier_here: float


class LastPoint(msgspec.Struct, frozen=True):
    """The last evaluation of a run on its dev people."""

    run: str
    mechanism: str
    epsilon: Optional[float]  # of all that the ledger holds, abandoned rounds included
    dev_top1: float


class PrivacyFigures(msgspec.Struct, frozen=True):
    """What `fedkeys privacy` prints: see RunPrivacy. None is infinite, or without differential privacy."""

    epsilon: Mapping[str, Optional[float]]  # by delta, with three digits
    zcdp: Optional[float]
    mechanism: str
    assumptions: tuple[str, ...]
    delta: float
    noise_multiplier: float
    clip_norm: float
    population: int
    separation: int
    budget: float
    rounds_charged: int
    most_participations: int
    compared_at_epsilon: Optional[float]
    mechanisms: tuple[MechanismFigures, ...]
    word_list: Optional[Guarantee]  # what the run's own word list has cost; None if it did not find one
    start: Optional[Guarantee]  # what training its start has cost the same people; None if not on their text
    ngram: Optional[Guarantee]  # what its private n-gram has cost them; None if none was released
    total: Optional[Guarantee]  # what all of it has cost together; None if it was the model alone
    bands: int  # of the matrix; of another mechanism's run those that a matrix would get
    band_choices: tuple[BandFigures, ...]
    measured: tuple[LastPoint, ...]
    populations: tuple[PopulationFigures, ...] = ()  # a projection; the run itself comes first


def privacy_figures(
    result: RunPrivacy, runs: Sequence[MeasuredRun], projections: Sequence[Projection] = ()
) -> PrivacyFigures:
    """Returns the figures of a run's privacy, beside the accuracy of some runs and the projections to more people."""

    def finite(value: Optional[float]) -> Optional[float]:
        return value if value is not None and math.isfinite(value) else None

    same = ("mechanism", "assumptions", "delta", "noise_multiplier", "clip_norm", "population", "separation", "budget")
    beside = ("word_list", "start", "ngram", "total")
    return PrivacyFigures(
        **{name: getattr(result, name) for name in (*same, "rounds_charged", "most_participations", "bands", *beside)},
        epsilon={f"{delta:.3g}": finite(value) for delta, value in result.epsilon.items()},
        zcdp=finite(result.zcdp),
        compared_at_epsilon=finite(result.target),
        mechanisms=tuple(
            MechanismFigures(cost.name, finite(cost.epsilon), cost.noise_multiplier, cost.prefix_noise)
            for cost in result.costs
        ),
        band_choices=tuple(BandFigures(one.bands, one.noise, one.memory_bytes) for one in result.band_choices),
        measured=tuple(
            LastPoint(run.name, run.mechanism, finite(run.epsilon), run.points[-1][2]) for run in runs if run.points
        ),
        populations=tuple(
            PopulationFigures(
                one.people,
                one.cohort_size,
                one.separation,
                one.participations,
                one.delta,
                finite(one.epsilon),
                one.running_noise,
                one.multiplier_here,
            )
            for one in projections
        ),  # fmt: skip
    )


@dataclass(frozen=True)
class MeasuredRun:
    """A run's accuracy as it was trained.

    Attributes:
      name: of its folder.
      mechanism: its mechanism, or "none".
      noise_multiplier: 0 without differential privacy.
      epsilon: of all that the run's ledger holds; None without one.
      points: (round, epsilon that was spent by then or None, dev top-1) of each evaluation.
    """

    name: str
    mechanism: str
    noise_multiplier: float
    epsilon: Optional[float]
    points: tuple[tuple[int, Optional[float], float], ...]


def measured_run(run: Run) -> MeasuredRun:
    """Returns the dev people's top-1 recall of a run, with the epsilon that its ledger says had been spent by then.

    Raises: as orchestrator.privacy.ledger.epsilon_spent.
    """
    privacy, by_round = run.config.privacy, epsilon_by_round(run.path)
    points: list[tuple[int, Optional[float], float]] = []
    epsilon: Optional[float] = None
    for line in run.rounds:
        if line.round_num in by_round:  # a resumed round may have been charged again, after later ones
            epsilon = max(epsilon or 0.0, by_round[line.round_num])
        top1 = line.metrics.get("dev_top1")
        if top1 is not None:
            points.append((line.round_num, epsilon, top1))
    return MeasuredRun(
        run.path.name, privacy.mechanism, privacy.noise_multiplier, epsilon_spent(run.path), tuple(points)
    )
