"""The rules on aggregation.groups, several sums a round over parts of the cohort."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.settings.audit import AuditConfig
from orchestrator.settings.fleet import FleetConfig
from orchestrator.settings.privacy import PrivacyConfig
from orchestrator.settings.sections import AggregationConfig, RoundsConfig
from orchestrator.settings.types import Rule

MIN_GROUPS = 3  # the median of two is their mean


def group_rules(
    aggregation: AggregationConfig,
    rounds: RoundsConfig,
    privacy: PrivacyConfig,
    fleet: FleetConfig,
    audit: AuditConfig,
) -> Iterator[Rule]:
    """The rules on groups; see orchestrator.settings.run_config.check_rules."""
    if aggregation.groups == 1:
        return
    groups = ("aggregation.groups",)
    yield (
        aggregation.groups >= MIN_GROUPS,
        groups,
        f"a liar could not be outvoted; set 1 (one sum of all), or at least {MIN_GROUPS}",
    )
    yield (
        rounds.cohort_size // aggregation.groups >= aggregation.min_survivors,
        (*groups, "rounds.cohort_size", "aggregation.min_survivors"),
        "a group would have fewer clients than a sum needs to hide them; lower the first or raise the second",
    )
    yield (
        not (privacy.traits.adds_noise or privacy.adaptive_clip),
        (*groups, "privacy.mechanism", "privacy.adaptive_clip"),
        "noise and ledger are made for one sum of the whole cohort, and would not cover sums of its parts; set 1, or "
        "the others to 'none' and false",
    )
    yield (
        not fleet.kind.is_buffered,
        (*groups, "fleet.policy"),
        "a buffer's members are no cohort that could be split beforehand; set the first to 1",
    )
    yield (
        not audit.canaries,
        (*groups, "audit.canaries"),
        "canaries look for themselves in a sum of all; set one of them to 1 or 0",
    )
