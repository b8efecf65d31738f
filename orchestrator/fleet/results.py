"""What is written of a fleet: a plan's figures, the field `fleet` of a line of rounds.jsonl, and fleet_devices.json."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from models.corpus import ClientId

DEVICES_FILE = "fleet_devices.json"


class FleetOfRound(msgspec.Struct, frozen=True):
    """A round as the fleet saw it: the field `fleet` of a line of rounds.jsonl. Times are virtual seconds.

    Attributes:
      opened_s, started_s, ended_s: when the server began to select, when the round began, and when it ended.
      parts_s: what the report that ended the round spent its time on.
      bytes_down, bytes_up: traffic of all phones of the round.
      check_ins: phones that came since the round before. eligible: phones that could train when the round began.
      selection_timeouts: selections that failed before this one for want of phones.
      outcomes: {outcome: number of selected phones}. members: {client: its outcome}.
      drop_outs: {cause: {stage of the sum before which the phone was gone: number of phones}}.
      mean_staleness: server steps between download and report, mean over the buffered updates; 0 without a buffer.
    """

    opened_s: float
    started_s: float
    ended_s: float
    parts_s: Mapping[str, float]
    bytes_down: float
    bytes_up: float
    check_ins: int
    eligible: int
    selection_timeouts: int
    outcomes: Mapping[str, int]
    drop_outs: Mapping[str, Mapping[str, int]]
    members: Mapping[ClientId, str]
    mean_staleness: float = 0.0

    @property
    def length_s(self) -> float:
        """The time from the opening of the selection to the end."""
        return self.ended_s - self.opened_s

    @property
    def num_bytes(self) -> float:
        """The traffic in both directions."""
        return self.bytes_down + self.bytes_up


class Phone(msgspec.Struct, frozen=True):
    """The phone of a training person, in fleet_devices.json.

    Attributes:
      tier, access, time_zone: the groups that it belongs to.
      ram_mib: its memory. step_s: seconds of a training step.
      allowed: whether it may ever take part.
    """

    tier: str
    access: str
    time_zone: str
    ram_mib: int
    step_s: float
    allowed: bool


class Hours(msgspec.Struct, frozen=True):
    """The virtual hours of a plan: eligible phones, check-ins and rounds of each."""

    eligible: tuple[float, ...]
    check_ins: tuple[float, ...]
    rounds: tuple[int, ...]


class GroupShares(msgspec.Struct, frozen=True):
    """A group of phones.

    Attributes:
      devices: its phones.
      fleet, selected, completed: its shares of the fleet, of the selected phones, and of the updates that counted.
      not_allowed, never_heard: the shares of its phones that may not take part, and none of whose updates counted.
    """

    devices: int
    fleet: float
    selected: float
    completed: float
    not_allowed: float
    never_heard: float


class Traffic(msgspec.Struct, frozen=True):
    """What all phones received and sent."""

    down: float
    up: float


class PlanFigures(msgspec.Struct, frozen=True):
    """The figures of `fedkeys fleet --json`.

    Attributes:
      hours: how many virtual hours were simulated.
      round_s, where_time_goes_s: virtual seconds of a round, selection included.
      updates: the updates that counted. bytes_per_update: the traffic of each of them.
      drop_out_rate: share of the selected phones. drop_outs: {cause: {stage of the sum: number of phones}}.
      over_selection: phones selected for each that was wanted.
      day_swing: eligible phones, highest hour over lowest; 0 if an hour has nobody.
      participation: {grouping: {group: its shares}}.
      wall_s, peak_rss_mib: what the simulation took.
    """

    policy: str
    aggregator: str
    devices: int
    hours: int
    rounds: int
    abandoned: int
    selection_timeouts: int
    round_s: Mapping[str, float]
    where_time_goes_s: Mapping[str, float]
    updates: int
    updates_per_hour: float
    drop_out_rate: float
    drop_outs: Mapping[str, Mapping[str, int]]
    over_selection: float
    day_swing: float
    check_ins: Mapping[str, int]
    by_hour: Hours
    participation: Mapping[str, Mapping[str, GroupShares]]
    gigabytes: Traffic
    bytes_per_update: int
    wall_s: float
    peak_rss_mib: float
