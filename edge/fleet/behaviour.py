"""When phones are eligible: the day curve, time zones, sessions, and when somebody picks the phone up.

Two curves over a local day come from one fit. People type when they are awake, so the timestamps of the built-in text
say when a phone is in somebody's hand; it is idle, charging and on Wi-Fi when it is not. Sessions of eligibility start
most often where typing is rarest, so steeply that the whole fleet has the wanted swing between its best and its worst
hour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import FleetError

DAY_S = 86_400.0
_GRID = 288  # places of a day, 5 minutes each
# log typing = sum of COEFFICIENTS[k] * (cos, sin)(2 pi (k + 1) hour / 24) + a constant, hour on the local clock.
# fit_day_curve on the 7,336 person-hours of the built-in text (chitchat-dataset 0.9.0, US Mountain daylight time,
# UTC-6) gives these; tests/unit/edge_fleet/test_behaviour.py fits them again.
COEFFICIENTS = ((-0.6619, -1.3309), (0.3959, -0.498), (0.269, -0.0172))
TEXT_UTC_OFFSET_H = -6.0
BREAK_S = 300.0  # mean time that a phone which was picked up stays in use: an assumption


class SessionTable(NamedTuple):
    """Sessions of eligibility, sorted by their start; seconds of the virtual clock."""

    devices: NDArray[np.int32]  # [sessions], index in the fleet
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]


@dataclass(frozen=True)
class Behaviour:
    """What people do with their phones; see orchestrator.settings.fleet for each field."""

    time_zones: tuple[tuple[float, float], ...]  # (UTC offset in hours, share), shares sum to 1
    day_swing: float
    sessions_per_day: float  # 0 = always eligible
    session_s: float
    session_spread: float
    pickups_per_hour: float


def fit_day_curve(
    timestamps_by_person: Sequence[Sequence[float]], utc_offset_h: float, num_harmonics: int = 3
) -> tuple[tuple[float, float], ...]:
    """Returns the (cos, sin) coefficients of log typing over the local day, a pair a harmonic.

    Counts each person once an hour of the calendar, so that a fast typist is not many people. A Poisson regression of
    the 24 counts, by Newton's method.

    Args:
      timestamps_by_person: seconds since the epoch, UTC.
      utc_offset_h: of the people's clocks.
      num_harmonics: of the Fourier series.
    """
    hours = [np.unique(np.floor(np.asarray(own, np.float64) / 3600.0)) for own in timestamps_by_person if len(own)]
    counts = np.bincount((np.concatenate(hours) + utc_offset_h).astype(np.int64) % 24, minlength=24)
    design = np.column_stack([np.ones(24), *_harmonics(np.arange(24) + 0.5, num_harmonics)])
    beta = np.zeros(design.shape[1])
    beta[0] = math.log(counts.mean())
    for _ in range(50):
        mean = np.exp(design @ beta)
        step = np.linalg.solve(design.T @ (mean[:, None] * design), design.T @ (counts - mean))
        beta += step
        if np.abs(step).max() < 1e-12:
            break
    pairs = beta[1:].reshape(num_harmonics, 2)
    return tuple((round(float(c), 4), round(float(s), 4)) for c, s in pairs)


def _harmonics(hours: NDArray, num: int) -> list[NDArray]:
    return [f(2 * np.pi * (k + 1) * hours / 24) for k in range(num) for f in (np.cos, np.sin)]


def awake(local_hours: NDArray) -> NDArray:
    """Returns how much people type at local hours: 1 at the peak, 0 at the lowest point, in between by its logarithm.

    >>> awake(np.array([4.0, 9.0, 15.5])).round(2).tolist()
    [0.0, 0.74, 1.0]
    """
    low, high = _extremes()
    return (_log_typing(np.asarray(local_hours)) - low) / (high - low)


def _log_typing(hours: NDArray) -> NDArray:
    flat = [c for pair in COEFFICIENTS for c in pair]
    return np.tensordot(flat, _harmonics(hours, len(COEFFICIENTS)), axes=1)


@lru_cache(maxsize=1)
def _extremes() -> tuple[float, float]:
    curve = _log_typing(np.arange(0, 24, 0.01))
    return float(curve.min()), float(curve.max())


def parse_time_zones(text: str) -> tuple[tuple[float, float], ...]:
    """Returns (UTC offset in hours, share) from 'offset: share, ...', shares scaled to sum to 1.

    Raises:
      FleetError: it is not that.

    >>> parse_time_zones("-5: 3, 5.5: 1")
    ((-5.0, 0.75), (5.5, 0.25))
    """
    zones = []
    for part in text.split(","):
        offset, _, share = part.partition(":")
        try:
            zone = float(offset), float(share)
        except ValueError:
            raise FleetError(f"fleet.time_zones = {text!r}: {part.strip()!r} is not 'UTC offset: share'") from None
        if not (-12 <= zone[0] <= 14 and 0 < zone[1] < math.inf):
            raise FleetError(
                f"fleet.time_zones = {text!r}: {part.strip()!r} must have an offset in -12..14 and a share above 0"
            )
        zones.append(zone)
    total = sum(share for _, share in zones)
    return tuple((offset, share / total) for offset, share in zones)


def zone_name(offset_h: float) -> str:
    """Returns a time zone as people write it.

    >>> zone_name(-5.0), zone_name(5.5)
    ('UTC-5', 'UTC+5:30')
    """
    minutes = round(abs(offset_h) * 60)
    rest = f":{minutes % 60:02}" if minutes % 60 else ""
    return f"UTC{'-' if offset_h < 0 else '+'}{minutes // 60}{rest}"


def eligible_share(behaviour: Behaviour, steepness: float) -> NDArray[np.float64]:
    """Returns the share of all phones that is eligible at each of 288 places of a UTC day.

    Sessions start as a Poisson process, so that a phone is in at least one with probability 1 - exp(-load): the load of
    the M/G/infinity queue, starts convolved with the share of sessions that last so long.
    """
    load = np.zeros(_GRID)
    starts = _start_density(steepness)
    alive = _survival(behaviour)
    local = np.fft.irfft(np.fft.rfft(starts) * np.fft.rfft(alive), _GRID) * behaviour.sessions_per_day
    for offset_h, share in behaviour.time_zones:
        load += share * (1 - np.exp(-np.roll(local, -round(offset_h * _GRID / 24))))
    return load


def solve_steepness(behaviour: Behaviour) -> float:
    """Returns how steeply session starts must follow the typing curve for the fleet's hourly swing to be as wanted.

    Raises:
      FleetError: no steepness gives it: zones that lie around the world have no night in common.
    """
    from scipy.optimize import brentq

    if behaviour.sessions_per_day == 0 or behaviour.day_swing == 1.0:
        return 0.0

    def excess(steepness: float) -> float:
        return math.log(swing(eligible_share(behaviour, steepness))) - math.log(behaviour.day_swing)

    steepest = 8.0
    if excess(steepest) < 0:
        reached = math.exp(excess(steepest)) * behaviour.day_swing
        raise FleetError(
            f"fleet.day_swing = {behaviour.day_swing}: these time zones and session lengths reach {reached:.2f} at "
            "most; lower it, or take fewer zones or shorter sessions"
        )
    return float(brentq(excess, 0.0, steepest, xtol=1e-6))


def swing(per_place: NDArray) -> float:
    """Returns the highest hourly mean of a curve over one day, divided by the lowest."""
    hourly = np.asarray(per_place, np.float64).reshape(24, -1).mean(axis=1)
    return float(hourly.max() / hourly.min()) if hourly.min() > 0 else math.inf


def _start_density(steepness: float) -> NDArray[np.float64]:
    """Returns how session starts spread over the places of a local day; sums to 1."""
    density = np.exp(-steepness * awake((np.arange(_GRID) + 0.5) * 24 / _GRID))
    return density / density.sum()


def _survival(behaviour: Behaviour) -> NDArray[np.float64]:
    """Returns, for each age in places, how many sessions of that age still last; ages beyond a day fold back."""
    from scipy.special import ndtr

    ages = (np.arange(3 * _GRID) + 0.5) * DAY_S / _GRID
    if behaviour.session_spread == 0:
        lasting = (ages < behaviour.session_s).astype(np.float64)
    else:
        lasting = 1 - ndtr((np.log(ages) - _log_mean(behaviour)) / behaviour.session_spread)
    return lasting.reshape(3, _GRID).sum(axis=0)


def _log_mean(behaviour: Behaviour) -> float:
    """Returns the mean of the logarithm of a log-normal with the wanted mean."""
    return math.log(behaviour.session_s) - behaviour.session_spread**2 / 2


def draw_sessions(
    behaviour: Behaviour,
    steepness: float,
    devices: NDArray[np.int32],
    offsets_s: NDArray[np.float32],
    day: int,
    rng: np.random.Generator,
) -> SessionTable:
    """Returns the sessions that start on a UTC day, of the given devices; those of one device may overlap.

    Args:
      behaviour: how often, how long.
      steepness: see solve_steepness.
      devices: int32, the ones that can be eligible at all.
      offsets_s: float32 [fleet], each device's UTC offset.
      day: 0 is the first.
      rng: of this day.
    """
    num = int(rng.poisson(behaviour.sessions_per_day * len(devices)))
    chosen = devices[rng.integers(0, len(devices), num)] if num else devices[:0]
    edges = np.concatenate([[0.0], np.cumsum(_start_density(steepness))])
    local = np.interp(rng.random(num), edges / edges[-1], np.linspace(0.0, DAY_S, _GRID + 1))
    starts = (local - offsets_s[chosen]) % DAY_S
    lengths = np.full(num, behaviour.session_s)
    if behaviour.session_spread:
        lengths = rng.lognormal(_log_mean(behaviour), behaviour.session_spread, num)
    order = np.argsort(starts)
    starts = starts[order] + day * DAY_S
    return SessionTable(chosen[order], starts, starts + lengths[order])


def pickup_rates(pickups_per_hour: float, time_s: NDArray, offsets_s: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns how often a second each phone is picked up at a moment of the virtual clock, by its local hour."""
    return pickups_per_hour / 3600.0 * awake((time_s + offsets_s) % DAY_S / 3600.0)
