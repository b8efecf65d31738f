"""The command line: fedkeys. Each command imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Optional

import click

from edge.errors import EdgeError
from models.errors import ModelsError
from orchestrator.cli import audit as cli_audit
from orchestrator.cli import edge as cli_edge
from orchestrator.cli import fairness as cli_fairness
from orchestrator.cli import fleet as cli_fleet
from orchestrator.cli import privacy as cli_privacy
from orchestrator.cli import record as cli_record
from orchestrator.cli import server as cli_server
from orchestrator.cli import vocabulary as cli_vocabulary
from orchestrator.cli.demo import demo
from orchestrator.cli.options import JSON, RUN, WORKERS, note, print_figures, print_json
from orchestrator.cli.training import train
from orchestrator.errors import OrchestratorError
from tff_pipelines.errors import PipelineError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fedkeys")
def cli() -> None:
    """Train a keyboard's next-word model on what people type, without collecting what they type.

    \b
    A first run, start to end:
      fedkeys doctor                               is this machine ready?
      fedkeys train --run runs/first --preset smoke     federated rounds in TFF, a minute or two
      fedkeys evaluate --run runs/first            beside n-gram models that saw all the text
      fedkeys predict --run runs/first "see you"   the next words
      fedkeys report --run runs/first              one page with the curves
    """


@cli.command()
@JSON
def doctor(as_json: bool) -> None:
    """Check this machine: packages, TFF worker, ports, memory, disk, text. Exit 0 only if all is well."""
    from orchestrator.cli.doctor import run_checks

    checks = []
    for check in run_checks():
        checks.append({"name": check.name, "ok": check.ok, "detail": check.detail})
        if not as_json:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    ok = all(check["ok"] for check in checks)
    if as_json:
        print_json({"ok": ok, "checks": checks})
    sys.exit(0 if ok else 2)


@cli.command()
def config() -> None:
    """Print every setting with its meaning, range and default, as a TOML file to start from."""
    from orchestrator.settings.describe import describe_config

    click.echo(describe_config())


@cli.command()
@click.option(
    "--data",
    "source",
    default="chitchat",
    show_default=True,
    metavar="SPEC",
    help="Whose text: chitchat, or a path to JSON Lines, a folder of text files, or TFF's SQLite client data.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Also draw it, as a PNG.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the split by person.")
@JSON
def data(source: str, plot: Optional[Path], seed: int, as_json: bool) -> None:
    """Show what a text holds: people, tokens, coverage, out-of-vocabulary rate, sentence lengths."""
    from dataclasses import asdict

    from models.client_data import build_client_data
    from models.corpus import load_corpus
    from models.text_statistics import describe
    from models.text_statistics import plot as draw

    corpus = load_corpus(source)
    run_data = build_client_data(corpus, seed=seed)  # the split and the vocabulary of a run
    statistics = describe(corpus, run_data.split, run_data.vocabulary)
    if plot is not None:
        draw(corpus, statistics, plot)
        click.echo(f"wrote {plot}", err=True)
    print_figures({"source": corpus.name, **asdict(statistics)}, as_json)


@cli.command()
@RUN
@click.option("--personalise", is_flag=True, help="Also fine-tune for each test person and score their later text.")
@WORKERS
@JSON
def evaluate(run_path: Path, personalise: bool, workers: Optional[str], as_json: bool) -> None:
    """Score a run on people it never saw, beside unigram, bigram and trigram models that saw all the text.

    Recall counts words of the vocabulary; words outside it are counted apart. Intervals are 95 %, over people.
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import read_config

    folder = RunFolder(run_path)
    folder.identity()
    read_config(folder.config_path, overrides={"runtime.workers": workers})  # refuses wrong workers at once
    from orchestrator.evaluation.comparison import evaluate_run

    figures = evaluate_run(folder, workers, personalise, note)
    if as_json:
        print_json(figures)
    else:
        from orchestrator.cli.tables import print_comparison

        print_comparison(figures)


@cli.command()
@RUN
@click.argument("text", required=False)
@JSON
def predict(run_path: Path, text: Optional[str], as_json: bool) -> None:
    """Show the three likeliest next words after TEXT; without TEXT, ask for one again and again."""
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    folder.config()
    from orchestrator.evaluation.prediction import Predictor

    if text is None and as_json:
        raise click.UsageError("--json needs a TEXT")
    predictor = Predictor(folder)
    if text is not None:
        predictions = [{"word": word, "probability": probability} for word, probability in predictor.next_words(text)]
        if as_json:
            print_json({"predictions": predictions})
        else:
            for prediction in predictions:
                click.echo(f"{prediction['probability']:7.2%}  {prediction['word']}")
        return
    click.echo("Type the start of a sentence; an empty line ends.", err=True)
    while True:
        try:
            line = input("> ")
        except EOFError:
            return
        if not line.strip():
            return
        click.echo("   ".join(f"{word} {probability:.1%}" for word, probability in predictor.next_words(line)))


@cli.command()
@RUN
def report(run_path: Path) -> None:
    """Write DIR/report.html: one self-contained page with the curves, the bars, examples and the configuration."""
    from orchestrator.report.report import write_report
    from orchestrator.run.folder import RunFolder

    click.echo(f"wrote {write_report(RunFolder(run_path))}")


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of the worker.")
def worker(port: int, threads: int) -> None:
    """Run one TFF worker here, for `fedkeys train --workers HOST:PORT` elsewhere. Ends with Ctrl-C.

    \b
    TFF's worker listens on ALL interfaces, without TLS, and runs whatever graph it is sent. Close the port to others
    with a firewall and reach it through a tunnel:
      ssh -N -L 8000:localhost:8000 THAT_HOST   then   fedkeys train --workers localhost:8000
    """
    from tff_pipelines.worker_process import run_worker

    sys.exit(run_worker(port, threads))


cli_audit.add_commands(cli)
cli_edge.add_commands(cli)
cli_fairness.add_commands(cli)
cli_fleet.add_commands(cli)
cli_privacy.add_commands(cli)
cli_record.add_commands(cli)
cli_vocabulary.add_commands(cli)
cli_server.add_commands(cli)
cli.add_command(train)
cli.add_command(demo)


def main() -> None:
    """The console script. Exit codes: 0 ok, 1 bug, 2 bad input or config, 3 stopped by a rule."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; a run goes on with --resume", err=True)
        sys.exit(130)
    except (OrchestratorError, ModelsError, PipelineError, EdgeError) as error:
        click.echo(f"fedkeys: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 2))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"fedkeys: {error.strerror or error}{where}", err=True)
        sys.exit(2)
