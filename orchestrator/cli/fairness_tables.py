"""The figures of `fedkeys fairness` as tables for people who read a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.output import cell, new_table, screen
from orchestrator.fairness.results import FairnessResult, PartByGroup, RecallByGroup, verdict
from orchestrator.units import NOT_SHOWN, TOO_FEW, count_text, percent_text, worst_tenth_text

if TYPE_CHECKING:
    from rich.table import Table


def print_fairness(result: FairnessResult) -> None:
    """Prints recall by person and by group, and who took part."""
    console = screen()
    own = result.per_client
    who = f"{count_text(result.clients, 'person')} ({result.people}), {count_text(result.positions, 'word')}"
    console.print(f"round {result.round_num:,}: {who}: top-1 {percent_text(result.top1)} pooled")
    if own.std is not None and own.jain is not None:
        worst = worst_tenth_text(own.worst_tenth_mean, own.clients)
        typed = count_text(own.clients, "person")
        console.print(
            f"{typed} with at least {result.min_positions} words: mean {percent_text(own.mean)}, standard"
            f" deviation {own.std:.2%}, worst tenth {worst}, Jain {own.jain:.3f}",
        )
    for name, attribute in result.attributes.items():
        console.print(_recall_table(name, attribute))
        console.print(verdict(attribute, len(result.attributes)))
    for name, participation in result.participation.items():
        console.print(_participation_table(name, participation))
    console.print(f"{NOT_SHOWN} is a worst tenth of {TOO_FEW}")
    for name, reason in result.not_measured.items():
        console.print(cell(f"not measured: {name}: {reason}"))


def _recall_table(name: str, attribute: RecallByGroup) -> Table:
    columns = ("", "people", "words", "top-1", "top-3", "unknown words", "per person", "worst tenth")
    table = new_table(cell(f"{name}: {attribute.about}"), columns)
    for group, row in attribute.groups.items():
        shares = (row.top1, row.top3, row.oov_rate, row.per_client.mean)
        worst = worst_tenth_text(row.per_client.worst_tenth_mean, row.per_client.clients)
        table.add_row(cell(group), f"{row.clients:,}", f"{row.positions:,}", *map(percent_text, shares), worst)
    return table


def _participation_table(name: str, attribute: PartByGroup) -> Table:
    ratio, kept = attribute.ratio, "kept" if attribute.four_fifths else "BROKEN"
    rule = "" if ratio is None else f"; least to most heard {ratio:.2f}, 4/5 rule {kept}"
    columns = ("", "people", "can train", "selected", "summed", "share of people", "share of updates")
    table = new_table(cell(f"who took part, by {name}{rule}"), columns)
    for group, row in attribute.groups.items():
        counts = (row.clients, row.able, row.selected, row.summed)
        shares = (row.share_of_clients, row.share_of_summed)
        table.add_row(cell(group), *(f"{count:,}" for count in counts), *map(percent_text, shares))
    return table
