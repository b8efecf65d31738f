"""The commands that answer for a run: replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

_RUN = click.option(
    "--run", "run_path", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The run's folder."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    for command in (replay,):
        group.add_command(command)


@click.command()
@_RUN
@click.option("--round", "round_num", type=click.IntRange(1), required=True, metavar="N", help="The round.")
@_JSON
def replay(run_path: Path, round_num: int, as_json: bool) -> None:
    """Compute a round again from the run's record, and compare it bit for bit. Exit 0 only if it is the same.

    Needs the run's text, code and lock file, and under differential privacy its sealed noise seed: without that, the
    round is compared up to the noise. Begins at the newest checkpoint before the round.
    """
    from orchestrator.replay import replay_round
    from orchestrator.run_folder import RunFolder

    figures = replay_round(RunFolder(run_path), round_num, _note)
    if as_json:
        _print_json(figures)
    else:
        click.echo(_replay_line(figures))
    sys.exit(0 if figures["ok"] else 2)


def _replay_line(figures: dict[str, Any]) -> str:
    where = f"round {figures['round_num']}, computed again from round {figures['from_round']}"
    if not figures["ok"]:
        return f"{where}: NOT what the record says, in {', '.join(figures['differs'])}"
    if figures["up_to_noise"]:
        return f"{where}: the same sum. NOT compared: the noise and the weights after it (the noise seed is not here)"
    return f"{where}: the same, weights {figures['weights_sha256']}"


def _note(text: str) -> None:
    click.echo(f"{text} ...", err=True)


def _print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.encode(value).decode())
