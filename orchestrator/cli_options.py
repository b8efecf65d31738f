"""What the commands of all areas share: options, and how they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

RUN = click.option(
    "--run", "run_path", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The run's folder."
)
WORKERS = click.option(
    "--workers",
    metavar="SPEC",
    help="TFF workers: 'auto', a number, or host:port,host:port of remote ones; by default the configuration's.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


def note(text: str) -> None:
    """Says on standard error that something begins that takes a while."""
    click.echo(f"{text} ...", err=True)


def print_json(value: Any) -> None:
    """Prints one JSON object on standard output."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())
