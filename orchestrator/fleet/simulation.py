"""Builds a simulated fleet from a configuration: its phones, their work, and the rounds that the server gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

from edge.fleet import profiles
from edge.fleet.behaviour import Behaviour, parse_time_zones, zone_name
from edge.fleet.phones import Fleet, RecordedSessions, Requirements, Work, build_fleet, participation_times
from edge.fleet.trace import Trace, read_trace
from models.weights import ModelSize, word_products
from orchestrator.errors import ConfigError
from orchestrator.fleet.bill import participation_work
from orchestrator.fleet.buffer import BufferSteps
from orchestrator.fleet.checkin import CheckIns
from orchestrator.fleet.sync import Goal, SyncRounds
from orchestrator.seeds import Purpose, seed_sequence, simulation_rng
from orchestrator.settings.cohorts import cohort_limit, min_reports, num_selected
from orchestrator.settings.fleet import FleetConfig
from orchestrator.settings.model import num_trained
from orchestrator.settings.run_config import RunConfig


@dataclass(frozen=True)
class Simulation:
    """A fleet and the server's rounds over it."""

    fleet: Fleet
    work: Work
    rounds: Union[SyncRounds, BufferSteps]

    @property
    def check_ins(self) -> CheckIns:
        """The desk that all phones come to."""
        return self.rounds.check_ins


