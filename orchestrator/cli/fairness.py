"""`fedkeys fairness`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Optional

import click

from models.disclosure import MIN_GROUP
from orchestrator.cli.options import FILE, RUN, WORKERS
from orchestrator.cli.output import Output, note, prints


@click.command()
@RUN
@click.option(
    "--groups",
    "groups_path",
    type=FILE,
    metavar="FILE",
    help="More groups: CSV with client_id and one column per attribute, or JSON {client: {attribute: group}}.",
)
@click.option(
    "--people",
    type=click.Choice(["test", "dev", "train"]),
    default="test",
    show_default=True,
    help="Whom to score. Only the phones of training people are known to a fleet.",
)
@click.option(
    "--min-group",
    type=click.IntRange(MIN_GROUP),
    default=MIN_GROUP,
    show_default=True,
    metavar="N",
    help="Hide groups of fewer people, and whatever a subtraction would tell about them.",
)
@click.option(
    "--participation/--no-participation",
    default=True,
    show_default=True,
    help="Also sum who took part, over all training people; with secagg this takes minutes.",
)
@WORKERS
@prints
def fairness(
    run_path: Path,
    groups_path: Optional[Path],
    people: str,
    min_group: int,
    participation: bool,
    workers: Optional[str],
) -> Output:
    """Show whom a run's model serves well and whom badly: recall by person and by group, and who took part.

    Only sums over people leave the clients, and they go through the run's own secure sum. Writes DIR/fairness.json,
    which `fedkeys report` then shows with pictures.

    \b
    Examples:
      fedkeys fairness --run runs/first
      fedkeys fairness --run runs/first --groups groups.csv --no-participation
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path), workers)
    from orchestrator.cli.console import counting
    from orchestrator.cli.fairness_tables import print_fairness
    from orchestrator.fairness.measure import Options, measure_fairness
    from orchestrator.run.results import kept

    options = Options(people, groups_path, min_group, participation)
    with counting("messages to the server of the sums") as observer:
        result, fault = kept(partial(measure_fairness, run, options, note, observer))
    return Output(result, partial(print_fairness, result), exit_code=2 if fault else 0, fault=fault)
