"""Check-ins of a fleet at the server: which phones wait, which are sent away until when, and how each check-in ends.

A phone whose session begins checks in. It waits for a round if there is room, else pace steering tells it when to come
again; it then comes if it is still eligible. Each check-in ends in exactly one Outcome. Everything is arrays over
phones, and events come in batches by time, so that a day of a million phones takes seconds.

Source of the policy: Bonawitz et al. 2019, sections 2.2 and 2.3.
"""

from __future__ import annotations

import enum
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from edge.fleet.behaviour import BREAK_S, DAY_S, SessionTable, pickup_rates
from edge.fleet.phones import Fleet, sessions_of_day
from orchestrator.settings.fleet import FleetConfig

_BUCKET_S = 60.0
_CURVE_S = 300.0  # resolution of the curve of eligible phones
_SPARE = 1.5  # check-ins that pace steering asks for, over those that rounds take
_FIRST_GUESS_S = 150.0  # of a round's length, until one has been seen

Indices = NDArray[np.int32]
Seconds = NDArray[np.float64]


class Outcome(enum.IntEnum):
    """How a check-in ends."""

    STEERED_AWAY = 0  # told to come again later
    CAPPED = 1  # has taken part as often as it may
    LEFT = 2  # was picked up, or its session ended, while it waited
    COMPLETED = 3  # its update counts
    LATE = 4  # was still at work when the round had enough, or at its deadline
    PICKED_UP = 5  # somebody used the phone
    SESSION_ENDED = 6  # off the charger or the network
    FAILED = 7  # an error of network or computation
    ROUND_ABANDONED = 8  # its update came, but too few did
    STALE = 9  # fedbuff: its update started from too old a version
    UNDER_WAY = 10  # still waiting or at work when the simulation ends


DROP_OUTS = (Outcome.PICKED_UP, Outcome.SESSION_ENDED, Outcome.FAILED)


