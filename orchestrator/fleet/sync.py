"""Synchronous rounds on the virtual clock: selection, work, reports, and who is lost at which stage.

A round selects more phones than it needs, waits for as many reports as it wants or for its deadline, and is abandoned
if too few came. What follows for the sum is a DropStage for each member.

Source: Bonawitz et al. 2019, section 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Callable, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from edge.fleet.phones import Times, Work, participation_times
from orchestrator.aggregator import DropStage
from orchestrator.fleet.checkin import DROP_OUTS, CheckIns, Indices, Outcome, Seconds
from orchestrator.settings.fleet import FleetConfig

STAGES = (DropStage.NONE, DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD, DropStage.BEFORE_UNMASK)
PARTS = ("selection", "download", "set-up", "training", "upload", "waiting", "unmasking")
_POLL_S = 5.0  # how often the server looks whether enough phones wait
_LONGEST_WAIT_S = 14 * 86_400.0  # without a single round: hopeless

Draw = Callable[[int, int, int], NDArray]  # (round_num, of how many, how many) -> places


@dataclass(frozen=True)
class Goal:
    """What a round wants: it starts with `min_selected` phones or more, and ends well with `min_reports` or more."""

    reports: int
    selected: int
    min_selected: int
    min_reports: int


@dataclass(frozen=True)
class FleetRound:
    """A round as the fleet saw it. Arrays are over the selected phones, in the cohort's order."""

    round_num: int
    opened_s: float  # when the server began to select
    started_s: float
    ended_s: float
    devices: Indices
    outcomes: NDArray[np.uint8]  # Outcome
    stages: NDArray[np.uint8]  # index into STAGES: before which stage of the sum it is gone
    parts_s: Mapping[str, float]  # of the report that ended the round; they sum to its length
    bytes_down: float
    bytes_up: float
    reason: str = ""  # why it was abandoned
    timeouts: int = 0  # selections that failed before this one
    staleness: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # fedbuff

    @property
    def length_s(self) -> float:
        """From the opening of the selection to the end."""
        return self.ended_s - self.opened_s

    @property
    def num_dropped(self) -> int:
        """Selected phones that an error, a person or the end of their session took away."""
        return int(np.isin(self.outcomes, DROP_OUTS).sum())


class _Deaths(NamedTuple):
    """When and why each selected phone would stop if the round lasted for ever."""

    times: Seconds
    causes: NDArray[np.uint8]


