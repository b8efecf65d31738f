"""Settings as the command line takes them: --set KEY=VALUE."""

from __future__ import annotations

from typing import Any

import click


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE flags as a dict; VALUE as TOML writes it, and a bare word is a string.

    >>> parse_settings(("rounds.count=20", "data.source=chitchat"))
    {'rounds.count': 20, 'data.source': 'chitchat'}
    """
    from orchestrator.config import tomllib

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
