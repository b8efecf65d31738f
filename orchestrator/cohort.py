"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Sequence

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.config import FaultsConfig
from orchestrator.errors import ConfigError
from orchestrator.seeds import Purpose, simulation_rng


def select_cohort(
    people: Sequence[ClientId], round_num: int, cohort_size: int, seed: int, min_survivors: int = 1
) -> Cohort:
    """A cohort drawn uniformly without replacement; a function of the seed and the round, so a resume draws it again.

    Raises:
      ConfigError: more clients are wanted than there are.
    """
    if cohort_size > len(people):
        raise ConfigError(
            f"rounds.cohort_size = {cohort_size}, but only {len(people)} people have enough text to train: lower it"
        )
    chosen = simulation_rng(seed, Purpose.COHORT, round_num).choice(len(people), cohort_size, replace=False)
    return Cohort(round_num, tuple(people[i] for i in chosen), min_survivors)


def draw_drops(cohort: Cohort, faults: FaultsConfig, seed: int) -> dict[ClientId, DropStage]:
    """Who vanishes in a round, and when: each member by itself, at the rates of the configuration."""
    rates = (
        (DropStage.BEFORE_SHARES, faults.before_shares),
        (DropStage.BEFORE_UPLOAD, faults.before_upload),
        (DropStage.BEFORE_UNMASK, faults.before_unmask),
    )
    drops = {}
    for member, draw in zip(
        cohort.members, simulation_rng(seed, Purpose.FAULTS, cohort.round_num).random(len(cohort.members))
    ):
        for stage, rate in rates:
            if draw < rate:
                drops[member] = stage
                break
            draw -= rate
    return drops
