"""`fedkeys fleet`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click
import msgspec

from orchestrator.cli import options
from orchestrator.cli.output import Output, note, prints, wrote
from orchestrator.settings.fleet import FLEET_PRESETS
from orchestrator.settings.kinds import one_of_words

if TYPE_CHECKING:
    from orchestrator.settings.run_config import RunConfig
    from orchestrator.settings.types import Setting

DEVICES = options.SettingFlag("--devices", "fleet.devices", "Number of phones in the fleet.", int, "N")
TRACE = options.SettingFlag(
    "--trace",
    "fleet.trace",
    "Measured phones, or their measured behaviour (docs/fleet.md).",
    click.Path(resolve_path=True),
    "FILE",
)
SEED = options.SettingFlag("--seed", "seed", "Seed of everything that is drawn.", int, "S")


@click.command()
@options.CONFIG
@click.option(
    "--preset",
    type=options.Named(FLEET_PRESETS),
    metavar="NAME",
    help=f"A fleet: {one_of_words(FLEET_PRESETS)}; gboard-2018 if --config and --compare are left out, too.",
)
@click.option("--hours", type=click.IntRange(1, 24 * 60), default=24, show_default=True, help="Virtual hours.")
@click.option(
    "--self-check", is_flag=True, help="Compare with the published system; exit with 3 if a figure is out of its band."
)
@click.option("--compare", metavar="POLICY,POLICY", help="Show policies side by side on this fleet, as sync,fedbuff.")
@click.option("--no-train", is_flag=True, help="With --compare: make only the plans, and train nothing.")
@click.option("--plot", type=options.NEW_FILE, metavar="FILE", help="Also draw the day, as a PNG.")
@options.takes_settings(DEVICES, TRACE, SEED)
@prints
def fleet(
    config_path: Optional[Path],
    preset: Optional[str],
    hours: int,
    self_check: bool,
    compare: Optional[str],
    no_train: bool,
    plot: Optional[Path],
    overrides: dict[str, Setting],
) -> Output:
    """Plan before there is a fleet: how many rounds a day has, who drops out, and whose updates never count.

    Nothing is trained, except with --compare. `fedkeys train --fleet PRESET_OR_FILE` trains under such a fleet.

    \b
    Examples:
      fedkeys fleet                                   # Gboard's published fleet, 100,000 phones, one day
      fedkeys fleet --self-check                      # beside the published figures
      fedkeys fleet --preset low-end --plot day.png   # old phones, shared chargers
      fedkeys fleet --compare sync,fedbuff            # which policy trains faster here
    """
    if compare is not None and (self_check or plot):
        raise click.UsageError("--compare stands alone: leave --self-check and --plot out")
    if self_check and compare is None and hours % 24:
        raise click.UsageError(f"--self-check needs whole days to see the day's swing, got --hours {hours}")
    name = preset or (None if config_path or compare else "gboard-2018")
    config = _read_config(config_path, name, overrides)
    if compare is not None:
        return _compare(config, compare.split(","), hours, not no_train)
    return _plan(config, name, hours, self_check, plot)


def _read_config(path: Optional[Path], preset: Optional[str], overrides: dict[str, Setting]) -> RunConfig:
    """Returns the settings, with a fleet whose policy is sync if none was chosen."""
    from orchestrator.rounds.build import require_summable
    from orchestrator.settings.files import read_config

    config = read_config(path, preset, overrides, FLEET_PRESETS)
    if not config.fleet.kind.has_fleet:
        config = read_config(path, preset, {**overrides, "fleet.policy": "sync"}, FLEET_PRESETS)
    require_summable(config)
    return config


def _plan(config: RunConfig, preset: Optional[str], hours: int, self_check: bool, plot: Optional[Path]) -> Output:
    from orchestrator.cli.fleet_tables import print_plan
    from orchestrator.fleet.plan import plan_figures, plan_fleet

    plan = plan_fleet(config, hours, note)
    figures = plan_figures(plan)
    printed = {"preset": preset, **msgspec.to_builtins(figures)}
    checks = []
    if self_check:
        from orchestrator.fleet.self_check import self_check as run_checks

        checks = run_checks(figures)
        printed["checks"] = [check.as_dict() for check in checks]

    def draw() -> None:
        if plot is not None:
            from orchestrator.report.plots.fleet import draw_plan

            draw_plan(plan, figures, plot)
            wrote(plot)

    off = [check.name for check in checks if not check.ok]
    fault = f"outside of the published band: {'; '.join(off)}" if off else ""
    show = partial(print_plan, figures, checks)
    return Output(printed, show, exit_code=3 if off else 0, fault=fault, then=draw)


def _compare(config: RunConfig, policies: list[str], hours: int, train: bool) -> Output:
    from orchestrator.cli.console import ProgressObserver
    from orchestrator.cli.fleet_tables import print_policies
    from orchestrator.run.policies import compare_policies

    figures = compare_policies(config, policies, hours, train, note, ProgressObserver)
    return Output(figures, partial(print_policies, figures))