class SyncRounds:
    """Makes the rounds of a fleet, one after the other."""

    def __init__(
        self,
        check_ins: CheckIns,
        policy: FleetConfig,
        goal: Goal,
        work: Work,
        num_batches: NDArray,  # [fleet]
        draw: Draw,
        rng: np.random.Generator,
    ):
        self.check_ins, self._policy, self._goal, self._work = check_ins, policy, goal, work
        self._num_batches, self._draw, self._rng = num_batches, draw, rng
        self.now = 0.0

    @property
    def under_way(self) -> int:
        """Phones at work between two rounds: none."""
        return 0

    def oldest_version(self, version: int) -> int:
        """Returns the newest version: everybody starts a round from the newest weights."""
        return version

    def next_round(self, round_num: int, until: float = np.inf) -> Optional[FleetRound]:
        """Returns the next round, or None if the clock reaches `until` before one has started."""
        opened, timeouts = self.now, 0
        while True:
            present = self._select(min(self.now + self._policy.selection_timeout_s, until))
            if self.now >= until or self.now - opened > _LONGEST_WAIT_S:
                return None
            if len(present) >= self._goal.min_selected:
                break
            timeouts += 1
        num = min(self._goal.selected, len(present))
        chosen = self.check_ins.take(self._draw(round_num, len(present), num))
        return self._run(round_num, opened, chosen, timeouts)

    def _select(self, deadline: float) -> Indices:
        """Moves the clock until enough phones wait, or to the deadline, and returns who waits then."""
        self.check_ins.advance(self.now)
        present = self.check_ins.present(self.now)
        while len(present) < self._goal.selected and self.now < deadline:
            self.now = min(self.now + _POLL_S, deadline)
            self.check_ins.advance(self.now)
            present = self.check_ins.present(self.now)
        return present

    def _run(self, round_num: int, opened: float, chosen: Indices, timeouts: int) -> FleetRound:
        policy, start = self._policy, self.now
        times = self._times(chosen)
        setup_end = start + times.download + times.setup
        # A sum with shares lets nobody upload before all have shared; who takes too long is left out.
        shares_at = start + policy.report_deadline_s / 4 if self._work.setup_messages else np.inf
        shared = setup_end <= shares_at
        alive_total = start + sum(times[:4]) + times.finish
        deaths = self._deaths(chosen, start, alive_total)
        barrier = start
        if self._work.setup_messages:
            in_time = shared & (deaths.times > setup_end)
            late = ~shared & (deaths.times > shares_at)
            barrier = shares_at if late.any() else max(setup_end[in_time], default=start)
        uploaded = np.maximum(setup_end + times.train, barrier) + times.upload
        reports = shared & (deaths.times > uploaded) & (uploaded <= start + policy.report_deadline_s)
        end = self._end_of_reports(start, uploaded, deaths, reports, shared)
        first = np.argsort(np.where(reports, uploaded, np.inf), kind="stable")[: self._goal.reports]
        reports &= np.isin(np.arange(len(chosen)), first)  # not one more, even if two come at the same moment
        outcomes, stages = _classify(reports, deaths, end, setup_end, shared)
        num = int(reports.sum())
        reason = ""
        if num < self._goal.min_reports:
            reason = (
                f"round {round_num}: {num} of {len(chosen)} selected phones reported in "
                f"{end - start:.0f} s, {self._goal.min_reports} needed"
            )
            outcomes[reports] = Outcome.ROUND_ABANDONED
            unmasked = end
        else:
            unmasked = self._unmask(end, times, deaths, reports, stages)
        parts = self._parts(opened, start, end, unmasked, uploaded, reports, times)
        when = np.where(np.isin(outcomes, DROP_OUTS), np.minimum(deaths.times, end), unmasked)
        self.check_ins.finish(chosen, outcomes, when)
        self.check_ins.round_took(unmasked - opened)
        self.now = unmasked
        down, up = self._bytes(times, start, np.minimum(deaths.times, end), setup_end, uploaded, reports)
        return FleetRound(
            round_num, opened, start, unmasked, chosen, outcomes, stages, parts, down, up, reason, timeouts
        )

    def _times(self, chosen: Indices) -> Times:
        jitter = np.exp(self._policy.jitter * self._rng.standard_normal((len(chosen), 2)))
        return participation_times(
            self.check_ins.fleet, chosen, self._num_batches[chosen], self._work, self._policy.round_trip_s, jitter
        )

    def _deaths(self, chosen: Indices, start: float, alive_total: Seconds) -> _Deaths:
        draws = self._rng.random((2, len(chosen)))
        fails = np.where(draws[0] < self._policy.failure_share, start + draws[1] * (alive_total - start), np.inf)
        picked_up = start + self.check_ins.draw_pickups(chosen, np.full(len(chosen), start))
        candidates = np.stack([picked_up, self.check_ins.session_end[chosen], fails])
        causes = np.array(DROP_OUTS, np.uint8)[candidates.argmin(axis=0)]
        return _Deaths(candidates.min(axis=0), causes)

    def _end_of_reports(
        self, start: float, uploaded: Seconds, deaths: _Deaths, reports: NDArray, shared: NDArray
    ) -> float:
        """Returns when the server stops waiting: when enough have come, nobody else can come, or at the deadline."""
        deadline = start + self._policy.report_deadline_s
        came = np.sort(uploaded[reports])
        if len(came) >= self._goal.reports:
            return float(came[self._goal.reports - 1])
        # A lost connection is seen at once; a phone that is only slow keeps the server waiting.
        slow = ~reports & shared & (deaths.times > deadline)
        if slow.any():
            return deadline
        decided = np.where(reports, uploaded, np.minimum(deaths.times, deadline))
        return float(decided[shared | reports].max(initial=start))

    def _unmask(self, end: float, times: Times, deaths: _Deaths, reports: NDArray, stages: NDArray) -> float:
        """Returns when the sum is open, and marks those who vanish between their upload and then."""
        if not self._work.finish_messages:
            return end
        open_at = end + float(times.finish[reports].max())
        open_at = min(open_at, end + self._policy.report_deadline_s / 4)
        lost = reports & ((deaths.times <= open_at) | (end + times.finish > open_at))
        stages[lost] = STAGES.index(DropStage.BEFORE_UNMASK)
        return open_at

    def _parts(
        self,
        opened: float,
        start: float,
        end: float,
        unmasked: float,
        uploaded: Seconds,
        reports: NDArray,
        times: Times,
    ) -> dict[str, float]:
        """Returns what the round's seconds went into: the parts of the last report that counts, and the waiting."""
        parts = dict.fromkeys(PARTS, 0.0)
        parts["selection"], parts["unmasking"] = start - opened, unmasked - end
        if reports.any():
            last = int(np.where(reports, uploaded, -np.inf).argmax())
            for name, seconds in zip(("download", "set-up", "training", "upload"), times):
                parts[name] = float(seconds[last])
        parts["waiting"] = max(0.0, unmasked - opened - sum(parts.values()))
        return parts

    def _bytes(
        self, times: Times, start: float, stopped: Seconds, setup_end: Seconds, uploaded: Seconds, reports: NDArray
    ) -> tuple[float, float]:
        """Returns the bytes that the phones received and sent, for every part that they completed."""
        work = self._work
        downloaded = int((start + times.download <= stopped).sum())
        set_up = int((setup_end <= stopped).sum())
        sent = int((uploaded <= stopped).sum())
        num = int(reports.sum())
        return (
            downloaded * work.model_bytes + set_up * work.setup_bytes_down + num * work.finish_bytes_down,
            set_up * work.setup_bytes_up + sent * work.upload_bytes + num * work.finish_bytes_up,
        )


def _classify(
    reports: NDArray, deaths: _Deaths, end: float, setup_end: Seconds, shared: NDArray
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns (outcome, stage) of each selected phone."""
    gone = ~reports & (deaths.times <= end)
    outcomes = np.where(reports, Outcome.COMPLETED, np.where(gone, deaths.causes, Outcome.LATE)).astype(np.uint8)
    stopped = np.where(gone, deaths.times, end)
    before_shares = ~reports & ((stopped < setup_end) | ~shared)
    stages = np.where(
        reports,
        STAGES.index(DropStage.NONE),
        np.where(before_shares, STAGES.index(DropStage.BEFORE_SHARES), STAGES.index(DropStage.BEFORE_UPLOAD)),
    ).astype(np.uint8)
    return outcomes, stages
