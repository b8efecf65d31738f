"""Measured fleets from a file: capacity and behaviour tables in the style of FedScale, state traces in that of FLASH.

JSON: an object {device: entry}. An entry of

- capacity has `computation` (milliseconds a training sample) and `communication` (kbit/s, both directions);
- behaviour has `active` and `inactive` (seconds at which the phone becomes eligible and stops to be), and `finish_time`
  (the period in seconds after which the trace begins again); `duration` and `model` may be there;
- states has `messages`: lines of `time<TAB>state` with times as 2020-03-01 07:15:00 and the states battery_charged_on,
  battery_charged_off, wifi, 2G, 3G, 4G, unknown, screen_on, screen_off, screen_unlock and screen_lock.

CSV: columns device, start_s, end_s and, if wanted, period_s: an interval of eligibility a row.
Capacity and behaviour may be in one entry. A pickle is refused: reading one runs whatever code is in it.

Source: docs of FedScale (device trace file formats), repository of FLASH (Yang et al. 2021), data/state_traces.json.
"""

from __future__ import annotations

import csv
import datetime
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from edge.errors import FleetError
from edge.fleet.behaviour import DAY_S
from edge.fleet.phones import RecordedSessions

_COLUMNS = ("device", "start_s", "end_s")
_PICKLE = (b"\x80", b"(dp", b"(lp", b"ccopy_reg")
_STATES = frozenset(
    ("battery_charged_on", "battery_charged_off", "wifi", "2G", "3G", "4G", "5G", "unknown", "screen_on", "screen_off",
     "screen_unlock", "screen_lock")
)  # fmt: skip
Interval = tuple[float, float]


@dataclass(frozen=True)
class Trace:
    """What a file says of its devices, in the order of their names; absent parts are None."""

    names: tuple[str, ...]
    sessions: Optional[RecordedSessions] = None
    ms_per_sample: Optional[np.ndarray] = None  # float32 [devices]
    kbit_per_s: Optional[np.ndarray] = None  # float32 [devices]


