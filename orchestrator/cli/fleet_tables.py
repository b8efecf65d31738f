"""Prints the figures of a fleet as tables for people who read a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.cli.output import cell, new_table, screen
from orchestrator.units import count_text, duration_text, percent_text, size_text

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.fleet.results import GroupShares, PlanFigures
    from orchestrator.fleet.self_check import Check

_BARS = " ▁▂▃▄▅▆▇█"


def print_plan(figures: PlanFigures, checks: Sequence[Check]) -> None:
    """Prints what `fedkeys fleet` found."""
    console = screen()
    phones, hours = count_text(figures.devices, "phone"), count_text(figures.hours, "virtual hour")
    console.print(
        f"{phones}, {hours}, {figures.aggregator} sum, policy {figures.policy}",
        style="bold",
    )
    for name, text in _headlines(figures):
        console.print(cell(f"{name:26} {text}"))
    by_hour = figures.by_hour
    for label, values in (
        ("eligible phones", by_hour.eligible),
        ("check-ins", by_hour.check_ins),
        ("rounds", by_hour.rounds),
    ):
        console.print(f"{label:26} {sparkline(values)}  {min(values):,.0f} to {max(values):,.0f} an hour (UTC)")
    console.print(_participation_table(figures.participation))
    if checks:
        console.print(_check_table(checks))


def _headlines(figures: PlanFigures) -> list[tuple[str, str]]:
    lengths, ends = figures.round_s, figures.check_ins
    parts = [f"{k} {v:.1f} s" for k, v in figures.where_time_goes_s.items() if v >= 0.05]
    lost = [f"{cause.replace('_', ' ')} {sum(n.values()):,}" for cause, n in figures.drop_outs.items()]
    traffic = figures.gigabytes
    return [
        (
            "rounds",
            f"{figures.rounds:,}, of which {figures.abandoned:,} abandoned; "
            f"{figures.selection_timeouts:,} selections timed out",
        ),
        (
            "a round takes",
            f"{duration_text(lengths['p50'])}; p10 {duration_text(lengths['p10'])}, "
            f"p90 {duration_text(lengths['p90'])}",
        ),
        ("where the time goes", ", ".join(parts)),
        ("updates that counted", f"{figures.updates:,}, {figures.updates_per_hour:,.0f} an hour"),
        ("selected for each wanted", percent_text(figures.over_selection)),
        ("dropped out", f"{percent_text(figures.drop_out_rate)} of the selected: {', '.join(lost)}"),
        ("how check-ins ended", ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in ends.items())),
        (
            "traffic",
            f"{size_text(1e9 * traffic.down)} to the phones, {size_text(1e9 * traffic.up)} from them; "
            f"{size_text(figures.bytes_per_update)} for each update that counted",
        ),
        ("eligible, best/worst hour", f"{figures.day_swing:.2f}x"),
        ("this took", f"{figures.wall_s:.1f} s, {figures.peak_rss_mib:,.0f} MiB"),
    ]


def sparkline(values: Sequence[float]) -> str:
    """Draws values as a line of bars that begin at 0.

    >>> sparkline([0, 1, 2, 4])
    ' ▂▄█'
    """
    top = max(values) or 1
    return "".join(_BARS[round(8 * value / top)] for value in values)


def _participation_table(participation: Mapping[str, Mapping[str, GroupShares]]) -> Table:
    title = "Who takes part: shares of the fleet, of the selected, of the updates that counted"
    table = new_table(title, ("", "", "fleet", "selected", "counted", "may not take part", "never counted"))
    for grouping, groups in participation.items():
        for place, (name, row) in enumerate(groups.items()):
            label = "" if place else grouping.replace("_", " ")
            shares = (row.fleet, row.selected, row.completed, row.not_allowed, row.never_heard)
            table.add_row(
                label, cell(name), *(f"{share:.1%}" for share in shares), end_section=place == len(groups) - 1
            )
    return table


def _check_table(checks: Sequence[Check]) -> Table:
    columns = ("", "published", "band", "simulated", "", "source")
    table = new_table("Beside what was published", columns, texts=("", "published", "source"))
    for check in checks:
        table.add_row(
            check.name,
            check.published,
            f"{check.low:.3g} to {check.high:.3g}",
            f"{check.simulated:.4g}",
            cell("ok", "green") if check.ok else cell("OFF", "red"),
            check.source,
        )
    return table


def print_policies(figures: Mapping[str, Any]) -> None:
    """Prints what `fedkeys fleet --compare` found."""
    console = screen()
    policies = figures["policies"]
    table = new_table(f"The same phones for {count_text(figures['hours'], 'virtual hour')}", ("", *policies))
    rows = {
        "sum": lambda f: f["aggregator"],
        "server steps": lambda f: f"{f['rounds']:,}",
        "seconds of a step, median": lambda f: f"{f['round_s']['p50']:,.1f}",
        "updates an hour": lambda f: f"{f['updates_per_hour']:,.0f}",
        "dropped out": lambda f: percent_text(f["drop_out_rate"]),
        "traffic for an update": lambda f: size_text(f["bytes_per_update"]),
    }
    for label, text in rows.items():
        table.add_row(label, *(text(own) for own in policies.values()))
    for name, own in policies.items():
        for point in own.get("curve", ())[-3:]:
            cells = [
                f"{point['dev_top1']:.2%} after {point['virtual_hours']:.1f} h, {point['gigabytes']:.2f} GB"
                if other == name
                else ""
                for other in policies
            ]
            table.add_row(f"dev top-1, step {point['round_num']:,}", *cells)
    console.print(table)
