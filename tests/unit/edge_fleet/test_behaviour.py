"""Phones' days: the fitted curve, time zones, sessions against the closed form of the queue."""

from __future__ import annotations

import numpy as np
import pytest

from edge.errors import FleetError
from edge.fleet.behaviour import (
    COEFFICIENTS,
    DAY_S,
    TEXT_UTC_OFFSET_H,
    Behaviour,
    draw_sessions,
    eligible_share,
    fit_day_curve,
    parse_time_zones,
    solve_steepness,
    swing,
)
from models.corpus import load_corpus

US = parse_time_zones("-5: 0.48, -6: 0.29, -7: 0.06, -8: 0.17")


def behaviour(**changes):
    values = {
        "time_zones": US, "day_swing": 4.0, "sessions_per_day": 1.5, "session_s": 5400.0, "session_spread": 1.0,
        "pickups_per_hour": 1.0, **changes,
    }  # fmt: skip
    return Behaviour(**values)


@pytest.mark.slow
def test_the_day_curve_is_the_built_in_texts():
    people = load_corpus().clients.values()
    times = [[t for t in person.timestamps if t is not None] for person in people]
    assert fit_day_curve(times, TEXT_UTC_OFFSET_H) == COEFFICIENTS


def test_a_flat_day_fits_flat():
    every_hour = [[3600.0 * hour for hour in range(24 * 50)] for _ in range(3)]
    assert np.abs(fit_day_curve(every_hour, 0.0)).max() < 1e-6


@pytest.mark.parametrize("wanted", [1.5, 4.0])
def test_the_whole_fleet_swings_as_wanted(wanted):
    own = behaviour(day_swing=wanted)
    assert swing(eligible_share(own, solve_steepness(own))) == pytest.approx(wanted, rel=1e-3)


def test_zones_around_the_world_have_no_common_night():
    with pytest.raises(FleetError, match=r"fleet.day_swing = 50.0: .* at most"):
        solve_steepness(behaviour(time_zones=parse_time_zones("-8: 1, 0: 1, 8: 1"), day_swing=50.0))


@pytest.mark.parametrize("text", ["", "x", "-5", "-5: 0", "15: 1", "-5: -1"])
def test_time_zones_that_are_none(text):
    with pytest.raises(FleetError, match="fleet.time_zones"):
        parse_time_zones(text)


def test_occupancy_is_poisson_with_the_load_of_the_queue():
    """M/G/infinity: sessions alive at a moment are Poisson with mean rate * length, whatever the lengths' spread.

    n = 200 days of 2,000 phones, false-alarm rate 1e-6 (4.9 standard errors) for the mean, and for the variance.
    """
    own = behaviour(sessions_per_day=1.5, session_s=3600.0, time_zones=((0.0, 1.0),), day_swing=1.0)
    devices, offsets, n = np.arange(2000, dtype=np.int32), np.zeros(2000, np.float32), 200
    alive = []
    for day in range(n):
        rng = np.random.default_rng([7, day])
        tables = [draw_sessions(own, 0.0, devices, offsets, d, rng) for d in range(-4, 1)]
        alive.append(sum(int(((t.starts <= DAY_S / 2) & (t.ends > DAY_S / 2)).sum()) for t in tables))
    mean = 2000 * 1.5 * 3600.0 / DAY_S
    assert abs(np.mean(alive) - mean) < 4.9 * np.sqrt(mean / n)
    assert abs(np.var(alive, ddof=1) / mean - 1) < 4.9 * np.sqrt(2 / (n - 1))
