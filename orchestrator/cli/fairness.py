"""The commands that answer for a model: fairness by group."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from orchestrator.cli.options import JSON, RUN, WORKERS, note, print_json


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    group.add_command(fairness)


@click.command()
@RUN
@click.option(
    "--groups",
    "groups_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="More groups: CSV with client_id and a column an attribute, or JSON {client: {attribute: group}}.",
)
@click.option(
    "--people",
    type=click.Choice(["test", "dev", "train"]),
    default="test",
    show_default=True,
    help="Whom to score. A fleet knows the phones of training people only.",
)
@click.option(
    "--min-group",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    metavar="N",
    help="A group of fewer people never shows, nor what a subtraction would give away.",
)
@click.option(
    "--participation/--no-participation",
    default=True,
    show_default=True,
    help="Also sum who took part, over all training people: with secagg, minutes.",
)
@WORKERS
@JSON
def fairness(
    run_path: Path,
    groups_path: Optional[Path],
    people: str,
    min_group: int,
    participation: bool,
    workers: Optional[str],
    as_json: bool,
) -> None:
    """Show whom a run's model serves well and whom badly: recall by person and by group, and who took part.

    Only sums over people leave the clients, through the run's own secure sum. Writes DIR/fairness.json, which
    `fedkeys report` then shows with pictures.
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import read_config

    folder = RunFolder(run_path)
    folder.identity()
    read_config(folder.config_path, overrides={"runtime.workers": workers})  # refuses wrong workers at once
    from orchestrator.cli.console import counting
    from orchestrator.fairness.measure import Options, measure_fairness

    options = Options(people, groups_path, min_group, participation, workers)
    with counting("messages to the server of the sums") as observer:
        figures = measure_fairness(folder, options, note, observer)
    if as_json:
        print_json(figures)
    else:
        from orchestrator.cli.fairness_tables import print_fairness

        print_fairness(figures)
