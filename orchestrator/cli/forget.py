"""`fedkeys forget`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.options import CHECKED_KEY, FOLDER, RUN, SIGNING_KEY, WORKERS
from orchestrator.cli.output import Output, note, prints, say, warn
from orchestrator.units import duration_text

if TYPE_CHECKING:
    from orchestrator.release.forget_results import ForgetFigures
    from orchestrator.run.forgetting import Forgetting
    from orchestrator.run.saved import Run


@click.command()
@RUN
@click.option("--client", "person", metavar="ID", help="Whom to forget: their client_id in the text.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder of the new run; DIR-without-PSEUDONYM by default.")
@SIGNING_KEY
@click.option(
    "--keep",
    type=click.IntRange(1),
    metavar="N",
    help="Checkpoints that the new run keeps, the newest; by default as many as the run. The next time, forgetting "
    "begins at one of them.",
)
@click.option("--check", is_flag=True, help="Train nothing: check that DIR is what its statement names.")
@CHECKED_KEY
@WORKERS
@prints
def forget(
    run_path: Path,
    person: Optional[str],
    out: Optional[Path],
    key: Optional[Path],
    keep: Optional[int],
    check: bool,
    public_key: Optional[Path],
    workers: Optional[str],
) -> Output:
    """Train a run anew without one person, measure what that changed, and state it under a signature.

    The new run goes on from the newest checkpoint before the first round that the person was in, or from the start,
    with the same cohorts less the person. A killed call goes on when it is repeated. Writes nothing into the old run.
    Under differential privacy it begins at the start, and its noise is drawn anew and charged.

    \b
    Examples (docs/privacy_officer.md says more):
      fedkeys forget --run runs/first --client 0041 --key signing.key
      fedkeys forget --run runs/first-without-5a2f90c1 --check --public-key signing.key.pub
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path), workers)
    if check:
        if person or out or key or keep:
            raise click.UsageError("--check writes nothing: leave --client, --out, --key and --keep out")
        return _check(run, public_key)
    if person is None:
        raise click.UsageError("--client says whom to forget: add it, or --check")
    if public_key is not None:
        raise click.UsageError("--public-key is for --check: add it")
    return _forget(run, person, out, key, keep)


def _forget(run: Run, person: str, out: Optional[Path], key: Optional[Path], keep: Optional[int]) -> Output:
    from edge.bundle.signing import check_key
    from orchestrator.run.forgetting import default_folder, plan_forgetting

    if key is not None:
        check_key(key)  # a mistake in it shows before the training
    note("reading the record and the text")
    plan = plan_forgetting(run, person, keep)
    _say_how_long(run, plan)
    from orchestrator.cli.console import ProgressObserver
    from orchestrator.release.forget import forget_person

    with ProgressObserver() as observer:
        figures = forget_person(run, plan, out or default_folder(run, person), key, observer)
    if not figures.signed:
        warn("UNSIGNED: anybody could have written this statement: `fedkeys keygen FILE` makes a key for --key")
    return Output(figures, partial(_show, figures))


def _say_how_long(run: Run, plan: Forgetting) -> None:
    again = [line.wall_s for line in run.rounds if line.round_num > plan.from_round]
    drawn = f"drawn for {_rounds(len(plan.rounds))} of {len(run.rounds)}"
    first = f", first for round {plan.rounds[0]}" if plan.rounds else ""
    counted = "; their words were counted for the first weights" if plan.in_first_weights else ""
    took = duration_text(sum(again))
    note(f"{drawn}{first}{counted}: training {_rounds(len(again))} anew, which took {took} in this run")


def _rounds(number: int) -> str:
    return f"{number} round{'' if number == 1 else 's'}"


def _show(figures: ForgetFigures) -> None:
    forgotten, exposure = figures.forgotten, figures.exposure
    say(
        f"{figures.run}: trained anew from round {forgotten.retrained_from}, {_rounds(forgotten.rounds_retrained)}, "
        f"without {forgotten.person[:16]}... (a pseudonym)"
    )
    say(f"weights {forgotten.before.weights_sha256}\n     -> {forgotten.after.weights_sha256}")
    if exposure is not None:
        for name, moved in (("the person", exposure.person), ("people never in training", exposure.strangers)):
            say(
                f"{name:25} loss {moved.before.loss_nats_per_token:.3f} -> {moved.after.loss_nats_per_token:.3f} nats, "
                f"top-1 {moved.before.top1:.1%} -> {moved.after.top1:.1%}"
            )
        say(
            f"The loss of {exposure.as_far} of {exposure.num_strangers} people who were never in training rose as far "
            "as the person's."
        )
    if forgotten.epsilon is not None:
        spent = forgotten.epsilon
        before, after, both = ("none" if e is None else f"{e:.4g}" for e in (spent.before, spent.after, spent.both))
        say(
            f"epsilon {before} before, {after} of the new run alone, {both} for whoever sees both, at delta "
            f"{spent.delta:.2g}: the noise was drawn anew"
        )
    say("Still there:\n" + "\n".join(f"- {what}" for what in forgotten.remains))


def _check(run: Run, public_key: Optional[Path]) -> Output:
    from orchestrator.release.forget import check_forgotten

    signer = check_forgotten(run, public_key)
    line = f"the run is what the statement names; {signer}"
    return Output({"ok": True, "signer": signer}, partial(say, line))
