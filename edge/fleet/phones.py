"""A fleet of phones: what each one is, where it is, whether it may take part, and how long a participation takes.

Structures of arrays, an entry a phone, so that a million phones are a few operations on arrays. All times are seconds
of the virtual clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from edge.errors import FleetError
from edge.fleet import profiles
from edge.fleet.behaviour import DAY_S, Behaviour, SessionTable, draw_sessions, solve_steepness
from edge.fleet.profiles import Devices

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Requirements:
    """What a phone must have to take part at all."""

    min_ram_mib: int = 2048
    min_os_version: float = 0.0
    unmetered_only: bool = True


@dataclass(frozen=True)
class Fleet:
    """Phones with their place and their speed."""

    devices: Devices
    zone: NDArray[np.uint8]  # [phones], index into behaviour.time_zones
    offsets_s: NDArray[np.float32]  # [phones], of the local clock from UTC
    allowed: NDArray[np.bool_]  # [phones], meets the requirements
    step_s: NDArray[np.float32]  # [phones], a training batch
    behaviour: Behaviour
    steepness: float
    recorded: Optional[RecordedSessions] = None  # a trace in place of drawn sessions

    def __len__(self) -> int:
        return len(self.zone)


@dataclass(frozen=True)
class RecordedSessions:
    """Sessions of a trace: each device's intervals, which come again and again with the device's own period."""

    devices: NDArray[np.int32]  # [intervals]
    starts: FloatArray
    ends: FloatArray
    periods: FloatArray  # [fleet]


class Work(NamedTuple):
    """What a participation is made of: bytes of the wire, and CPU seconds on the phone that a slowness of 1 means."""

    model_bytes: float
    setup_bytes_up: float
    setup_bytes_down: float
    setup_messages: int
    setup_cpu_s: float
    upload_bytes: float
    upload_cpu_s: float
    finish_bytes_up: float
    finish_bytes_down: float
    finish_messages: int
    finish_cpu_s: float


class Times(NamedTuple):
    """Seconds of each part of a participation, float64 [selected]."""

    download: FloatArray
    setup: FloatArray
    train: FloatArray
    upload: FloatArray
    finish: FloatArray


def build_fleet(
    devices: Devices,
    step_s: NDArray[np.float32],
    behaviour: Behaviour,
    requirements: Requirements,
    rng: np.random.Generator,
    recorded: Optional[RecordedSessions] = None,
) -> Fleet:
    """Returns the fleet of these devices, each put into a time zone.

    Raises:
      FleetError: no phone could ever take part, or the day's swing can't be reached.
    """
    num = len(devices.tier)
    if num == 0:
        raise FleetError("the fleet is empty: fleet.devices, or the trace's devices, must be 1 or more")
    allowed = is_allowed(devices, requirements)
    if not allowed.any():
        raise FleetError(
            f"none of the {num:,} phones has fleet.min_ram_mib = {requirements.min_ram_mib}, fleet.min_os_version = "
            f"{requirements.min_os_version} and, with fleet.unmetered_only = {requirements.unmetered_only}, Wi-Fi: "
            "ask for less"
        )
    shares = [share for _, share in behaviour.time_zones]
    zone = rng.choice(len(shares), num, p=shares).astype(np.uint8)
    offsets = np.array([3600.0 * offset for offset, _ in behaviour.time_zones], np.float32)
    steepness = 0.0 if recorded else solve_steepness(behaviour)
    return Fleet(devices, zone, offsets[zone], allowed, step_s, behaviour, steepness, recorded)


def is_allowed(devices: Devices, requirements: Requirements) -> NDArray[np.bool_]:
    """Returns which phones meet the requirements, bool [phones]."""
    allowed = devices.ram_mib >= requirements.min_ram_mib
    allowed &= devices.os_version >= requirements.min_os_version
    if requirements.unmetered_only:
        allowed &= profiles.is_unmetered(devices.access)
    return allowed


def sessions_of_day(fleet: Fleet, day: int, seed: int) -> SessionTable:
    """Returns the sessions that start on a day of the virtual clock, in the order of their starts.

    Day 0 also has the sessions that began before the clock and are still on; phones that are always eligible have one
    session without an end.
    """
    able = np.flatnonzero(fleet.allowed).astype(np.int32)
    if fleet.recorded is not None:
        return _recorded_of_day(fleet.recorded, fleet.allowed, day)
    if fleet.behaviour.sessions_per_day == 0:
        able = able if day == 0 else able[:0]
        return SessionTable(able, np.zeros(len(able)), np.full(len(able), np.inf))
    days = [-1, 0] if day == 0 else [day]
    tables = [
        draw_sessions(fleet.behaviour, fleet.steepness, able, fleet.offsets_s, d, np.random.default_rng([seed, 1 + d]))
        for d in days
    ]
    if day > 0:
        return tables[0]
    before, today = tables
    still_on = before.ends > 0
    return SessionTable(
        np.concatenate([before.devices[still_on], today.devices]),
        np.concatenate([np.zeros(int(still_on.sum())), today.starts]),
        np.concatenate([before.ends[still_on], today.ends]),
    )


def _recorded_of_day(recorded: RecordedSessions, allowed: NDArray[np.bool_], day: int) -> SessionTable:
    """Returns a trace's sessions of one day; an interval recurs with its device's period."""
    begin, end = day * DAY_S, (day + 1) * DAY_S
    mine = allowed[recorded.devices]
    devices, starts = recorded.devices[mine], recorded.starts[mine]
    lengths, periods = recorded.ends[mine] - starts, recorded.periods[devices]
    found: list[tuple[NDArray, NDArray, NDArray]] = []
    turn = np.maximum(0, np.floor((begin - starts) / periods))  # the first that may reach into the day
    while True:
        at = starts + turn * periods
        if not (at < end).any():
            break
        # Those that begin today; on the first day none can have begun before.
        fits = (at >= begin) & (at < end)
        found.append((devices[fits], at[fits], at[fits] + lengths[fits]))
        turn += 1
    table = [np.concatenate(column) for column in zip(*found)] if found else [devices[:0], starts[:0], starts[:0]]
    order = np.argsort(table[1], kind="stable")
    return SessionTable(*(column[order] for column in table))


def participation_times(
    fleet: Fleet, chosen: NDArray, num_batches: NDArray, work: Work, round_trip_s: float, jitter: NDArray
) -> Times:
    """Returns the seconds that each part of a participation takes each of the chosen phones.

    Args:
      fleet: the phones.
      chosen: [selected], indices.
      num_batches: [selected], local steps.
      work: bytes and CPU seconds.
      round_trip_s: of a message, besides its bytes.
      jitter: [selected, 2], factors on what depends on the network and on the processor.
    """
    devices = fleet.devices
    network, processor = jitter[:, 0], jitter[:, 1]
    down = 8e-3 / devices.downlink_kbit_per_s[chosen].astype(np.float64) * network  # seconds a byte
    up = 8e-3 / devices.uplink_kbit_per_s[chosen].astype(np.float64) * network
    cpu = devices.slowness[chosen].astype(np.float64) * processor
    trip = round_trip_s * network
    return Times(
        download=trip + down * work.model_bytes,
        setup=trip * work.setup_messages
        + down * work.setup_bytes_down
        + up * work.setup_bytes_up
        + cpu * work.setup_cpu_s,
        train=fleet.step_s[chosen].astype(np.float64) * num_batches * processor,
        upload=trip + up * work.upload_bytes + cpu * work.upload_cpu_s,
        finish=trip * work.finish_messages
        + down * work.finish_bytes_down
        + up * work.finish_bytes_up
        + cpu * work.finish_cpu_s,
    )