def read_trace(path: Path) -> Trace:
    """Returns the trace of a JSON or CSV file.

    Raises:
      FleetError: names the file, the device, the field and the value that can't be used.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FleetError(f"fleet.trace = {path}: can't be read: {error.strerror}") from None
    if raw.startswith(_PICKLE) or path.suffix in (".pkl", ".pickle"):
        raise FleetError(
            f"fleet.trace = {path}: is a pickle, and reading one runs whatever code is in it; save it as JSON"
        )
    try:
        text = raw.decode("utf-8")
        if path.suffix == ".csv":
            return _from_intervals(path, *_csv_intervals(path, text))
        entries = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FleetError(f"fleet.trace = {path}: is neither JSON nor CSV: {error}") from None
    if not isinstance(entries, dict):
        raise FleetError(f"fleet.trace = {path}: must be an object of devices, is a {type(entries).__name__}")
    return _from_entries(path, entries)


def _from_entries(path: Path, entries: Mapping[str, object]) -> Trace:
    if not entries:
        raise FleetError(f"fleet.trace = {path}: holds no device")
    names = tuple(sorted(entries))
    first = entries[names[0]]
    kinds = {
        "computation": isinstance(first, dict) and "computation" in first,
        "active": isinstance(first, dict) and "active" in first,
        "messages": isinstance(first, dict) and "messages" in first,
    }
    if not any(kinds.values()):
        raise FleetError(f"fleet.trace = {path}: device {names[0]} has none of {', '.join(kinds)}")
    speeds = links = sessions = None
    if kinds["computation"]:
        speeds = np.array([_number(path, n, entries[n], "computation") for n in names], np.float32)
        links = np.array([_number(path, n, entries[n], "communication") for n in names], np.float32)
    if kinds["active"] or kinds["messages"]:
        intervals, periods = {}, {}
        for name in names:
            read = _behaviour if kinds["active"] else _states
            intervals[name], periods[name] = read(path, name, entries[name])
        sessions = _from_intervals(path, intervals, periods).sessions
    return Trace(names, sessions, speeds, links)


def _field(path: Path, name: str, entry: object, field: str) -> object:
    if not isinstance(entry, dict) or field not in entry:
        raise FleetError(f"fleet.trace = {path}: device {name} has no {field}")
    return entry[field]


def _number(path: Path, name: str, entry: object, field: str) -> float:
    value = _field(path, name, entry, field)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise FleetError(f"fleet.trace = {path}: device {name} has {field} = {value!r}, must be a number above 0")
    return float(value)


def _times(path: Path, name: str, entry: object, field: str) -> list[float]:
    values = _field(path, name, entry, field)
    if not isinstance(values, list):
        raise FleetError(f"fleet.trace = {path}: device {name} has {field} = {values!r}, must be a list of seconds")
    return [_require_time(path, name, field, value) for value in values]


def _behaviour(path: Path, name: str, entry: object) -> tuple[list[Interval], float]:
    """Reads a FedScale entry.

    The stop that comes first after each start ends it; the last stop may lie in the next period.
    """
    period = _number(path, name, entry, "finish_time")
    starts, stops = _times(path, name, entry, "active"), _times(path, name, entry, "inactive")
    intervals = []
    for start in sorted(starts):
        later = [stop for stop in stops if stop > start]
        intervals.append((start, min(later, default=min(stops, default=0.0) + period)))
    return intervals, period


def _states(path: Path, name: str, entry: object) -> tuple[list[Interval], float]:
    """Reads a FLASH entry: the phone is eligible while it charges, on Wi-Fi and with the screen off."""
    charging, unmetered, idle = False, False, True
    intervals: list[Interval] = []
    began: Optional[float] = None
    first = now = 0.0
    for number, line in enumerate(str(_field(path, name, entry, "messages")).splitlines()):
        stamp, _, state = line.strip().partition("\t")
        try:
            seconds = datetime.datetime.fromisoformat(stamp.strip()).replace(tzinfo=datetime.timezone.utc).timestamp()
        except ValueError:
            raise FleetError(f"fleet.trace = {path}: device {name} has the time {stamp!r}, must be a date") from None
        state = state.strip()
        if state not in _STATES:
            raise FleetError(f"fleet.trace = {path}: device {name} has the unknown state {state!r}")
        first = seconds if number == 0 else first
        if seconds - first < now:
            raise FleetError(f"fleet.trace = {path}: device {name} goes back in time at {stamp!r}")
        now = seconds - first
        if state.startswith("battery"):
            charging = state.endswith("_on")
        elif state.startswith("screen"):
            idle = state in ("screen_off", "screen_lock")
        else:
            unmetered = state == "wifi"
        able = charging and unmetered and idle
        if able and began is None:
            began = now
        elif not able and began is not None:
            if now > began:
                intervals.append((began, now))
            began = None
    if began is not None and now > began:
        intervals.append((began, now))
    return intervals, max(DAY_S, math.ceil(now / DAY_S) * DAY_S)


def _csv_intervals(path: Path, text: str) -> tuple[dict[str, list[Interval]], dict[str, float]]:
    rows = csv.DictReader(text.splitlines())
    missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise FleetError(f"fleet.trace = {path}: has no column {', '.join(missing)}")
    intervals: dict[str, list[Interval]] = {}
    periods: dict[str, float] = {}
    for row in rows:
        name = row["device"]
        times = []
        for column in ("start_s", "end_s"):
            try:
                value = float(row[column])
            except (TypeError, ValueError):
                raise FleetError(
                    f"fleet.trace = {path}, line {rows.line_num}: {column} = {row[column]!r} is not a number"
                ) from None
            times.append(_require_time(path, name, column, value))
        intervals.setdefault(name, []).append((times[0], times[1]))
        if row.get("period_s"):
            periods[name] = float(row["period_s"])
    return intervals, periods


def _require_time(path: Path, name: str, field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise FleetError(f"fleet.trace = {path}: device {name} has {field} = {value!r}, must be a number of seconds")
    if value < 0:
        raise FleetError(f"fleet.trace = {path}: device {name} has {field} = {value}, must not be negative")
    return float(value)


def _from_intervals(path: Path, intervals: Mapping[str, list[Interval]], periods: Mapping[str, float]) -> Trace:
    if not any(intervals.values()):
        raise FleetError(f"fleet.trace = {path}: holds no device that is ever eligible")
    names = tuple(sorted(intervals))
    devices, starts, ends, lengths = [], [], [], []
    for place, name in enumerate(names):
        own = sorted(intervals[name])
        _require_apart(path, name, own)
        last = max((end for _, end in own), default=0.0)
        period = periods.get(name) or max(DAY_S, math.ceil(last / DAY_S) * DAY_S)
        if own and own[-1][1] - period > own[0][0]:
            raise FleetError(
                f"fleet.trace = {path}: device {name} has the interval {own[-1]} that overlaps {own[0]} "
                f"of the next period of {period:.0f} s"
            )
        lengths.append(period)
        devices += [place] * len(own)
        starts += [start for start, _ in own]
        ends += [end for _, end in own]
    recorded = RecordedSessions(
        np.array(devices, np.int32), np.array(starts, float), np.array(ends, float), np.array(lengths, float)
    )
    return Trace(names, recorded)


def _require_apart(path: Path, name: str, own: Iterable[Interval]) -> None:
    before: Optional[Interval] = None
    for interval in own:
        if interval[1] <= interval[0]:
            raise FleetError(f"fleet.trace = {path}: device {name} has end_s = {interval[1]} at or before its start")
        if before is not None and interval[0] < before[1]:
            raise FleetError(f"fleet.trace = {path}: device {name} has the overlapping intervals {before}, {interval}")
        before = interval
