"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Sequence

from models.corpus import ClientId
from orchestrator.aggregator import Cohort
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
