"""Who is selected for a round, and who drops out of it."""

from __future__ import annotations

import pytest

from orchestrator.aggregator import Cohort, DropStage
from orchestrator.errors import ConfigError
from orchestrator.rounds.cohort import draw_drops, select_cohort
from orchestrator.settings.sections import FaultsConfig


def test_cohorts_differ_by_round_and_come_again():
    people = [f"p{i}" for i in range(100)]
    first, second, again = (select_cohort(people, r, 10, 3).members for r in (1, 2, 1))
    assert first == again
    assert first != second
    assert len(set(first)) == 10
    with pytest.raises(ConfigError, match=r"rounds.cohort_size = 101, but only 100 people"):
        select_cohort(people, 1, 101, 3)


def test_everybody_is_selected_equally_often():
    """3,000 rounds of 5 in 50: each person 300 times, standard deviation sqrt(3000 * 0.1 * 0.9) = 16.4. Beyond 6 of
    these at any of 50 people: a false alarm once in ten million runs; the seed is fixed besides."""
    people = [f"p{i}" for i in range(50)]
    counts = dict.fromkeys(people, 0)
    for round_num in range(1, 3001):
        for member in select_cohort(people, round_num, 5, 0).members:
            counts[member] += 1
    assert max(abs(count - 300) for count in counts.values()) < 6 * 16.4


def test_faults_come_at_their_rates():
    """40,000 draws: the rate's standard deviation is below 0.0025; 6 of these."""
    cohort = Cohort(1, tuple(f"p{i}" for i in range(40_000)))
    drops = draw_drops(cohort, FaultsConfig(before_shares=0.1, before_upload=0.2, before_unmask=0.05), 0)
    for stage, rate in (("BEFORE_SHARES", 0.1), ("BEFORE_UPLOAD", 0.2), ("BEFORE_UNMASK", 0.05)):
        share = sum(d is DropStage[stage] for d in drops.values()) / 40_000
        assert abs(share - rate) < 0.015, stage
    assert draw_drops(cohort, FaultsConfig(), 0) == {}