def build_simulation(
    config: RunConfig, size: ModelSize, num_devices: int, num_batches: Optional[NDArray] = None
) -> Simulation:
    """Returns a fleet and its server, before anything has happened.

    Args:
      config: of the run.
      size: the model, for its bytes and its work.
      num_devices: phones; a trace may hold its own number, then 0 takes them all.
      num_batches: int [num_devices], local steps of each phone; by default what the configuration allows at most.

    Raises:
      FleetError, ConfigError: the fleet or the policy can't be; nothing has run then.
    """
    settings = config.fleet
    device_seed, engine_seed = (int(s) for s in seed_sequence(config.seed, Purpose.FLEET).generate_state(2))
    fleet = draw_fleet(config.fleet, config.client.batch_size, size, num_devices, np.random.default_rng(device_seed))
    work = participation_work(config.aggregation, cohort_limit(config), size, num_trained(config.model, size))
    if num_batches is None:
        steps = -(-config.client.max_sentences // config.client.batch_size) * config.client.epochs
        num_batches = np.full(len(fleet), steps)
    _require_fast_enough(config, fleet, work, num_batches)
    rng = np.random.default_rng([engine_seed, 1])
    if settings.kind.is_buffered:
        check_ins = CheckIns(fleet, settings, settings.concurrency, engine_seed)
        return Simulation(fleet, work, BufferSteps(check_ins, settings, work, num_batches, rng))
    wanted, selected = config.rounds.cohort_size, num_selected(config)
    min_selected = max(min_reports(config), int(np.ceil(settings.min_report_share * selected - 1e-9)))
    goal = Goal(wanted, selected, min_selected, min_reports(config))
    check_ins = CheckIns(fleet, settings, selected, engine_seed)

    def draw(round_num: int, of: int, num: int) -> NDArray:
        return simulation_rng(config.seed, Purpose.COHORT, round_num).choice(of, num, replace=False)

    return Simulation(fleet, work, SyncRounds(check_ins, settings, goal, work, num_batches, draw, rng))


def draw_fleet(
    settings: FleetConfig, batch_size: int, size: ModelSize, num_devices: int, rng: np.random.Generator
) -> Fleet:
    """Returns the fleet's phones, which are drawn or come from a trace."""
    behaviour = Behaviour(
        parse_time_zones(settings.time_zones),
        settings.day_swing,
        settings.sessions_per_day,
        settings.session_s,
        settings.session_spread,
        settings.pickups_per_hour,
    )
    requirements = Requirements(settings.min_ram_mib, settings.min_os_version, settings.unmetered_only)
    trace = read_trace(Path(settings.trace)) if settings.trace else None
    hardware = HARDWARE[settings.hardware]
    devices = hardware.draw(num_devices, rng)
    step_s = profiles.train_s(devices, 1, batch_size) * _relative_size(size)
    if not hardware.takes_time:
        step_s = np.zeros_like(step_s)
    if trace is None:
        return build_fleet(devices, step_s, behaviour, requirements, rng)
    # Each phone takes a device of the trace, one after the other; what the trace doesn't say stays as drawn.
    place = np.arange(num_devices) % len(trace.names)
    if trace.ms_per_sample is not None and trace.kbit_per_s is not None:
        step_s = trace.ms_per_sample[place] / np.float32(1e3) * batch_size
        link = trace.kbit_per_s[place]
        devices = replace(devices, downlink_kbit_per_s=link, uplink_kbit_per_s=link)
    return build_fleet(devices, step_s, behaviour, requirements, rng, _recorded_for(trace, num_devices))


def _recorded_for(trace: Trace, num_devices: int) -> Optional[RecordedSessions]:
    """Returns the trace's sessions for a number of phones: phone i lives as device i modulo the number of devices."""
    own = trace.sessions
    if own is None:
        return None
    copies = -(-num_devices // len(trace.names))
    devices = (own.devices[None, :] + len(trace.names) * np.arange(copies)[:, None]).ravel().astype(np.int32)
    keep = devices < num_devices
    return RecordedSessions(
        devices[keep],
        np.tile(own.starts, copies)[keep],
        np.tile(own.ends, copies)[keep],
        np.tile(own.periods, copies)[:num_devices],
    )


def _relative_size(size: ModelSize) -> np.float32:
    """Returns the arithmetic of a training step over that of Gboard's model, which the table of devices is about."""
    return np.float32(word_products(size) / word_products(ModelSize(10_000, 96, 670)))


def _draw_ideal(num: int, rng: np.random.Generator) -> profiles.Devices:
    """Returns phones whose work and transfers take no time."""
    drawn, nothing = profiles.draw_devices(num, rng), np.zeros(num, np.float32)
    fast = np.full(num, np.inf, np.float32)
    return replace(drawn, slowness=nothing, downlink_kbit_per_s=fast, uplink_kbit_per_s=fast)


def _draw_low(num: int, rng: np.random.Generator) -> profiles.Devices:
    """Returns phones of the slowest tier of all listed phones, old ones too; it draws until there are enough."""
    parts: list[profiles.Devices] = []
    while sum(map(len, parts)) < num:
        drawn = profiles.draw_devices(max(1000, num), rng, "listed")
        low = drawn.tier == profiles.TIERS.index("low")
        parts.append(profiles.Devices(*(getattr(drawn, f.name)[low] for f in fields(drawn))))
    return profiles.Devices(
        *(np.concatenate([getattr(part, f.name) for part in parts])[:num] for f in fields(parts[0]))
    )


@dataclass(frozen=True)
class Hardware:
    """Which phones a fleet consists of.

    Attributes:
      draw: that many phones.
      takes_time: False if training takes none.
    """

    draw: Callable[[int, np.random.Generator], profiles.Devices]
    takes_time: bool = True


HARDWARE: dict[str, Hardware] = {
    "market": Hardware(lambda num, rng: profiles.draw_devices(num, rng, "in_use")),
    "2018": Hardware(lambda num, rng: profiles.draw_devices(num, rng, "in_use_2018")),
    "low": Hardware(_draw_low),
    "ideal": Hardware(_draw_ideal, takes_time=False),
}


def _require_fast_enough(config: RunConfig, fleet: Fleet, work: Work, num_batches: NDArray) -> None:
    """Refuses a deadline that not even the fastest allowed phone could keep, and a fleet too small for a cohort."""
    able = np.flatnonzero(fleet.allowed)
    fleet_settings = config.fleet
    if fleet_settings.kind.selects_cohorts and len(able) < num_selected(config):
        raise ConfigError(
            f"rounds.cohort_size = {config.rounds.cohort_size}, fleet.over_selection = "
            f"{fleet_settings.over_selection}: {num_selected(config)} phones are wanted, and only {len(able):,} of "
            f"{len(fleet):,} may ever take part; lower them"
        )
    plain = np.ones((len(able), 2))
    times = participation_times(fleet, able, num_batches[able], work, fleet_settings.round_trip_s, plain)
    fastest = float(np.sum(times[:4], axis=0).min())
    if fleet_settings.kind.selects_cohorts and fastest > fleet_settings.report_deadline_s:
        raise ConfigError(
            f"fleet.report_deadline_s = {fleet_settings.report_deadline_s}: the fastest phone takes {fastest:.0f} s; "
            "raise it, or give the clients less to do"
        )


def groups_of(fleet: Fleet) -> dict[str, tuple[NDArray, tuple[str, ...]]]:
    """Returns {grouping: (group of each phone, names of the groups)}: tier, access and time zone."""
    zones = tuple(zone_name(offset) for offset, _ in fleet.behaviour.time_zones)
    return {
        "tier": (fleet.devices.tier, tuple(profiles.TIERS)),
        "access": (fleet.devices.access, tuple(profiles.ACCESS)),
        "time_zone": (fleet.zone, zones),
    }
