"""Measures a fleet without training: how many rounds it gives, how long they take, and who is lost or never heard."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np

from orchestrator.fleet.checkin import DROP_OUTS, Outcome
from orchestrator.fleet.results import GroupShares, Hours, PlanFigures, Traffic
from orchestrator.fleet.simulation import Simulation, build_simulation, groups_of
from orchestrator.fleet.sync import PARTS, STAGES, FleetRound
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text

Note = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A fleet after some virtual hours, and the rounds that it gave."""

    config: RunConfig
    hours: int
    simulation: Simulation
    rounds: tuple[FleetRound, ...]
    wall_s: float


def plan_fleet(config: RunConfig, hours: int, note: Note = lambda text: None) -> Plan:
    """Simulates a fleet for a number of virtual hours.

    Raises:
      FleetError, ConfigError: see build_simulation.
    """
    started = time.perf_counter()
    note(f"drawing {count_text(config.fleet.devices, 'phone')}")
    simulation = build_simulation(config, config.model.size, config.fleet.devices)
    rounds: list[FleetRound] = []
    told, end = 0, hours * 3600.0
    while True:
        done = simulation.rounds.next_round(len(rounds) + 1, end)
        if done is None:
            break
        rounds.append(done)
        if done.ended_s >= (told + 6) * 3600:
            told = int(done.ended_s // 3600)
            note(f"virtual hour {told} of {hours}, {count_text(len(rounds), 'round')}")
    simulation.check_ins.advance(end)
    simulation.check_ins.close(simulation.rounds.under_way)
    return Plan(config, hours, simulation, tuple(rounds), time.perf_counter() - started)


def plan_figures(plan: Plan) -> PlanFigures:
    """Returns the figures of a plan."""
    rounds, check_ins, config = plan.rounds, plan.simulation.check_ins, plan.config
    num_selected = sum(len(r.devices) for r in rounds)
    eligible = check_ins.eligible_curve(plan.hours)
    goal = config.fleet.buffer_size if config.fleet.kind.is_buffered else config.rounds.cohort_size
    num_completed = sum(int((r.outcomes == Outcome.COMPLETED).sum()) for r in rounds)
    lengths = [r.length_s for r in rounds] or [0.0]
    down, up = sum(r.bytes_down for r in rounds), sum(r.bytes_up for r in rounds)
    return PlanFigures(
        policy=config.fleet.policy,
        aggregator=config.aggregation.aggregator,
        devices=len(plan.simulation.fleet),
        hours=plan.hours,
        rounds=len(rounds),
        abandoned=sum(bool(r.reason) for r in rounds),
        selection_timeouts=sum(r.timeouts for r in rounds),
        round_s={f"p{q}": round(float(np.percentile(lengths, q)), 1) for q in (10, 50, 90)},
        where_time_goes_s={
            part: round(float(np.mean([r.parts_s[part] for r in rounds] or [0.0])), 2) for part in PARTS
        },
        updates=num_completed,
        updates_per_hour=round(num_completed / plan.hours, 1),
        drop_out_rate=round(sum(r.num_dropped for r in rounds) / max(1, num_selected), 5),
        drop_outs=count_drop_outs(rounds),
        over_selection=round(num_selected / max(1, goal * len(rounds)), 4),
        day_swing=round(_swing(eligible), 3),
        check_ins={outcome.name.lower(): int(count) for outcome, count in zip(Outcome, check_ins.outcomes) if count},
        by_hour=_by_hour(plan, eligible),
        participation=participation(plan.simulation),
        gigabytes=Traffic(down=round(down / 1e9, 3), up=round(up / 1e9, 3)),
        bytes_per_update=round((down + up) / max(1, num_completed)),
        wall_s=round(plan.wall_s, 2),
        peak_rss_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def _by_hour(plan: Plan, eligible: np.ndarray) -> Hours:
    ended = [min(int(r.ended_s // 3600), plan.hours - 1) for r in plan.rounds]
    return Hours(
        eligible=tuple(round(float(n), 1) for n in eligible),
        check_ins=tuple(np.pad(plan.simulation.check_ins.check_ins, (0, plan.hours))[: plan.hours].tolist()),
        rounds=tuple(np.bincount(ended, minlength=plan.hours).tolist()),
    )


def _swing(eligible: np.ndarray) -> float:
    """Returns the highest hour of the mean day over the lowest; 0 if an hour has nobody."""
    days = eligible[: len(eligible) // 24 * 24].reshape(-1, 24).mean(axis=0) if len(eligible) >= 24 else eligible
    return float(days.max() / days.min()) if days.min() > 0 else 0.0


def count_drop_outs(rounds: Sequence[FleetRound]) -> dict[str, dict[str, int]]:
    """Returns {cause: {stage of the sum: phones}} of those that an error, a person or their session's end took away."""
    counts: dict[Outcome, Counter] = {cause: Counter() for cause in DROP_OUTS}
    for done in rounds:
        for cause in DROP_OUTS:
            counts[cause].update(done.stages[done.outcomes == cause].tolist())
    return {
        cause.name.lower(): {STAGES[stage].value: num for stage, num in sorted(of_stage.items())}
        for cause, of_stage in counts.items()
    }


def participation(simulation: Simulation) -> dict[str, dict[str, GroupShares]]:
    """Returns {grouping: {group: its shares}} of the groups that have phones."""
    check_ins, fleet = simulation.check_ins, simulation.fleet
    result: dict[str, dict[str, GroupShares]] = {}
    for grouping, (group_of, names) in groups_of(fleet).items():
        size = np.bincount(group_of, minlength=len(names))
        allowed = np.bincount(group_of, fleet.allowed, len(names))
        heard = np.bincount(group_of, check_ins.completed > 0, len(names))
        selected = np.bincount(group_of, check_ins.selected, len(names))
        completed = np.bincount(group_of, check_ins.completed, len(names))
        result[grouping] = {
            name: GroupShares(
                devices=int(size[i]),
                fleet=_share(size[i], size.sum()),
                selected=_share(selected[i], selected.sum()),
                completed=_share(completed[i], completed.sum()),
                not_allowed=_share(size[i] - allowed[i], size[i]),
                never_heard=_share(size[i] - heard[i], size[i]),
            )
            for i, name in enumerate(names)
            if size[i]
        }
    return result


def _share(part: float, whole: float) -> float:
    return round(float(part / whole), 5) if whole else 0.0
