"""The command that finds a word list without anybody's text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Optional

import click

from orchestrator.cli.options import JSON, note, print_json


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    group.add_command(vocabulary)


@click.command()
@click.option("--data", "source", default="chitchat", show_default=True, metavar="SPEC", help="Whose text.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="The list, for data.vocabulary of a run.")
@click.option(
    "--epsilon",
    type=click.FloatRange(0, min_open=True),
    default=8.0,
    show_default=True,
    metavar="E",
    help="The privacy of one person's whole text; inf for no noise.",
)
@click.option(
    "--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-6, show_default=True, metavar="D"
)
@click.option("--k", type=click.IntRange(1), default=10, show_default=True, help="People who must use a word.")
@click.option(
    "--max-nodes",
    type=click.IntRange(1),
    default=800,
    show_default=True,
    metavar="N",
    help="Most nodes of the prefix tree that one person fills; the noise grows with its root.",
)
@click.option("--size", type=click.IntRange(5), default=10_000, show_default=True, help="Most ids of the list.")
@click.option(
    "--letters", metavar="LETTERS", help="What words are made of; English letters, digits and '.,: if not given."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split by person.")
@click.option(
    "--aggregator",
    default="secagg",
    show_default=True,
    metavar="NAME",
    help="secagg, encrypted (much quicker here: few numbers of many people) or plain.",
)
@click.option("--table", "as_table", is_flag=True, help="Instead: coverage by epsilon and number of people, no list.")
@JSON
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
    as_json: bool,
) -> None:
    """Find the words that at least K people use, through noisy secure sums, from nobody's text.

    \b
    A prefix tree is opened level by level; each client hands over where its words are in it, with its share of the
    noise. `fedkeys train --set data.vocabulary=FILE` then trains with the list.
    """
    if out is None and not as_table:
        raise click.UsageError("name where the list goes with --out FILE, or look at --table")
    from orchestrator.rounds.build import build_aggregator
    from orchestrator.settings.files import read_config
    from orchestrator.vocabulary.measure import Options, find_vocabulary, read_people
    from orchestrator.vocabulary.measure import table as build_table
    from orchestrator.vocabulary.prefix_tree import LETTERS

    options = Options(epsilon, delta, k, max_nodes, size, letters or LETTERS, seed)
    config = read_config(overrides={"aggregation.aggregator": aggregator, "data.source": source})
    note("reading the text")
    people = read_people(config.data, options)
    if as_table:
        rows = build_table(people, options, note)
        if as_json:
            print_json({"k": k, "delta": delta, "max_nodes": max_nodes, "rows": rows})
        else:
            _print_table(rows)
        return
    figures = find_vocabulary(people, options, build_aggregator(config.aggregation), out, note)
    if as_json:
        print_json(figures)
    else:
        _print_figures(figures)


def _print_figures(figures: dict[str, Any]) -> None:
    covered = figures["coverage"]
    budget = (
        "no noise" if figures["epsilon"] is None else f"epsilon {figures['epsilon']:g} at delta {figures['delta']:g}"
    )
    click.echo(f"{figures['words']:,} words of {figures['clients']:,} people; {budget}, for {figures['unit']}")
    click.echo(f"noise in a count: standard deviation {figures['noise_std']:.1f} people")
    for name, text in (("train", "the training people's"), ("test", "the test people's")):
        click.echo(
            f"of {text} words it holds {covered[name]:.2%}, the pooled list {covered[f'{name}_pooled']:.2%}:"
            f" {covered[f'{name}_ratio']:.2%} of that"
        )
    click.echo(
        f"a list of all words that {figures['k']} people use, counted without noise:"
        f" {figures['most_possible_train_ratio']:.2%} of what the pooled list holds"
    )
    click.echo(f"wrote {figures['out']}")


def _print_table(rows: list[dict[str, Any]]) -> None:
    click.echo(f"{'people':>9} {'epsilon':>8} {'noise':>7} {'words':>7}  of the pooled list's coverage: train, test")
    for row in rows:
        epsilon = math.inf if row["epsilon"] is None else row["epsilon"]
        covered = row["coverage"]
        click.echo(
            f"{row['people']:9,} {epsilon:8g} {row['noise_std']:7.1f} {row['words']:7,}"
            f"  {covered['train_ratio']:.1%} {covered['test_ratio']:.1%}"
        )
