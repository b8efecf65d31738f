"""The figures of `fedkeys fairness` as tables for people who read a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from orchestrator.fairness.results import verdict


def print_fairness(figures: Mapping[str, Any]) -> None:
    """Prints recall by person and by group, and who took part."""
    console = Console()
    own = figures["per_client"]
    who = f"{figures['clients']} people ({figures['people']}), {figures['positions']:,} words"
    console.print(f"round {figures['round_num']}: {who}: top-1 {figures['top1']:.2%} pooled", highlight=False)
    if own["clients"]:
        console.print(
            f"{own['clients']} people with at least {figures['min_positions']} words: mean {own['mean']:.2%}, standard"
            f" deviation {own['std']:.2%}, worst tenth {own['worst_tenth_mean']:.1%}, Jain {own['jain']:.3f}",
            highlight=False,
        )
    for name, attribute in figures["attributes"].items():
        console.print(_recall_table(name, attribute))
        console.print(verdict(attribute, len(figures["attributes"])), highlight=False)
    for name, attribute in figures["participation"].items():
        console.print(_participation_table(name, attribute))
    for name, reason in figures["not_measured"].items():
        console.print(f"not measured: {name}: {reason}", highlight=False)


def _recall_table(name: str, attribute: Mapping[str, Any]) -> Table:
    table = Table(title=f"{name}: {attribute['about']}")
    for column in ("", "people", "words", "top-1", "top-3", "unknown words", "per person", "worst tenth"):
        table.add_column(column, justify="right" if column else "left")
    for group, row in attribute["groups"].items():
        own = row["per_client"]
        table.add_row(
            group,
            f"{row['clients']}",
            f"{row['positions']:,}",
            f"{row['top1']:.2%}",
            f"{row['top3']:.2%}",
            f"{row['oov_rate']:.2%}",
            f"{own['mean']:.2%}",
            f"{own['worst_tenth_mean']:.1%}",
        )
    return table


def _participation_table(name: str, attribute: Mapping[str, Any]) -> Table:
    ratio = attribute["ratio"]
    rule = "" if ratio is None else f"; least to most heard {ratio:.2f}, 4/5 rule {_passed(attribute['four_fifths'])}"
    table = Table(title=f"who took part, by {name}{rule}")
    for column in ("", "people", "can train", "selected", "summed", "share of people", "share of updates"):
        table.add_column(column, justify="right" if column else "left")
    for group, row in attribute["groups"].items():
        share = row["share_of_summed"]
        table.add_row(
            group,
            f"{row['clients']:,}",
            f"{row['able']:,}",
            f"{row['selected']:,}",
            f"{row['summed']:,}",
            f"{row['share_of_clients']:.1%}",
            "" if share is None else f"{share:.1%}",
        )
    return table


def _passed(passed: bool) -> str:
    return "kept" if passed else "BROKEN"