class Calendar:
    """Future check-ins by time; batches go in, and what is due comes out."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[tuple[Seconds, Indices]]] = defaultdict(list)
        self._first = 0

    def push(self, times: Seconds, devices: Indices) -> None:
        """Adds events; times may lie in the past, they are then due at once."""
        finite = np.isfinite(times)
        if not finite.all():
            times, devices = times[finite], devices[finite]
        if not len(times):
            return
        places = np.maximum(times // _BUCKET_S, self._first).astype(np.int64)
        order = np.argsort(places, kind="stable")
        places, times, devices = places[order], times[order], devices[order]
        cuts = np.flatnonzero(np.diff(places)) + 1
        for place, some_times, some_devices in zip(
            places[np.concatenate([[0], cuts])], np.split(times, cuts), np.split(devices, cuts)
        ):
            self._buckets[int(place)].append((some_times, some_devices))

    def pop(self, until: float) -> tuple[Seconds, Indices]:
        """Removes what is due by `until`, and returns it in the order of time."""
        last = int(until // _BUCKET_S)
        found: list[tuple[Seconds, Indices]] = []
        for place in range(self._first, last + 1):
            found += self._buckets.pop(place, [])
        self._first = last
        if not found:
            return np.empty(0), np.empty(0, np.int32)
        times = np.concatenate([batch[0] for batch in found])
        devices = np.concatenate([batch[1] for batch in found])
        due = times <= until
        if not due.all():
            self._buckets[last].append((times[~due], devices[~due]))
            times, devices = times[due], devices[due]
        order = np.argsort(times, kind="stable")
        return times[order], devices[order]


class CheckIns:
    """The phones of a fleet and the server's desk, at one moment of the virtual clock."""

    def __init__(self, fleet: Fleet, policy: FleetConfig, wanted: int, seed: int):
        num = len(fleet)
        self.fleet, self._policy, self._wanted, self._seed = fleet, policy, wanted, seed
        self._rng = np.random.default_rng([seed, 0])
        self._room = policy.max_waiting * wanted or num
        self.session_end = np.full(num, -np.inf)
        self._next = np.full(num, np.inf)  # when each phone checks in next, as far as anybody knows
        self._not_before = np.zeros(num)
        self._busy = np.zeros(num, bool)  # waits or takes part
        self.selected = np.zeros(num, np.uint16)
        self.completed = np.zeros(num, np.uint16)
        self.seen = np.zeros(num, bool)  # has checked in at least once
        self._calendar = Calendar()
        self._sessions, self._place, self._day = _NO_SESSIONS, 0, 0
        self.waiting: Indices = np.empty(0, np.int32)
        self._leaves: Seconds = np.empty(0)  # when somebody picks a waiting phone up
        self.outcomes = np.zeros(len(Outcome), np.int64)
        self.check_ins = np.zeros(24, np.int64)  # by hour of the clock; grows
        self._changes = np.zeros(1, np.int64)  # of the number of eligible phones; grows
        self._round_s = _FIRST_GUESS_S
        self._pace_s = self._first_pace()
        self._arrived, self._paced_at = 0, 0.0

    def _first_pace(self) -> float:
        """Returns the seconds between a phone's check-ins, if the server is to see as many as it wants."""
        behaviour = self.fleet.behaviour
        share = min(1.0, behaviour.sessions_per_day * behaviour.session_s / DAY_S)
        return self._bounded(share * len(self.fleet) / (_SPARE * self._wanted / self._round_s))

    def _bounded(self, pace_s: float) -> float:
        return float(np.clip(pace_s, self._policy.min_pace_s, self._policy.max_pace_s))

    def advance(self, until: float) -> None:
        """Moves the clock to `until`, and handles all that happens by then."""
        happened = True
        while happened:  # a check-in may lead to another one that is due as well
            began, came = self._begin_sessions(until), self._check_in(until)
            happened = began or came
        elapsed = until - self._paced_at
        if elapsed >= _BUCKET_S:
            # More come than are wanted: they stay away longer. The root keeps the pace from swinging.
            ratio = self._arrived / elapsed / (_SPARE * self._wanted / self._round_s)
            self._pace_s = self._bounded(max(self._pace_s, 1.0) * float(np.clip(ratio, 0.25, 4.0)) ** 0.5)
            self._arrived, self._paced_at = 0, until

    def _begin_sessions(self, until: float) -> bool:
        if self._place == len(self._sessions.starts):
            if self._day * DAY_S > until:
                return False
            self._sessions, self._place = sessions_of_day(self.fleet, self._day, self._seed), 0
            self._day += 1
        stop = int(np.searchsorted(self._sessions.starts, until, side="right"))
        devices = self._sessions.devices[self._place : stop]
        starts, ends = self._sessions.starts[self._place : stop], self._sessions.ends[self._place : stop]
        self._place = stop
        some = len(devices) > 0
        while len(devices):  # a phone twice in one batch: one after the other
            _, first = np.unique(devices, return_index=True)
            self._begin(devices[first], starts[first], ends[first])
            rest = np.ones(len(devices), bool)
            rest[first] = False
            devices, starts, ends = devices[rest], starts[rest], ends[rest]
        return some or (self._place == len(self._sessions.starts) and self._day * DAY_S <= until)

    def _begin(self, devices: Indices, starts: Seconds, ends: Seconds) -> None:
        old = self.session_end[devices]
        # Still in a session, or busy in one whose end nobody has looked at yet: it lasts longer, if the new one does.
        again = (old >= starts) | self._busy[devices]
        self._count_eligible(np.where(again, np.minimum(old, ends), starts), 1)
        self._count_eligible(ends, -1)
        self.session_end[devices] = np.maximum(old, ends)
        devices, starts = devices[~again], starts[~again]
        first = starts.copy()
        if self._day == 1:  # those that were there before the clock began come one by one, as the pace has it
            there = starts == 0.0
            first[there] = self._rng.random(int(there.sum())) * self._pace_s
        self._schedule(devices, np.maximum(first, self._not_before[devices]))

    def _count_eligible(self, times: Seconds, change: int) -> None:
        limit = int((self._day + 7) * DAY_S / _CURVE_S)  # a session that lasts a week longer has no end here
        places = (np.minimum(times, 1e12) // _CURVE_S).astype(np.int64)
        counts = np.bincount(places[places < limit], minlength=len(self._changes))
        counts[: len(self._changes)] = self._changes + change * counts[: len(self._changes)]
        counts[len(self._changes) :] *= change
        self._changes = counts

    def eligible_curve(self, hours: int) -> NDArray[np.float64]:
        """Returns the mean number of eligible phones in each of the first `hours`."""
        places = int(hours * 3600 / _CURVE_S)
        curve = np.cumsum(self._changes)
        curve = np.pad(curve, (0, max(0, places - len(curve))), mode="edge")[:places]
        return curve.reshape(hours, -1).mean(axis=1)

    def _schedule(self, devices: Indices, times: Seconds) -> None:
        self._next[devices] = times
        self._calendar.push(times, devices)

    def _check_in(self, until: float) -> bool:
        times, devices = self._calendar.pop(until)
        some = len(times) > 0
        due = np.flatnonzero(self._next[devices] == times)  # else another time has been set since
        # A new session may have set the very time that an earlier one had: one check-in, not two.
        due = due[np.sort(np.unique(devices[due], return_index=True)[1])]
        times, devices = times[due], devices[due]
        self._next[devices] = np.inf
        there = self.session_end[devices] > times
        times, devices = times[there], devices[there]
        if not len(times):
            return some
        self._arrived += len(times)
        self.seen[devices] = True
        self._count_hours(times)
        if self._policy.max_participations:
            capped = self.selected[devices] >= self._policy.max_participations
            self.outcomes[Outcome.CAPPED] += int(capped.sum())
            self._not_before[devices[capped]] = np.inf
            times, devices = times[~capped], devices[~capped]
        room = max(0, self._room - len(self.waiting))
        self._wait(devices[:room], times[:room])
        self._steer(devices[room:], times[room:])
        return True

    def _count_hours(self, times: Seconds) -> None:
        hours = np.bincount((np.maximum(times, 0) // 3600).astype(np.int64), minlength=len(self.check_ins))
        hours[: len(self.check_ins)] += self.check_ins
        self.check_ins = hours

    def _wait(self, devices: Indices, times: Seconds) -> None:
        self._busy[devices] = True
        self.waiting = np.concatenate([self.waiting, devices])
        self._leaves = np.concatenate([self._leaves, times + self.draw_pickups(devices, times)])

    def draw_pickups(self, devices: Indices, times: Seconds) -> Seconds:
        """Returns the seconds until somebody picks each phone up, counted from a moment for each phone."""
        most = self.fleet.behaviour.pickups_per_hour
        if most == 0:
            return np.full(len(devices), np.inf)
        rates = pickup_rates(most, times, self.fleet.offsets_s[devices])
        return self._rng.exponential(size=len(devices)) / np.maximum(rates, 1e-12)

    def _steer(self, devices: Indices, times: Seconds) -> None:
        self.outcomes[Outcome.STEERED_AWAY] += len(devices)
        self._send_away(devices, times, 0.0)

    def _send_away(self, devices: Indices, times: Seconds, at_least_s: float) -> None:
        later = times + np.maximum(at_least_s, self._pace_s * (0.5 + self._rng.random(len(devices))))
        self._not_before[devices] = later
        self._schedule(devices, later)

    def present(self, now: float) -> Indices:
        """Returns the numbers of the phones that wait at `now`, and ends the check-ins of those that have left."""
        ends = self.session_end[self.waiting]
        gone = np.minimum(ends, self._leaves) <= now
        if gone.any():
            self.outcomes[Outcome.LEFT] += int(gone.sum())
            self._busy[self.waiting[gone]] = False
            picked_up = gone & (self._leaves < ends)
            self._come_back(self.waiting[picked_up], self._leaves[picked_up])
            self.waiting, self._leaves = self.waiting[~gone], self._leaves[~gone]
        order = np.argsort(self.waiting)
        self.waiting, self._leaves = self.waiting[order], self._leaves[order]
        return self.waiting

    def _come_back(self, devices: Indices, times: Seconds) -> None:
        """Lets a phone that was picked up check in again when it is put down."""
        again = times + self._rng.exponential(BREAK_S, len(devices))
        self._schedule(devices, np.maximum(again, self._not_before[devices]))

    def take(self, places: NDArray) -> Indices:
        """Takes the waiting phones at these places of present() into a round, and returns them."""
        chosen = self.waiting[places]
        keep = np.ones(len(self.waiting), bool)
        keep[places] = False
        self.waiting, self._leaves = self.waiting[keep], self._leaves[keep]
        self.selected[chosen] += 1
        return chosen

    def finish(self, devices: Indices, outcomes: NDArray, times: Seconds) -> None:
        """Ends participations, each at its time, and lets the phones come again."""
        self.outcomes += np.bincount(outcomes, minlength=len(Outcome))
        self.completed[devices[outcomes == Outcome.COMPLETED]] += 1
        self._busy[devices] = False
        ended = outcomes == Outcome.SESSION_ENDED
        back = (outcomes == Outcome.PICKED_UP) | (ended & (self.session_end[devices] > times))
        # A phone that was picked up took part, too: the least separation holds for it.
        self._not_before[devices] = times + self._policy.separation_s
        self._come_back(devices[back], times[back])
        others = ~back & ~ended
        self._send_away(devices[others], times[others], self._policy.separation_s)

    def round_took(self, seconds: float) -> None:
        """Tells pace steering how long rounds take."""
        self._round_s += 0.2 * (max(seconds, 1e-3) - self._round_s)

    def close(self, under_way: int = 0) -> None:
        """Ends the simulation: what is still open ends as UNDER_WAY."""
        self.outcomes[Outcome.UNDER_WAY] += len(self.waiting) + under_way


_NO_SESSIONS = SessionTable(np.empty(0, np.int32), np.empty(0), np.empty(0))
