"""`fedkeys ngram`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.options import RUN, Number, Option
from orchestrator.cli.output import Output, note, prints, say

if TYPE_CHECKING:
    from orchestrator.run.noisy_counts import NgramRelease

_PAIR_WORDS = 2000  # of 400, 1,000 and 2,000 the best on the built-in text's dev people


def pair_words(default: int) -> Option:
    """Returns the option --words of a release of noisy counts, which gets `pair_words`."""
    return click.option(
        "--words",
        "pair_words",
        type=click.IntRange(1, 8000),
        default=default,
        show_default=True,
        help="Count pairs of the first words of the list; all words are counted one by one.",
    )


@click.command()
@RUN
@click.option("--epsilon", type=Number(0, min_open=True), metavar="E", help="Of this release; the run's by default.")
@pair_words(_PAIR_WORDS)
@prints
def ngram(run_path: Path, epsilon: Optional[float], pair_words: int) -> Output:
    """Release noisy counts of words and pairs of words of a private run's people: the baseline of its model.

    Everybody adds one vector to one sum, by the run's aggregator. The noise costs the same people as much as the model
    again: the run's epsilon, or --epsilon. Writes DIR/private_ngram, with a ledger of its own. `fedkeys evaluate` then
    scores the n-gram beside the model, and `fedkeys privacy` says what both cost together.

    \b
    Examples:
      fedkeys ngram --run runs/private
      fedkeys evaluate --run runs/private
      fedkeys predict --run runs/private --mix 0.5 "have a good"
    """
    from orchestrator.evaluation.ngram_release import release_ngram
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    released = release_ngram(read_run(RunFolder(run_path)), epsilon, pair_words, note)
    return Output(released, partial(_show, released))


def _show(released: NgramRelease) -> None:
    say(
        f"released: epsilon {released.epsilon:.4g} at delta {released.delta:.3g} for each of {released.population:,} "
        f"people, beside what the model costs them; {released.pairs:,} pairs of the first {released.pair_words:,} "
        "words were kept"
    )
