"""Training under a fleet: each phone belongs to a training person, and the fleet decides who takes part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np

from models.client_data import Sentences
from models.corpus import ClientId
from models.weights import ModelSize
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.errors import BelowThreshold
from orchestrator.fleet.checkin import Outcome
from orchestrator.fleet.plan import count_drop_outs
from orchestrator.fleet.results import FleetOfRound, Phone
from orchestrator.fleet.simulation import build_simulation, groups_of
from orchestrator.fleet.sync import STAGES, FleetRound
from orchestrator.rounds.cohort import RoundPlan
from orchestrator.settings.run_config import RunConfig


class FleetSource:
    """A cohort source over a simulated fleet.

    A function of the configuration and the people: a resumed run replays the fleet's rounds up to its own, which takes
    milliseconds each, and goes on.

    Raises:
      FleetError, ConfigError: the fleet or its policy can't be.
    """

    def __init__(self, config: RunConfig, size: ModelSize, sentences: Mapping[ClientId, Sentences]):
        client = config.client
        steps = [
            -(-min(len(own), client.max_sentences) // client.batch_size) * client.epochs for own in sentences.values()
        ]
        self._config, self._people = config, tuple(sentences)
        self._simulation = build_simulation(config, size, len(self._people), np.array(steps))
        self._num_done, self._num_check_ins = 0, 0

    def __call__(self, round_num: int) -> RoundPlan:
        """Returns the plan of a round.

        Raises:
          BelowThreshold: no round comes about in two virtual weeks.
        """
        if round_num <= self._num_done:
            raise ValueError(f"round_num must be above {self._num_done}, got round_num={round_num}")
        while self._num_done < round_num:
            done = self._simulation.rounds.next_round(self._num_done + 1)
            if done is None:
                raise BelowThreshold(
                    f"round {self._num_done + 1}: in two virtual weeks there were never enough phones at once; lower "
                    "rounds.cohort_size or fleet.min_report_share, or raise fleet.session_s"
                )
            self._num_done += 1
            plan = self._plan(done)
        return plan

    def _plan(self, done: FleetRound) -> RoundPlan:
        members = [self._people[device] for device in done.devices]
        drops = {m: STAGES[s] for m, s in zip(members, done.stages) if STAGES[s] is not DropStage.NONE}
        staleness: dict[ClientId, int] = {}
        keep = 0
        cohort = tuple(members)
        if self._config.fleet.kind.is_buffered:
            cohort = tuple(members[: len(done.staleness)])  # the buffer comes first; the others never came to it
            staleness = dict(zip(cohort, done.staleness.tolist()))
            drops = {}
            keep = done.round_num - self._simulation.rounds.oldest_version(done.round_num)
        return RoundPlan(
            cohort=Cohort(done.round_num, cohort, self._config.aggregation.min_survivors, staleness),
            drops=drops,
            reason=done.reason,
            versions_kept=keep,
            fleet=self._report(done, members),
        )

    def _report(self, done: FleetRound, members: list[ClientId]) -> dict[str, object]:
        check_ins = self._simulation.check_ins
        total = int(check_ins.check_ins.sum())
        new, self._num_check_ins = total - self._num_check_ins, total
        outcomes = Counter(Outcome(o).name.lower() for o in done.outcomes)
        found = FleetOfRound(
            opened_s=float(done.opened_s),
            started_s=float(done.started_s),
            ended_s=float(done.ended_s),
            parts_s={name: round(float(seconds), 3) for name, seconds in done.parts_s.items()},
            bytes_down=float(done.bytes_down),
            bytes_up=float(done.bytes_up),
            check_ins=new,
            eligible=int((check_ins.session_end > done.started_s).sum()),
            selection_timeouts=done.timeouts,
            outcomes=dict(outcomes),
            drop_outs=count_drop_outs([done]),
            members={m: Outcome(o).name.lower() for m, o in zip(members, done.outcomes)},
            mean_staleness=float(done.staleness.mean()) if len(done.staleness) else 0.0,
        )
        figures: dict[str, object] = msgspec.to_builtins(found)
        return figures

    def devices_json(self) -> bytes:
        """Returns fleet_devices.json, {client: Phone}."""
        fleet = self._simulation.fleet
        groups = groups_of(fleet)
        phones = {
            person: Phone(
                **{grouping: names[group_of[i]] for grouping, (group_of, names) in groups.items()},
                ram_mib=int(fleet.devices.ram_mib[i]),
                step_s=round(float(fleet.step_s[i]), 4),
                allowed=bool(fleet.allowed[i]),
            )
            for i, person in enumerate(self._people)
        }
        return msgspec.json.format(msgspec.json.encode(phones)) + b"\n"
