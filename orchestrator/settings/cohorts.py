"""Computes how many clients a round takes, from several sections together."""

from __future__ import annotations

import math

from orchestrator.settings.run_config import RunConfig


def num_selected(config: RunConfig) -> int:
    """Returns how many clients a round selects: the goal with its over-selection, rounded up.

    Source: Bonawitz et al. 2019, section 9: 130 % of the target.
    """
    return math.ceil(config.rounds.cohort_size * config.fleet.over_selection - 1e-9)


def cohort_limit(config: RunConfig) -> int:
    """Returns the most clients that one sum can begin with: what the aggregator must be able to protect."""
    if config.fleet.kind.selects_cohorts:
        return num_selected(config)
    return config.fleet.buffer_size if config.fleet.kind.is_buffered else config.rounds.cohort_size


def min_reports(config: RunConfig) -> int:
    """Returns the fewest updates that a round may end with."""
    share = math.ceil(config.fleet.min_report_share * config.rounds.cohort_size - 1e-9)
    return max(config.aggregation.min_survivors, share, 1)
