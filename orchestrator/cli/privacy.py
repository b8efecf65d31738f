"""`fedkeys privacy`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.options import FOLDER, NEW_FILE, RUN
from orchestrator.cli.output import Output, cell, new_table, prints, screen, wrote

if TYPE_CHECKING:
    from orchestrator.evaluation.privacy import RunPrivacy
    from orchestrator.evaluation.projection import Projection
    from orchestrator.run.spent import Guarantee


@click.command()
@RUN
@click.option(
    "--compare",
    "others",
    multiple=True,
    type=FOLDER,
    metavar="DIR",
    help="Another run to draw beside this one, as one without noise; may be given several times.",
)
@click.option(
    "--population",
    "populations",
    type=click.IntRange(2, 10**10),
    multiple=True,
    metavar="N",
    help="Also project the run's noise to N people; may be given several times.",
)
@click.option("--plot", type=NEW_FILE, metavar="FILE", help="Where to draw the picture; DIR/privacy.png by default.")
@prints
def privacy(run_path: Path, others: tuple[Path, ...], populations: tuple[int, ...], plot: Optional[Path]) -> Output:
    """Show what the privacy of a run comes to: epsilon at several deltas, zCDP, and what they rest on.

    All of it comes from the ledger. If the run found its word list from the same people, released an n-gram of their
    text, or began with a model that was trained on it, all of it together is shown, too. Also shows what each other
    mechanism and other numbers of bands would cost, and writes a picture: how the noise of each mechanism adds up over
    the rounds, and accuracy against epsilon. With --population it says what the same noise would come to among more
    people.

    \b
    Examples (docs/privacy.md says more):
      fedkeys train --run runs/private --preset private
      fedkeys privacy --run runs/private --compare runs/first
      fedkeys privacy --run runs/private --population 10000 --population 1000000
    """
    from orchestrator.evaluation.privacy import run_privacy
    from orchestrator.evaluation.privacy_results import measured_run, privacy_figures
    from orchestrator.evaluation.projection import project_run
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path))
    result = run_privacy(run)
    runs = [measured_run(one) for one in (run, *(read_run(RunFolder(path)) for path in others))]
    projections = project_run(run, populations)
    picture = plot or run_path / "privacy.png"

    def draw() -> None:
        from orchestrator.report.plots.privacy import draw_privacy

        draw_privacy(result, runs, picture)
        wrote(picture)

    return Output(privacy_figures(result, runs, projections), partial(_show, result, projections), then=draw)


def _show(result: RunPrivacy, projections: Sequence[Projection] = ()) -> None:
    from orchestrator.settings.kinds import MECHANISM_TRAITS
    from orchestrator.units import count_text

    console = screen()
    adds_noise = MECHANISM_TRAITS[result.mechanism].adds_noise
    if not adds_noise:
        console.print("No differential privacy: no epsilon holds.")
    else:
        console.print(
            f"{result.mechanism}: noise multiplier {result.noise_multiplier:.4g}, clip norm {result.clip_norm:g}, "
            f"{count_text(result.population, 'person')}, {count_text(result.rounds_charged, 'charge')}, at most "
            f"{result.most_participations:,} of one person, at least {count_text(result.separation, 'round')} apart"
        )
        console.print(f"zCDP {result.zcdp:.4g}" + (f", budget epsilon {result.budget:g}" if result.budget else ""))
        table = new_table("", ("delta", "epsilon"))
        for delta, epsilon in result.epsilon.items():
            table.add_row(f"{delta:.3g}", _number(epsilon))
        console.print(table)
    if result.word_list is not None:
        console.print(f"The run also found its word list, for {_guarantee(result.word_list)}.")
    if result.start is not None:
        console.print(f"Its start is of, or chosen by, the same people's text, for {_guarantee(result.start)}.")
    if result.ngram is not None:
        console.print(f"An n-gram of their text was released, for {_guarantee(result.ngram)}.")
    if result.total is not None:
        console.print(f"All of it together: {_guarantee(result.total)}.")
    console.print(f"\nIn its place, for all rounds, at epsilon {result.target:.3g} and delta {result.delta:.3g}:")
    at_this_noise = ("epsilon at this run's multiplier",) if adds_noise else ()
    columns = ("mechanism", "noise multiplier", "noise of the running sum", *at_this_noise)
    table = new_table("", columns, texts=("mechanism",))
    for cost in result.costs:
        row = [cost.name, f"{cost.noise_multiplier:.4g}", f"{cost.prefix_noise:.4g}"]
        table.add_row(*row, *([_number(cost.epsilon)] if adds_noise else []))
    console.print(table)
    console.print("(the running sum's noise: root mean square over the rounds, in clip norms a coordinate)\n")
    if MECHANISM_TRAITS[result.mechanism].has_bands:
        _show_bands(result)
    if projections:
        _show_projections(projections, result.noise_multiplier)
    for assumption in result.assumptions:
        console.print(cell(f"- {assumption}"))


def _show_bands(result: RunPrivacy) -> None:
    from orchestrator.units import count_text, size_text

    console = screen()
    console.print(f"The matrix has {count_text(result.bands, 'band')}. By number of bands:")
    table = new_table("", ("bands", "rms error x sensitivity", "memory"))
    for row in result.band_choices:
        table.add_row(str(row.bands), f"{row.noise:.2f}", size_text(row.memory_bytes))
    console.print(table)
    console.print()


def _show_projections(projections: Sequence[Projection], noise_multiplier: float) -> None:
    from orchestrator.evaluation.projection import ASSUMES

    console = screen()
    console.print(f"With more people, at noise multiplier {noise_multiplier:.4g}; the run itself comes first:")
    columns = ("people", "cohort", "rounds apart", "times", "delta", "epsilon", "running sum", "multiplier here")
    table = new_table("", columns)
    for one in projections:
        counts = [f"{count:,}" for count in (one.people, one.cohort_size, one.separation, one.participations)]
        figures = (one.delta, one.epsilon, one.running_noise, one.multiplier_here)
        table.add_row(*counts, f"{figures[0]:.2g}", *(f"{figure:.3g}" for figure in figures[1:]))
    console.print(table)
    console.print(cell(ASSUMES))
    console.print(
        cell(
            "times: the participations of the person with most of them. To measure what a model of so little noise "
            "predicts, train on these people with --set privacy.epsilon=0 --set privacy.noise_multiplier=M, M of the "
            "last column: its own epsilon then is far higher, and `fedkeys privacy` says how high.\n"
        )
    )


def _guarantee(own: Guarantee) -> str:
    return "no epsilon" if own.epsilon is None else f"epsilon {own.epsilon:.4g} at delta {own.delta:.3g}"


def _number(value: Optional[float]) -> str:
    return "none holds" if value is None else f"{value:.4g}"
