"""The commands that answer for a run: replay a round, write and check its card."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.options import CHECKED_KEY, RUN, SIGNING_KEY, WORKERS
from orchestrator.cli.output import Output, note, prints, say, warn

if TYPE_CHECKING:
    from orchestrator.run.replay import Replay
    from orchestrator.run.saved import Run


@click.command()
@RUN
@click.option("--round", "round_num", type=click.IntRange(1), required=True, metavar="N", help="The round to compute.")
@WORKERS
@prints
def replay(run_path: Path, round_num: int, workers: Optional[str]) -> Output:
    """Compute a round again from the record of a run, and compare it bit for bit.

    Exits with 0 only if the round is the same. Needs the run's text, code and lock file, and with differential privacy
    its sealed noise seed: without the seed, the round is compared up to the noise. Begins at the newest checkpoint
    before the round, and writes nothing.

    \b
    Example:
      fedkeys replay --run runs/first --round 200
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path), workers)
    from orchestrator.run.replay import replay_round

    figures = replay_round(run, round_num, note)
    return Output(figures, lambda: say(_replay_line(figures)), exit_code=0 if figures.ok else 2)


def _replay_line(figures: Replay) -> str:
    where = f"round {figures.round_num}, computed again from round {figures.from_round}"
    if not figures.ok:
        return f"{where}: NOT what the record says, in {', '.join(figures.differs)}"
    if figures.up_to_noise:
        return f"{where}: the same sum. NOT compared: the noise and the weights after it (the noise seed is not here)"
    return f"{where}: the same, weights {figures.weights_sha256}"


@click.command()
@RUN
@SIGNING_KEY
@click.option("--check", is_flag=True, help="Write nothing: check that card and record are what the statement names.")
@CHECKED_KEY
@prints
def card(run_path: Path, key: Optional[Path], check: bool, public_key: Optional[Path]) -> Output:
    """Write DIR/MODEL_CARD.md, and a statement of where the model comes from, DIR/provenance.intoto.json.

    The card holds what evaluate, fairness, privacy and attack found: run those first. The statement (in-toto with SLSA
    provenance, in a DSSE envelope) names the digests of weights, card and record.

    \b
    Examples:
      fedkeys card --run runs/first --key signing.key
      fedkeys card --run runs/first --check --public-key signing.key.pub
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    if check and key is not None:
        raise click.UsageError("--check writes nothing, and --key signs: leave one out")
    if public_key is not None and not check:
        raise click.UsageError("--public-key is for --check: add it")
    run = read_run(RunFolder(run_path))
    return _check(run, public_key) if check else card_output(run, key)


def _check(run: Run, public_key: Optional[Path]) -> Output:
    from orchestrator.release.provenance import check_statement

    signer = check_statement(run.path, public_key)
    line = f"card and record are what the statement names; {signer}"
    return Output({"ok": True, "signer": signer}, partial(say, line))


def card_output(run: Run, key: Optional[Path]) -> Output:
    """What `fedkeys card` writes for a run."""
    from orchestrator.release.model_card import write_card

    figures = write_card(run, key)
    if not figures.signed:
        warn("UNSIGNED: anybody could have written this statement: `fedkeys keygen FILE` makes a key for --key")
    return Output(figures, partial(say, f"wrote {figures.card} and {figures.statement}"))
