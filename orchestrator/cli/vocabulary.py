"""`fedkeys vocabulary`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from models.chitchat import BUILT_IN
from orchestrator.cli.options import FILE, Named
from orchestrator.cli.output import Output, note, prints, say
from orchestrator.settings.kinds import SUM_TRAITS, one_of_words

if TYPE_CHECKING:
    from orchestrator.vocabulary.results import TableRow, VocabularyResult


@click.command()
@click.option("--data", "source", default=BUILT_IN, show_default=True, metavar="SPEC", help="Whose text.")
@click.option("--out", type=FILE, metavar="FILE", help="The list to write, for the setting data.vocabulary.")
@click.option(
    "--epsilon",
    type=click.FloatRange(0, min_open=True),
    default=8.0,
    show_default=True,
    metavar="E",
    help="Privacy of the whole text of one person; inf adds no noise.",
)
@click.option(
    "--delta",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=1e-6,
    show_default=True,
    metavar="D",
    help="The delta at which epsilon holds.",
)
@click.option(
    "--k", type=click.IntRange(1), default=10, show_default=True, help="Number of people who must use a word."
)
@click.option(
    "--max-nodes",
    type=click.IntRange(1),
    default=800,
    show_default=True,
    metavar="N",
    help="Nodes of the prefix tree that one person may fill; the noise grows with the square root of it.",
)
@click.option(
    "--size", type=click.IntRange(5), default=10_000, show_default=True, help="Number of ids that the list may have."
)
@click.option(
    "--letters",
    metavar="LETTERS",
    help="Letters that words are made of; English letters, digits and '.,: if it is left out.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split by person.")
@click.option(
    "--aggregator",
    type=Named(SUM_TRAITS),
    default="secagg",
    show_default=True,
    metavar="NAME",
    help=f"How the counts are summed: {one_of_words(SUM_TRAITS)}; encrypted takes the least time here.",
)
@click.option(
    "--table", "as_table", is_flag=True, help="Show coverage by epsilon and number of people, and write no list."
)
@prints
def vocabulary(
    source: str,
    out: Optional[Path],
    epsilon: float,
    delta: float,
    k: int,
    max_nodes: int,
    size: int,
    letters: Optional[str],
    seed: int,
    aggregator: str,
    as_table: bool,
) -> Output:
    """Find the words that at least K people use, through noisy secure sums: no text leaves its client.

    A prefix tree is opened level by level. Each client sends which nodes its words are in, with its share of the
    noise.

    \b
    Examples:
      fedkeys vocabulary --out words.txt
      fedkeys train --run runs/words --set data.vocabulary=words.txt
      fedkeys vocabulary --table
    """
    if out is None and not as_table:
        raise click.UsageError("name where the list goes with --out FILE, or look at --table")
    from orchestrator.rounds.build import build_aggregator
    from orchestrator.settings.files import read_config
    from orchestrator.vocabulary.measure import Options, find_vocabulary, read_people, tabulate
    from orchestrator.vocabulary.prefix_tree import LETTERS

    options = Options(epsilon, delta, k, max_nodes, size, letters or LETTERS, seed)
    config = read_config(overrides={"aggregation.aggregator": aggregator, "data.source": source})
    note("reading the text")
    people = read_people(config.data, options)
    if as_table:
        rows = tabulate(people, options, note)
        return Output({"k": k, "delta": delta, "max_nodes": max_nodes, "rows": rows}, partial(_print_table, rows))
    result = find_vocabulary(people, options, build_aggregator(config.aggregation), out, note)
    return Output(result, partial(_print_result, result))


def _print_result(result: VocabularyResult) -> None:
    covered = result.coverage
    budget = "no noise" if result.epsilon is None else f"epsilon {result.epsilon:g} at delta {result.delta:g}"
    say(f"{result.words:,} words of {result.clients:,} people; {budget}, for {result.unit}")
    say(f"noise in a count: standard deviation {result.noise_std:.1f} people")
    for whose, own, pooled, ratio in (
        ("training", covered.train, covered.train_pooled, covered.train_ratio),
        ("test", covered.test, covered.test_pooled, covered.test_ratio),
    ):
        say(f"of the {whose} people's words it holds {own:.2%}, the pooled list {pooled:.2%}: {ratio:.2%} of that")
    say(
        f"a list of all words that {result.k} people use, counted without noise:"
        f" {result.most_possible_train_ratio:.2%} of what the pooled list holds"
    )
    say(f"wrote {result.out}")


def _print_table(rows: Sequence[TableRow]) -> None:
    say(f"{'people':>9} {'epsilon':>8} {'noise':>7} {'words':>7}  of the pooled list's coverage: train, test")
    for row in rows:
        epsilon = math.inf if row.epsilon is None else row.epsilon
        say(
            f"{row.people:9,} {epsilon:8g} {row.noise_std:7.1f} {row.words:7,}"
            f"  {row.coverage.train_ratio:.1%} {row.coverage.test_ratio:.1%}"
        )
