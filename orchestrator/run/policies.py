"""Compares policies on the same fleet: what each makes of the same virtual hours."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from orchestrator.errors import ConfigError
from orchestrator.fleet.plan import Note, plan_figures, plan_fleet
from orchestrator.run.lines import Round
from orchestrator.settings.kinds import FLEET_POLICIES
from orchestrator.settings.run_config import RunConfig
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.run.training import Observer

Observing = Callable[[], "AbstractContextManager[Observer]"]
POLICIES = tuple(name for name, policy in FLEET_POLICIES.items() if policy.has_fleet)


def compare_policies(
    config: RunConfig, policies: Sequence[str], hours: int, training: bool, note: Note, observing: Observing
) -> dict[str, Any]:
    """Returns {policy: its plan, and with training its curve of (virtual hours, gigabytes, dev top-1)}.

    Both get the same phones for the same virtual hours, and the aggregator of the configuration unless a policy can't
    use it: FedBuff takes the encrypted sum in place of secagg. Training takes rounds.count rounds of each.

    Raises:
      ConfigError: a policy is unknown, or can't be.
    """
    result: dict[str, Any] = {"hours": hours, "policies": {}}
    for policy in policies:
        if policy not in POLICIES:
            raise ConfigError(f"--compare {policy!r}: it takes {' and '.join(POLICIES)}, with a comma between")
        own = _with_policy(config, policy)
        note(f"{policy}: {hours} virtual hours")
        figures = msgspec.to_builtins(plan_figures(plan_fleet(own, hours)))
        for name in ("participation", "by_hour", "check_ins", "wall_s", "peak_rss_mib"):
            del figures[name]
        if training:
            figures["curve"] = _train(own, note, observing)
        result["policies"][policy] = figures
    return result


def _with_policy(config: RunConfig, policy: str) -> RunConfig:
    aggregation = config.aggregation
    if FLEET_POLICIES[policy].is_buffered and aggregation.traits.needs_cohort_first:
        aggregation = msgspec.structs.replace(aggregation, aggregator="encrypted")
    fleet = msgspec.structs.replace(config.fleet, policy=policy)
    return msgspec.structs.replace(config, fleet=fleet, aggregation=aggregation)


def _train(config: RunConfig, note: Note, observing: Observing) -> list[dict[str, float]]:
    """Trains in a folder that is thrown away, and returns the curve of its evaluations."""
    from orchestrator.run.data import load_client_data
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.training import train

    text = load_client_data(config)
    with tempfile.TemporaryDirectory() as place, observing() as observer:
        folder = RunFolder(Path(place) / "run")
        note(f"{config.fleet.policy}: training {count_text(config.rounds.count, 'round')}")
        train(folder, config, text, observer)
        return fleet_curve(folder.rounds())


def fleet_curve(rounds: Sequence[Round]) -> list[dict[str, float]]:
    """Returns the evaluations of a run under a fleet, over its virtual hours and its gigabytes."""
    curve, num_bytes = [], 0.0
    for line in rounds:
        if line.fleet is None:
            continue
        num_bytes += line.fleet.num_bytes
        if "dev_top1" in line.metrics:
            curve.append(
                {
                    "round_num": line.round_num,
                    "virtual_hours": round(line.fleet.ended_s / 3600, 4),
                    "gigabytes": round(num_bytes / 1e9, 4),
                    "dev_top1": line.metric("dev_top1"),
                }
            )
    return curve
