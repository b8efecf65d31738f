"""`fedkeys demo`: everything that fedkeys does, once, on the built-in text."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

import click

from models.loading import TFF, loading
from orchestrator.cli.options import FOLDER, PRESET
from orchestrator.cli.output import Output, note, say
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.evaluation.results import Evaluation
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import Run
    from orchestrator.settings.run_config import RunConfig
    from tff_pipelines.runtime import Runtime


@dataclass(frozen=True, eq=False)
class Demo:
    """What the steps of a demo share: the run, read once after the training, and one set of TFF workers.

    preset: what to train, if the folder holds no run yet.
    stack: ends the workers with the demo.
    """

    folder: RunFolder
    preset: Optional[str]
    stack: contextlib.ExitStack

    @functools.cached_property
    def config(self) -> RunConfig:
        """The settings to train with: the run's, if it was begun."""
        from orchestrator.run.saved import read_run
        from orchestrator.settings.files import read_config

        return read_run(self.folder).config if self.folder.exists() else read_config(preset=self.preset)

    @functools.cached_property
    def runtime(self) -> Runtime:
        """The workers, started when first asked for."""
        from tff_pipelines.runtime import Runtime

        return self.stack.enter_context(Runtime(self.config.runtime.workers))

    @functools.cached_property
    def run(self) -> Run:
        """The trained run; trains first."""
        from orchestrator.cli.training import train_with_progress

        figures, run = train_with_progress(self.folder, self.config, resume=True, runtime=lambda: self.runtime)
        note(f"{count_text(figures.rounds, 'round')} are in {self.folder.path}; evaluating")
        return run

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """How well the run predicts; evaluates it first."""
        with loading(TFF):
            from orchestrator.evaluation.comparison import evaluate_run
        return evaluate_run(self.run, True, note, self.runtime)

    @functools.cached_property
    def attack(self) -> Output:
        """What an attack on the run finds; attacks it first."""
        from orchestrator.cli.audit import DEFAULT_SENTENCES, attack_output

        return attack_output(self.run, None, DEFAULT_SENTENCES, None, self.shows_words)

    @functools.cached_property
    def audit(self) -> Optional[Output]:
        """What an audit finds, with phrases in a short copy of the run; trains that first. None if there is none."""
        from orchestrator.cli.demo_phrases import remembered_output

        path = self.folder.path.with_name(f"{self.folder.path.name}-phrases")
        return remembered_output(self.run, path, lambda: self.runtime)

    @property
    def shows_words(self) -> bool:
        """True if the pages show what people typed: the built-in text is public."""
        return self.run.has_built_in_text

    @property
    def bundle(self) -> Path:
        """The folder beside the run's that holds what an app needs."""
        return self.folder.path.with_name(f"{self.folder.path.name}-bundle")


@dataclass(frozen=True)
class Step:
    """A step of the demo. title: what is said on standard error before it begins, empty for nothing."""

    title: str
    do: Callable[[Demo], None]


@click.command()
@click.option(
    "--run",
    "run_path",
    type=FOLDER,
    default=Path("runs/demo"),
    show_default=True,
    metavar="DIR",
    help="The folder of the run. A second demo there goes on with the training, or only shows the run.",
)
@PRESET
def demo(run_path: Path, preset: Optional[str]) -> None:
    """Train on the built-in text, evaluate, show what the server saw, attack, export for phones, report: in one go.

    Writes the run into DIR, a short copy of it that holds secret phrases into DIR-phrases, the models for phones into
    DIR-bundle, and ends with seven lines: how well, what a server could read, what the model remembers, what it cost,
    and where the pages are. The pages show words that people typed, for the built-in
    text is public; of another text they are masked.

    \b
    Examples:
      fedkeys demo                     # the preset small, into runs/demo
      fedkeys demo --run runs/quick --preset smoke
    """
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    if folder.exists() and preset is not None:
        raise click.UsageError(
            f"{run_path} already holds a run: leave --preset out to go on with it, or name another --run"
        )
    with contextlib.ExitStack() as stack:
        shared = Demo(folder, preset, stack)
        for step in STEPS:
            if step.title:
                note(step.title)
            step.do(shared)


def _evaluate(demo: Demo) -> None:
    from orchestrator.cli.tables import print_comparison, print_predictions

    print_comparison(demo.evaluation)
    print_predictions(demo.evaluation.examples)


def _measure_fairness(demo: Demo) -> None:
    from orchestrator.fairness.measure import Options, measure_fairness
    from orchestrator.fairness.results import verdicts

    found = measure_fairness(demo.run, Options(participation=False), note, runtime=demo.runtime)
    for name, text in verdicts(found):
        say(f"By {name}: {text}")


def _show_transcript(demo: Demo) -> None:
    from orchestrator.cli.audit import transcript_output
    from orchestrator.errors import RunFolderError

    try:
        transcript_output(demo.run, None, None, demo.shows_words).tell()
    except RunFolderError as error:  # some settings of a run leave nothing to show
        note(str(error))


def _attack(demo: Demo) -> None:
    demo.attack.tell()


def _audit(demo: Demo) -> None:
    if demo.audit is not None:
        demo.audit.tell()


def _write_card(demo: Demo) -> None:
    from orchestrator.cli.record import card_output

    card_output(demo.run, None).tell()


def _export(demo: Demo) -> None:
    from orchestrator.cli.edge import export_output, verify
    from orchestrator.release.export import ExportOptions

    export_output(demo.run, demo.bundle, ExportOptions(force=True), demo.runtime).tell()
    click.get_current_context().invoke(verify, bundle=demo.bundle)


def _benchmark(demo: Demo) -> None:
    from orchestrator.cli.edge import benchmark

    click.get_current_context().invoke(benchmark, bundle=demo.bundle, runs=10)


def _conclude(demo: Demo) -> None:
    from orchestrator.audit.attack_results import AttackResult
    from orchestrator.audit.leakage_results import AuditResult
    from orchestrator.cli.demo_lines import closing_lines
    from orchestrator.report.report import write_report

    attack, audit = demo.attack.figures, demo.audit.figures if demo.audit else None
    assert isinstance(attack, AttackResult)
    assert isinstance(audit, (AuditResult, type(None)))
    pages = (write_report(demo.run, demo.shows_words), demo.folder.path / "attack.html")
    say("")
    for line in closing_lines(demo.run, demo.evaluation, attack, audit, pages, demo.bundle):
        say(line)


STEPS = (
    Step("", _evaluate),  # the training before it says how many rounds there are to evaluate
    Step("whom does it serve well, and whom badly?", _measure_fairness),
    Step("looking at one client as the server saw it", _show_transcript),
    Step("attacking the updates of some clients", _attack),
    Step("looking for what the model remembers, with secret phrases in a short copy of the run", _audit),
    Step("writing the model card, which goes into the bundle", _write_card),
    Step("exporting for phones, with 50 steps of training compared with TFF", _export),
    Step("timing the exported model on this machine", _benchmark),
    Step("drawing the report", _conclude),
)
