"""The commands that answer for a run: replay a round, write and check its card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Optional

import click

from orchestrator.cli.options import JSON, RUN, WORKERS, note, print_json


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    for command in (replay, card):
        group.add_command(command)


@click.command()
@RUN
@click.option("--round", "round_num", type=click.IntRange(1), required=True, metavar="N", help="The round.")
@WORKERS
@JSON
def replay(run_path: Path, round_num: int, workers: Optional[str], as_json: bool) -> None:
    """Compute a round again from the run's record, and compare it bit for bit. Exit 0 only if it is the same.

    Needs the run's text, code and lock file, and under differential privacy its sealed noise seed: without that, the
    round is compared up to the noise. Begins at the newest checkpoint before the round.
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import read_config

    folder = RunFolder(run_path)
    folder.identity()
    read_config(folder.config_path, overrides={"runtime.workers": workers})  # refuses wrong workers at once
    from orchestrator.run.replay import replay_round

    figures = replay_round(folder, round_num, note, workers)
    if as_json:
        print_json(figures)
    else:
        click.echo(_replay_line(figures))
    sys.exit(0 if figures["ok"] else 2)


@click.command()
@RUN
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE", help="Sign with this key (fedkeys keygen FILE)."
)
@click.option("--check", is_flag=True, help="Write nothing: check that card and record are what the statement names.")
@click.option(
    "--public-key", type=click.Path(path_type=Path), metavar="FILE", help="With --check: who must have signed."
)
@JSON
def card(run_path: Path, key: Optional[Path], check: bool, public_key: Optional[Path], as_json: bool) -> None:
    """Write DIR/MODEL_CARD.md, and a statement of where the model comes from, DIR/provenance.intoto.json.

    The card holds what the run's evaluation, fairness, privacy and attack found: do those first. The statement (in-toto
    with SLSA provenance, in a DSSE envelope) names the digests of weights, card and record; sign it with --key.
    """
    from orchestrator.run.folder import RunFolder

    if check and key is not None:
        raise click.UsageError("--check writes nothing, and --key signs: leave one out")
    if public_key is not None and not check:
        raise click.UsageError("--public-key is for --check: add it")
    folder = RunFolder(run_path)
    folder.config()
    if check:
        from orchestrator.release.provenance import check_statement

        signer = check_statement(folder, public_key)
        if as_json:
            print_json({"ok": True, "signer": signer})
        else:
            click.echo(f"card and record are what the statement names; {signer}")
        return
    from orchestrator.release.model_card import write_card

    figures = write_card(folder, key)
    if not figures["signed"]:
        click.secho(
            "UNSIGNED: anybody could have written this statement: `fedkeys keygen FILE` makes a key for --key",
            err=True,
            bold=True,
            fg="yellow",
        )
    if as_json:
        print_json(figures)
    else:
        click.echo(f"wrote {figures['card']} and {figures['statement']}")


def _replay_line(figures: dict[str, Any]) -> str:
    where = f"round {figures['round_num']}, computed again from round {figures['from_round']}"
    if not figures["ok"]:
        return f"{where}: NOT what the record says, in {', '.join(figures['differs'])}"
    if figures["up_to_noise"]:
        return f"{where}: the same sum. NOT compared: the noise and the weights after it (the noise seed is not here)"
    return f"{where}: the same, weights {figures['weights_sha256']}"
