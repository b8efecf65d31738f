"""FedBuff on the virtual clock: phones train at their pace, and the server steps when its buffer is full.

`concurrency` phones are at work at any time; one that ends makes room for the next. An update knows how many steps the
server has made since its phone downloaded the weights: its staleness.

Source: Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", algorithm 1.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from edge.fleet.phones import Work, participation_times
from orchestrator.aggregator import DropStage
from orchestrator.fleet.checkin import DROP_OUTS, CheckIns, Outcome
from orchestrator.fleet.sync import PARTS, STAGES, FleetRound
from orchestrator.settings.fleet import FleetConfig

_POLL_S = 5.0
_MOMENT_S = 1.0  # the server fills places that become free this close together at once
_LONGEST_WAIT_S = 14 * 86_400.0
# A single upload is all that a phone does for the sum: it is gone before that, or it counts.
_STAGE_OF = {True: STAGES.index(DropStage.NONE), False: STAGES.index(DropStage.BEFORE_UPLOAD)}


class _Job(NamedTuple):
    """A phone at work. Jobs sort by their ends."""

    ends: float
    number: int  # breaks ties in the order of the starts
    device: int
    outcome: int  # COMPLETED, or what stops it
    version: int  # steps of the server when it started
    started: float
    parts: tuple[float, ...]  # seconds of download, set-up, training, upload


class BufferSteps:
    """Makes the server's steps, one after the other."""

    def __init__(
        self, check_ins: CheckIns, policy: FleetConfig, work: Work, num_batches: NDArray, rng: np.random.Generator
    ):
        self.check_ins, self._policy, self._work = check_ins, policy, work
        self._num_batches, self._rng = num_batches, rng
        self.now = 0.0
        self._jobs: list[_Job] = []
        self._started = 0
        self._last_step = 0.0

    @property
    def under_way(self) -> int:
        """Phones that are at work."""
        return len(self._jobs)

    def oldest_version(self, version: int) -> int:
        """Returns the oldest version of the weights that a phone still works from; `version` if nobody does."""
        usable = [job.version for job in self._jobs if version - job.version <= self._policy.max_staleness]
        return min(usable, default=version)

    def next_round(self, round_num: int, until: float = np.inf) -> Optional[FleetRound]:
        """Returns the next step of the server, or None if the clock reaches `until` first."""
        opened, version = self.now, round_num - 1
        buffer: list[_Job] = []
        others: list[_Job] = []
        while len(buffer) < self._policy.buffer_size:
            if self.now >= until or self.now - opened > _LONGEST_WAIT_S:
                self._give_back(buffer)
                return None
            self._refill(version, {job.device for job in buffer})
            poll = self.now + _POLL_S if len(self._jobs) < self._policy.concurrency else np.inf
            if not self._jobs or self._jobs[0].ends > min(poll, until):
                self.now = min(poll, until)
                continue
            ended = self._pop(self._policy.buffer_size - len(buffer), until)
            self.now = max(self.now, ended[-1].ends)
            for place, job in enumerate(ended):
                if job.outcome == Outcome.COMPLETED and version - job.version > self._policy.max_staleness:
                    ended[place] = job._replace(outcome=int(Outcome.STALE))
                (buffer if ended[place].outcome == Outcome.COMPLETED else others).append(ended[place])
            self.check_ins.finish(
                np.array([job.device for job in ended], np.int32),
                np.array([job.outcome for job in ended]),
                np.array([job.ends for job in ended]),
            )
        return self._step(round_num, opened, buffer, others)

    def _pop(self, room: int, until: float) -> list[_Job]:
        """Returns the jobs that end next: at most `room`, and those within a moment of each other together."""
        ended = [heapq.heappop(self._jobs)]
        latest = min(ended[0].ends + _MOMENT_S, until)
        while self._jobs and len(ended) < room and self._jobs[0].ends <= latest:
            ended.append(heapq.heappop(self._jobs))
        return ended

    def _give_back(self, buffer: list[_Job]) -> None:
        """Ends the simulation: the updates in a buffer that is not full never count."""
        self.check_ins.outcomes[Outcome.COMPLETED] -= len(buffer)
        self.check_ins.outcomes[Outcome.UNDER_WAY] += len(buffer)

    def _refill(self, version: int, in_buffer: set[int]) -> None:
        """Puts waiting phones to work until enough are; one whose update is in the buffer waits for the step."""
        missing = self._policy.concurrency - len(self._jobs)
        if missing <= 0:
            return
        self.check_ins.advance(self.now)
        present = self.check_ins.present(self.now)
        places = np.flatnonzero(~np.isin(present, list(in_buffer)))
        num = min(missing, len(places))
        if num == 0:
            return
        chosen = self.check_ins.take(self._rng.choice(places, num, replace=False))
        for job in self._jobs_of(chosen, version):
            heapq.heappush(self._jobs, job)

    def _jobs_of(self, chosen: NDArray, version: int) -> list[_Job]:
        policy, start = self._policy, self.now
        jitter = np.exp(policy.jitter * self._rng.standard_normal((len(chosen), 2)))
        times = participation_times(
            self.check_ins.fleet, chosen, self._num_batches[chosen], self._work, policy.round_trip_s, jitter
        )
        parts = np.stack(times[:4])
        done = start + parts.sum(axis=0)
        draws = self._rng.random((2, len(chosen)))
        fails = np.where(draws[0] < policy.failure_share, start + draws[1] * (done - start), np.inf)
        picked_up = start + self.check_ins.draw_pickups(chosen, np.full(len(chosen), start))
        candidates = np.stack([picked_up, self.check_ins.session_end[chosen], fails, done])
        causes = np.array([*DROP_OUTS, Outcome.COMPLETED])[candidates.argmin(axis=0)]
        ends = candidates.min(axis=0)
        jobs = []
        for i, device in enumerate(chosen):
            self._started += 1
            jobs.append(
                _Job(float(ends[i]), self._started, int(device), int(causes[i]), version, start, tuple(parts[:, i]))
            )
        return jobs

    def _step(self, round_num: int, opened: float, buffer: list[_Job], others: list[_Job]) -> FleetRound:
        # The oldest versions first: a step's members that share one train together.
        buffer.sort(key=lambda job: (job.version, job.number))
        jobs = buffer + others
        staleness = np.array([round_num - 1 - job.version for job in buffer], np.int64)
        started = [bool(job.started + job.parts[0] <= job.ends) for job in jobs]
        mean_parts = np.mean([job.parts for job in buffer], axis=0)
        length = float(self.now - opened)
        share = length / max(float(mean_parts.sum()), 1e-12)  # steps overlap: a step's seconds, as an update's divide
        parts = dict.fromkeys(PARTS, 0.0)
        parts.update(zip(("download", "set-up", "training", "upload"), (float(p * share) for p in mean_parts)))
        if not mean_parts.any():
            parts["waiting"] = length
        self.check_ins.round_took(max(1e-3, self._mean_job_s(jobs)))
        return FleetRound(
            round_num=round_num,
            opened_s=opened,
            started_s=opened,
            ended_s=self.now,
            devices=np.array([job.device for job in jobs], np.int32),
            outcomes=np.array([job.outcome for job in jobs], np.uint8),
            stages=np.array([_STAGE_OF[job.outcome == Outcome.COMPLETED] for job in jobs], np.uint8),
            parts_s=parts,
            bytes_down=sum(started) * self._work.model_bytes + len(jobs) * self._work.setup_bytes_down,
            bytes_up=sum(job.outcome in (Outcome.COMPLETED, Outcome.STALE) for job in jobs) * self._work.upload_bytes,
            staleness=staleness,
        )

    def _mean_job_s(self, jobs: list[_Job]) -> float:
        return float(np.mean([job.ends - job.started for job in jobs]))
