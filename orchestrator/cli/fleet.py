"""The command around a fleet of phones: fedkeys fleet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Optional

import click

from orchestrator.cli.options import JSON, note, print_json


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    group.add_command(fleet)


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML, with the settings of `fedkeys config`; over the preset.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="gboard-2018 (the default without --config and --compare), low-end, cross-country or ideal.",
)
@click.option("--hours", type=click.IntRange(1, 24 * 60), default=24, show_default=True, help="Virtual hours.")
@click.option("--devices", type=int, metavar="N", help="Phones in the fleet.")
@click.option("--trace", type=click.Path(path_type=Path), metavar="FILE", help="Measured phones, or their behaviour.")
@click.option("--self-check", is_flag=True, help="Compare with the published system; exit 3 if a figure is off.")
@click.option("--compare", metavar="POLICY,POLICY", help="Policies side by side on this fleet: sync,fedbuff.")
@click.option("--no-train", is_flag=True, help="With --compare: only the plans, no training.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Also draw it, as a PNG.")
@click.option("--seed", type=int, metavar="S", help="Seed of everything that is drawn.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting, as in --set fleet.devices=9.")
@JSON
def fleet(
    config_path: Optional[Path],
    preset: Optional[str],
    hours: int,
    devices: Optional[int],
    trace: Optional[Path],
    self_check: bool,
    compare: Optional[str],
    no_train: bool,
    plot: Optional[Path],
    seed: Optional[int],
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Plan before there is a fleet: rounds a day, who drops out, who never gets a say.

    \b
    Nothing is trained, except with --compare.
      fedkeys fleet                                   Gboard's published fleet, 100,000 phones, one day
      fedkeys fleet --self-check                      beside the published figures
      fedkeys fleet --preset low-end --plot day.png   old phones, shared chargers
      fedkeys fleet --compare sync,fedbuff            which policy trains faster here
    `fedkeys train --fleet PRESET_OR_FILE` trains under such a fleet.
    """
    from orchestrator.cli.options import parse_settings
    from orchestrator.settings.files import read_config
    from orchestrator.settings.fleet import FLEET_PRESETS

    overrides = {
        "fleet.devices": devices,
        "fleet.trace": str(trace.resolve()) if trace else None,
        "seed": seed,
        **parse_settings(settings),
    }
    name = preset or (None if config_path or compare else "gboard-2018")
    config = read_config(config_path, name, overrides, FLEET_PRESETS)
    if config.fleet.policy == "off":
        config = read_config(config_path, name, {**overrides, "fleet.policy": "sync"}, FLEET_PRESETS)
    from orchestrator.rounds.build import require_summable

    require_summable(config)
    if compare is not None:
        if self_check or plot:
            raise click.UsageError("--compare stands alone: leave --self-check and --plot out")
        _compare(config, compare, hours, no_train, as_json)
        return
    if self_check and hours % 24:
        raise click.UsageError(f"--self-check needs whole days to see the day's swing, got --hours {hours}")
    from orchestrator.fleet.plan import plan_figures, plan_fleet

    plan = plan_fleet(config, hours, note)
    figures: dict[str, Any] = {"preset": name, **plan_figures(plan)}
    checks = []
    if self_check:
        from orchestrator.fleet.self_check import self_check as run_checks

        checks = run_checks(figures)
        figures["checks"] = [check.as_dict() for check in checks]
    if plot is not None:
        from orchestrator.report.plots.fleet import draw_plan

        draw_plan(plan, figures, plot)
        click.echo(f"wrote {plot}", err=True)
    if as_json:
        print_json(figures)
    else:
        from orchestrator.cli.fleet_tables import print_plan

        print_plan(figures, checks)
    off = [check.name for check in checks if not check.ok]
    if off:
        click.echo(f"fedkeys: outside of the published band: {'; '.join(off)}", err=True)
        sys.exit(3)


def _compare(config: Any, policies: str, hours: int, no_train: bool, as_json: bool) -> None:
    from orchestrator.cli.console import ProgressObserver
    from orchestrator.cli.fleet_tables import print_policies
    from orchestrator.run.policies import compare_policies

    figures = compare_policies(config, policies.split(","), hours, not no_train, note, ProgressObserver)
    if as_json:
        print_json(figures)
    else:
        print_policies(figures)
