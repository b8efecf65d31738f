"""`fedkeys vocabulary`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.options import NEW_FILE, SPLIT_SEED, Named, Number, text_source
from orchestrator.cli.output import Output, note, prints, say
from orchestrator.settings.kinds import SUM_TRAITS, one_of_words
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.vocabulary.results import ListRow, TableRow, VocabularyResult


@click.command()
@text_source("Whose text.")
@click.option("--out", type=NEW_FILE, metavar="FILE", help="The list to write, for the setting data.vocabulary.")
@click.option(
    "--epsilon",
    type=Number(0.0, math.inf, min_open=True),
    default=8.0,
    show_default=True,
    metavar="E",
    help="Privacy of the whole text of one person; inf adds no noise.",
)
@click.option(
    "--delta",
    type=Number(0.0, 1.0, min_open=True, max_open=True),
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
@click.option(
    "--language",
    metavar="LANG",
    help="Look only for what the public list of this language (en, de ...) lacks, and fill up with it.",
)
@SPLIT_SEED
@click.option(
    "--aggregator",
    type=Named(SUM_TRAITS),
    default="secagg",
    show_default=True,
    metavar="NAME",
    help=f"How the counts are summed: {one_of_words(SUM_TRAITS)}; split takes the least time of those that hide them.",
)
@click.option(
    "--table", "as_table", is_flag=True, help="Show coverage by epsilon and number of people, and write no list."
)
@click.option(
    "--lists",
    "as_lists",
    is_flag=True,
    help="Show the coverage of each kind of word list beside the others', and write none.",
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
    language: Optional[str],
    seed: int,
    aggregator: str,
    as_table: bool,
    as_lists: bool,
) -> Output:
    """Find the words that at least K people use, through noisy secure sums: no text leaves its client.

    A prefix tree is opened level by level. Each client sends which nodes its words are in, with its share of the
    noise.

    \b
    Examples:
      fedkeys vocabulary --out words.txt
      fedkeys train --run runs/words --set data.vocabulary=words.txt
      fedkeys vocabulary --language en --max-nodes 100 --out words.txt
      fedkeys vocabulary --table
      fedkeys vocabulary --lists
    """
    if out is None and not (as_table or as_lists):
        raise click.UsageError("name where the list goes with --out FILE, or look at --table or --lists")
    from models.public_words import NO_LANGUAGE
    from orchestrator.rounds.build import build_aggregator
    from orchestrator.settings.files import read_config
    from orchestrator.vocabulary.compare import compare_lists
    from orchestrator.vocabulary.measure import Options, find_vocabulary, read_people, tabulate
    from orchestrator.vocabulary.prefix_tree import LETTERS

    config = read_config(overrides={"aggregation.aggregator": aggregator, "data.source": source})
    language = language or (config.data.language if as_lists else NO_LANGUAGE)
    options = Options(epsilon, delta, k, max_nodes, size, letters or LETTERS, seed, language)
    note("reading the text")
    people = read_people(config.data, options)
    if as_lists:
        compared = compare_lists(people, options, config.data.min_people, note)
        return Output({"size": size, "language": language, "lists": compared}, partial(_print_lists, compared))
    if as_table:
        rows = tabulate(people, options, note)
        return Output({"k": k, "delta": delta, "max_nodes": max_nodes, "rows": rows}, partial(_print_table, rows))
    result = find_vocabulary(people, options, build_aggregator(config.aggregation), out, note)
    return Output(result, partial(_print_result, result))


def _print_result(result: VocabularyResult) -> None:
    covered = result.coverage
    budget = "no noise" if result.epsilon is None else f"epsilon {result.epsilon:g} at delta {result.delta:g}"
    say(f"{count_text(result.words, 'word')} of {count_text(result.clients, 'person')}; {budget}, for {result.unit}")
    if result.public:
        say(f"{result.public:,} of them are of the public list ({result.language}): they cost no privacy")
    say(f"noise in a count: standard deviation {result.noise_std:.1f} people")
    for whose, own, pooled in (
        ("training", covered.train, covered.train_pooled),
        ("test", covered.test, covered.test_pooled),
    ):
        say(f"of what the {whose} people typed it holds {own:.2%}, the pooled list {pooled:.2%}")
    most = result.most_possible_train_ratio * covered.train_pooled
    say(f"all words that {result.k} people use, counted without noise, hold {most:.2%} of the training people's")
    say(f"wrote {result.out}")


def _print_table(rows: Sequence[TableRow]) -> None:
    covered = rows[0].coverage
    say("share of the words that people typed: of the training people's, of the test people's")
    say(f"the pooled list: {covered.train_pooled:.1%} {covered.test_pooled:.1%}")
    say(f"{'people':>9} {'epsilon':>8} {'noise':>7} {'words':>7} {'train':>7} {'test':>7}")
    for row in rows:
        epsilon = math.inf if row.epsilon is None else row.epsilon
        say(
            f"{row.people:9,} {epsilon:8g} {row.noise_std:7.1f} {row.words:7,}"
            f" {row.coverage.train:7.1%} {row.coverage.test:7.1%}"
        )


def _print_lists(rows: Sequence[ListRow]) -> None:
    say(f"{'list':36} {'words':>7} {'of text':>8} {'typed by':>9} {'train':>7} {'test':>7}")
    for row in rows:
        fewest = "-" if row.fewest_people is None else f"{row.fewest_people}+"
        say(f"{row.name:36} {row.words:7,} {row.from_text:8,} {fewest:>9} {row.train:7.1%} {row.test:7.1%}")
