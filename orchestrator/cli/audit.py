"""The commands that try to read or to break a run: attack, audit, transcript."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.options import FOLDER, RUN, WORDS, Number
from orchestrator.cli.output import Output, note, prints, wrote

if TYPE_CHECKING:
    from orchestrator.audit.transcript_results import TranscriptResult
    from orchestrator.run.saved import Run

DEFAULT_SENTENCES = 20  # of a client that is attacked


@click.command()
@RUN
@click.option("--client", "client_id", metavar="ID", help="Whom to attack first; drawn if it is left out.")
@click.option(
    "--sentences",
    "num_sentences",
    type=click.IntRange(1),
    default=DEFAULT_SENTENCES,
    show_default=True,
    metavar="N",
    help="Number of sentences that a client trains on; never more than the run allows.",
)
@click.option(
    "--noise-multiplier",
    type=Number(0.0),
    metavar="Z",
    help="Noise of the view `noised`, in clip norms; the run's if it is left out, or 1 if the run adds none.",
)
@WORDS
@prints
def attack(
    run_path: Path, client_id: Optional[str], num_sentences: int, noise_multiplier: Optional[float], words: bool
) -> Output:
    """Play the curious server: which words can it read from a client's update, under which protection?

    Real updates, made from the run's newest checkpoint, are attacked as they are, masked, encrypted, in sums of 2 to
    100, in the run's own and in a sum with noise. Writes DIR/attack.json, which holds people's words (keep it as you
    keep the text), and DIR/attack.html, where they are masked without --words.

    \b
    Examples:
      fedkeys attack --run runs/first
      fedkeys attack --run runs/first --noise-multiplier 0.5
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    return attack_output(read_run(RunFolder(run_path)), client_id, num_sentences, noise_multiplier, words)


def attack_output(
    run: Run, client_id: Optional[str], num_sentences: int, noise_multiplier: Optional[float], words: bool
) -> Output:
    """What `fedkeys attack` finds of a run; writes its files. words: show what people typed."""
    from orchestrator.audit.attack import attack_run
    from orchestrator.cli.audit_tables import print_attack
    from orchestrator.report.attack_page import write_attack_page
    from orchestrator.run.results import kept

    result, fault = kept(partial(attack_run, run, client_id, num_sentences, noise_multiplier, note))
    if not words:
        result = result.without_words()

    def draw() -> None:
        if not fault:
            wrote(write_attack_page(run, result, words))

    return Output(result, partial(print_attack, result), exit_code=2 if fault else 0, fault=fault, then=draw)


@click.command()
@RUN
@click.option(
    "--noise-multiplier",
    type=Number(0.0),
    metavar="Z",
    help="Noise of the audited round, in clip norms; the run's if it is left out.",
)
@click.option(
    "--copy",
    "copy_path",
    type=FOLDER,
    metavar="DIR",
    help="A copy of the run that was trained with audit.phrases: look there for the phrases.",
)
@prints
def audit(run_path: Path, noise_multiplier: Optional[float], copy_path: Optional[Path]) -> Output:
    """Measure the privacy of a run by canary clients, by a lower bound from one run, and by secret phrases.

    Each figure is named a bound or an estimate, and stands beside what the privacy ledger states. A run that was
    trained with --set audit.canaries=200 is audited as a whole; in any other run canaries are put into one round.
    Phrases are looked for if the run was trained with --set audit.phrases=8, or a copy of it that --copy names. Writes
    DIR/audit.json, which report and card show.

    \b
    Examples:
      fedkeys train --run runs/audited --preset private --set audit.canaries=200
      fedkeys audit --run runs/audited
      fedkeys train --run runs/copy --config runs/first/config.toml --set audit.phrases=8
      fedkeys audit --run runs/first --copy runs/copy
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path))
    return audit_output(run, noise_multiplier, None if copy_path is None else read_run(RunFolder(copy_path)))


def audit_output(run: Run, noise_multiplier: Optional[float], copy: Optional[Run]) -> Output:
    """What `fedkeys audit` finds of a run, and of a copy with planted phrases; writes its file."""
    from orchestrator.audit.leakage import audit_run
    from orchestrator.cli.audit_tables import print_audit
    from orchestrator.run.results import kept

    result, fault = kept(partial(audit_run, run, noise_multiplier, note, copy))
    return Output(result, partial(print_audit, result), exit_code=2 if fault else 0, fault=fault)


@click.command()
@RUN
@click.option(
    "--round",
    "round_num",
    type=click.IntRange(1),
    metavar="N",
    help="The round; the last one that can be shown if it is left out.",
)
@click.option("--client", "client_id", metavar="ID", help="Whose upload; the first survivor's if it is left out.")
@WORDS
@prints
def transcript(run_path: Path, round_num: Optional[int], client_id: Optional[str], words: bool) -> Output:
    """Show what the server saw of one client in a round, beside what a server that sums in the clear would have seen.

    The round is computed again from the checkpoint before it. If that checkpoint is gone, the command lists the rounds
    that can be shown. The keys are fresh, so masks and ciphertexts differ at each call; the vector below them is the
    same. Writes DIR/transcript.json, for `fedkeys report`; it holds the client's words.

    \b
    Example:
      fedkeys transcript --run runs/first --round 200
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    return transcript_output(read_run(RunFolder(run_path)), round_num, client_id, words)


def transcript_output(run: Run, round_num: Optional[int], client_id: Optional[str], words: bool) -> Output:
    """What `fedkeys transcript` finds of a run; writes its file. words: show what the client typed."""
    from orchestrator.audit.transcript import read_transcript
    from orchestrator.audit.transcript_results import write_transcript
    from orchestrator.cli.audit_tables import print_transcript
    from orchestrator.run.results import kept

    def find() -> TranscriptResult:
        result = read_transcript(run, round_num, client_id, note)
        write_transcript(run.path, result)
        return result

    result, fault = kept(find)
    if not words:
        result = result.without_words()
    show = partial(print_transcript, result)
    return Output(result.without_pictures(), show, exit_code=2 if fault else 0, fault=fault)
