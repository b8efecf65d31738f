"""What a private run's noise would come to with more people: a projection from its settings, not a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from orchestrator.errors import ConfigError
from orchestrator.evaluation.privacy import over_rounds, running_noise
from orchestrator.privacy.accounting import Cost
from orchestrator.privacy.calibration import default_delta, planned_squared, shape_of
from orchestrator.privacy.ledger import LedgerHead, read_ledger
from orchestrator.rounds.cohort import largest_separation
from orchestrator.run.saved import Run
from orchestrator.settings.noise_shape import NoiseShape
from orchestrator.settings.run_config import RunConfig

ASSUMES = (
    "A projection, with the run's rounds, mechanism and noise multiplier. It assumes that as many people are there and "
    "take turns, that each round's cohort is whole, that the clip norm stays, and that their updates are like these "
    "people's. The noise has been worked out; the accuracy has not been measured."
)


@dataclass(frozen=True)
class Projection:
    """A run with other people and cohorts.

    Attributes:
      people: who could take part.
      cohort_size: of a round.
      separation: rounds from one participation of a person to the next.
      participations: of the person who takes part most.
      delta: below 1 / people, as default_delta.
      epsilon: of all rounds at that delta.
      running_noise: of the running sum of mean updates, root mean square over the rounds, in clip norms a coordinate.
      multiplier_here: the noise multiplier with which a run of the cohorts that were trained has as much noise.
    """

    people: int
    cohort_size: int
    separation: int
    participations: int
    delta: float
    epsilon: float
    running_noise: float
    multiplier_here: float


def project_run(run: Run, populations: Sequence[int]) -> tuple[Projection, ...]:
    """Returns the projections of a run; () for no populations.

    Raises:
      ConfigError: the run has no noise, or there are fewer people than a cohort has.
      RunFolderError: the ledger is missing or damaged.
    """
    if not populations:
        return ()
    if not run.config.privacy.traits.adds_noise:
        raise ConfigError("--population projects the noise of a run, and this run has none: name a private run")
    return project(run.config, read_ledger(run.path)[0], populations)


def project(config: RunConfig, head: LedgerHead, populations: Sequence[int]) -> tuple[Projection, ...]:
    """Returns the run itself, then each population: with the run's cohorts, and with cohorts that grow as the people.

    Args:
      config: of the run, resolved.
      head: of its ledger.
      populations: numbers of people.

    Raises:
      ConfigError: there are fewer people than a cohort has.
    """
    own_size = config.rounds.cohort_size
    rows = [(head.population, own_size, head.separation, head.delta, head.shape)]
    unshaped = msgspec.structs.replace(config, privacy=msgspec.structs.replace(config.privacy, bands=0, buffers=""))
    for people in sorted(set(populations)):
        if people < own_size:
            raise ConfigError(f"--population {people}: a cohort of the run has {own_size} people; name more")
        for size in sorted({own_size, max(own_size, own_size * people // head.population)}):
            separation = largest_separation(people, size)
            shape = shape_of(unshaped, head.mechanism, separation)
            rows.append((people, size, separation, default_delta(people), shape))
    traits, noises = config.privacy.traits, [_noise(config, size, shape) for _, size, _, _, shape in rows]
    num_rounds, multiplier = config.rounds.count, head.noise_multiplier
    projections = []
    for (people, size, separation, delta, shape), noise in zip(rows, noises):
        zcdp = planned_squared(head.mechanism, num_rounds, separation, shape) / (2 * multiplier**2)
        epsilon = Cost(zcdp, traits.is_gaussian).epsilon(delta)
        turns, here = -(-num_rounds // separation), multiplier * noise / noises[0]
        projections.append(Projection(people, size, separation, turns, delta, epsilon, multiplier * noise, here))
    return tuple(projections)


def _noise(config: RunConfig, cohort_size: int, shape: NoiseShape) -> float:
    """Returns the running sum's noise at noise multiplier 1, with as large a share of survivors as in the run."""
    privacy = config.privacy.with_shape(shape)
    share = config.rounds.cohort_size / cohort_size  # each client of `local` brings noise of its own
    in_runs_cohorts = over_rounds(running_noise(config, privacy))
    return in_runs_cohorts * (share**0.5 if privacy.traits.releases_uploads else share)
