"""What the commands of all areas share: options, and how they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

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


def print_figures(figures: dict[str, Any], as_json: bool) -> None:
    """Prints a command's figures: one JSON object, or a line for each."""
    if as_json:
        print_json(figures)
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            value = "  ".join(
                f"{key} {item:,.4g}" if isinstance(item, float) else f"{key} {item}" for key, item in value.items()
            )
        elif isinstance(value, float):
            value = f"{value:,.4g}"
        click.echo(f"{name:24} {value}")


def absolute(source: Optional[str]) -> Optional[str]:
    """A text's place that holds in every folder; the name of a built-in text as it is."""
    if source is None:
        return None
    path, hash_, part = source.partition("#")
    return f"{Path(path).resolve()}{hash_}{part}" if Path(path).exists() else source


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE flags as a dict; VALUE as TOML writes it, and a bare word is a string.

    >>> parse_settings(("rounds.count=20", "data.source=chitchat"))
    {'rounds.count': 20, 'data.source': 'chitchat'}
    """
    from orchestrator.settings.files import tomllib

    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"--set takes KEY=VALUE, got {setting!r}")
        try:
            parsed[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[key.strip()] = value
    return parsed
