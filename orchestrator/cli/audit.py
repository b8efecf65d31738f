"""The commands that try to break a run: attack, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from orchestrator.cli.options import JSON, RUN, note, print_json


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    for command in (attack, audit):
        group.add_command(command)


@click.command()
@RUN
@click.option("--client", "client_id", metavar="ID", help="Whom to attack first; by default drawn.")
@click.option(
    "--sentences",
    "num_sentences",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="Sentences that a client trains on; never more than the run allows.",
)
@click.option(
    "--noise-multiplier",
    type=click.FloatRange(0),
    metavar="Z",
    help="Noise of the view `noised`, in clip norms; by default the run's, or 1 if it adds none.",
)
@JSON
def attack(
    run_path: Path, client_id: Optional[str], num_sentences: int, noise_multiplier: Optional[float], as_json: bool
) -> None:
    """Play the curious server: which words can it read from a client's update, under which protection?

    Real updates, made from the run's newest checkpoint, are attacked as they are, masked, encrypted, in sums of 2 to
    100 and in a sum with noise. Writes DIR/attack.json and DIR/attack.html: both hold people's words, so keep them as
    you keep the text.
    """
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    folder.config()
    from orchestrator.audit.attack import attack_run
    from orchestrator.cli.audit_tables import print_attack
    from orchestrator.report.attack import write_attack_page

    figures = attack_run(folder, client_id, num_sentences, noise_multiplier, note)
    page = write_attack_page(folder)
    if as_json:
        print_json(figures)
    else:
        print_attack(figures)
        click.echo(f"the page with pictures: {page}")


@click.command()
@RUN
@click.option(
    "--noise-multiplier",
    type=click.FloatRange(0),
    metavar="Z",
    help="Noise of the audited round, in clip norms; by default the run's, or none if it adds none.",
)
@JSON
def audit(run_path: Path, noise_multiplier: Optional[float], as_json: bool) -> None:
    """Measure a run's privacy: canary clients, a lower bound from one run, secret phrases in the model.

    Each figure is named a bound or an estimate, and stands next to what the privacy ledger states. The whole run is
    audited if it was trained with --set audit.canaries=200, phrases are looked for after --set audit.phrases=8; else
    canaries are put into one round. Writes DIR/audit.json.
    """
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    folder.config()
    from orchestrator.audit.leakage import audit_run
    from orchestrator.cli.audit_tables import print_audit

    figures = audit_run(folder, noise_multiplier, note)
    if as_json:
        print_json(figures)
    else:
        print_audit(figures)
