"""Selects who takes part in a round."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.errors import ConfigError
from orchestrator.seeds import Purpose, simulation_rng
from orchestrator.settings.run_config import RunConfig
from orchestrator.settings.sections import FaultsConfig


@dataclass(frozen=True)
class RoundPlan:
    """The people who take part in a round, and who of them drops out when."""

    cohort: Cohort
    drops: Mapping[ClientId, DropStage]
    reason: str = ""  # why the round is over before anyone trains; empty if it isn't
    versions_kept: int = 0  # earlier weights that phones at work still need after this round
    fleet: Optional[Mapping[str, Any]] = None  # what a simulated fleet tells of the round; goes into its report


CohortSource = Callable[[int], RoundPlan]  # the plan of a round; rounds are asked for one after the other


def everybody(config: RunConfig, people: Sequence[ClientId]) -> CohortSource:
    """Plans for people who are always there: cohorts drawn uniformly, drop-outs at the configured rates."""

    def plan(round_num: int) -> RoundPlan:
        cohort_size, min_survivors = config.rounds.cohort_size, config.aggregation.min_survivors
        if config.privacy.separation and config.privacy.traits.adds_noise:
            cohort = select_by_turns(
                people, round_num, cohort_size, config.privacy.separation, config.seed, min_survivors
            )
        else:
            cohort = select_cohort(people, round_num, cohort_size, config.seed, min_survivors)
        return RoundPlan(cohort, draw_drops(cohort, config.faults, config.seed))

    return plan


def without(plans: CohortSource, absent: Collection[ClientId]) -> CohortSource:
    """Returns a source of the same cohorts, less those who are absent: they are drawn, and left out."""

    def plan(round_num: int) -> RoundPlan:
        whole = plans(round_num)
        members = tuple(member for member in whole.cohort.members if member not in absent)
        drops = {member: stage for member, stage in whole.drops.items() if member not in absent}
        return replace(whole, cohort=replace(whole.cohort, members=members), drops=drops)

    return plan if absent else plans


def select_cohort(
    people: Sequence[ClientId], round_num: int, cohort_size: int, seed: int, min_survivors: int = 1
) -> Cohort:
    """Returns a cohort drawn uniformly without replacement.

    It depends only on the seed and the round, so a resumed run draws it again.

    Raises:
      ConfigError: more clients are wanted than there are.
    """
    if cohort_size > len(people):
        raise ConfigError(
            f"rounds.cohort_size = {cohort_size}, but only {len(people)} people have enough text to train: lower it"
        )
    chosen = simulation_rng(seed, Purpose.COHORT, round_num).choice(len(people), cohort_size, replace=False)
    return Cohort(round_num, tuple(people[i] for i in chosen), min_survivors)


def select_by_turns(
    people: Sequence[ClientId], round_num: int, cohort_size: int, separation: int, seed: int, min_survivors: int = 1
) -> Cohort:
    """Returns a cohort drawn from the people whose turn it is: a person's turn comes every `separation` rounds.

    People are dealt out to the turns once, by the seed, so two participations of a person lie a multiple of
    `separation` rounds apart. A function of the seed and the round, so a resume draws it again.

    Raises:
      ConfigError: there are too few people.

    Source: fixed turns: Choquette-Choo et al. 2023, https://arxiv.org/abs/2306.08153, section 4.
    """
    require_separation(separation, len(people), cohort_size)
    dealt = simulation_rng(seed, Purpose.TURNS).permutation(len(people))
    turn = dealt[(round_num - 1) % separation :: separation]
    chosen = simulation_rng(seed, Purpose.COHORT, round_num).choice(turn, cohort_size, replace=False)
    return Cohort(round_num, tuple(people[i] for i in chosen), min_survivors)


def largest_separation(num_people: int, cohort_size: int) -> int:
    """Returns the most rounds that can lie between two participations of each person, for cohorts of that size."""
    return max(1, num_people // cohort_size)


def require_separation(separation: int, num_people: int, cohort_size: int) -> None:
    """Checks that cohorts can keep a separation.

    Raises:
      ConfigError: there are too few people.
    """
    most = largest_separation(num_people, cohort_size)
    if separation > most:
        raise ConfigError(
            f"privacy.separation = {separation}: {num_people} people in cohorts of {cohort_size} can keep {most} at "
            "most; lower it, or rounds.cohort_size"
        )


def draw_drops(cohort: Cohort, faults: FaultsConfig, seed: int) -> dict[ClientId, DropStage]:
    """Returns who vanishes in a round, and when. Each member vanishes independently, at the configured rates."""
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
