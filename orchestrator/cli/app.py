"""The command line: fedkeys. Each command imports what it needs when it runs, so that --help is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

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
from orchestrator.cli.options import JSON, RUN, WORKERS, _absolute, note, parse_settings, print_json
from orchestrator.errors import OrchestratorError
from tff_pipelines.errors import PipelineError

if TYPE_CHECKING:
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import RunConfig


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
    _print_figures({"source": corpus.name, **asdict(statistics)}, as_json)


@cli.command()
@RUN
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML; see `fedkeys config`.",
)
@click.option("--preset", metavar="NAME", help="smoke (about a minute), small (the default), quality, private, gboard.")
@click.option("--data", "source", metavar="SPEC", help="Whose text; see `fedkeys data --help`.")
@click.option("--rounds", type=int, metavar="N", help="Number of rounds.")
@click.option("--cohort", type=int, metavar="N", help="Clients a round.")
@click.option("--aggregator", metavar="NAME", help="How updates are summed: secagg (the default), encrypted or plain.")
@click.option(
    "--client-runtime", metavar="NAME", help="What trains the clients: tff (the default), or litert as on phones."
)
@click.option(
    "--fleet", metavar="NAME", help="Train under a simulated fleet: a preset of `fedkeys fleet`, or a TOML file."
)
@click.option("--seed", type=int, metavar="S", help="Seed of everything that the simulation draws.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting, as in --set server.learning_rate=0.01.",
)
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint, with the run's own configuration.")
@WORKERS
@JSON
def train(
    run_path: Path,
    config_path: Optional[Path],
    preset: Optional[str],
    source: Optional[str],
    rounds: Optional[int],
    cohort: Optional[int],
    aggregator: Optional[str],
    client_runtime: Optional[str],
    fleet: Optional[str],
    seed: Optional[int],
    settings: tuple[str, ...],
    resume: bool,
    workers: Optional[str],
    as_json: bool,
) -> None:
    """Train by federated rounds in TFF; the text never leaves its client.

    \b
    Writes into DIR: config.toml, vocabulary.txt, rounds.jsonl (a line a round), checkpoints/, tensorboard/.
    A killed run goes on with --resume, to the very weights that it would have had (and begins if there is none).
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import read_config, read_fleet_settings

    folder = RunFolder(run_path)
    flags = {
        "data.source": _absolute(source),
        "rounds.count": rounds,
        "rounds.cohort_size": cohort,
        "aggregation.aggregator": aggregator,
        "client.runtime": client_runtime,
        "seed": seed,
        "runtime.workers": workers,
    }
    given = parse_settings(settings)
    if "data.vocabulary" in given:
        given["data.vocabulary"] = _absolute(str(given["data.vocabulary"]))
    for name in given:
        if flags.get(name) is not None:
            raise click.UsageError(f"--set {name} and the flag for it are both given: leave one out")
    own = {name: value for name, value in {**flags, **given}.items() if value is not None}
    overrides = {**(read_fleet_settings(fleet) if fleet else {}), **own}
    if resume and folder.exists() and config_path is None and preset is None:
        config_path = folder.config_path
    run_config = read_config(config_path, preset, overrides)
    if resume and not folder.exists():
        note(f"{run_path} holds no run yet: beginning one")
    result = _train(folder, run_config, resume)
    _print_figures(result, as_json)


def _train(folder: RunFolder, run_config: RunConfig, resume: bool) -> dict[str, Any]:
    """Trains with a progress bar; the figures of `fedkeys train --json`."""
    from orchestrator.cli.console import ProgressObserver
    from orchestrator.rounds.build import require_summable
    from orchestrator.run.data import load_client_data

    if not (resume and folder.exists()):
        folder.require_free()
    require_summable(run_config)
    with ProgressObserver() as observer:
        if resume and folder.exists():
            run_config = folder.with_own_vocabulary(run_config)
        if run_config.data.vocabulary == "federated":
            from orchestrator.vocabulary.measure import find_for_run

            run_config = find_for_run(folder, run_config, observer.stage)
        observer.stage("reading the text")
        corpus, data = load_client_data(run_config)
        if run_config.privacy.mechanism != "none":
            from orchestrator.privacy.calibration import resolve_privacy
            from orchestrator.run.canary_clients import participants

            run_config = resolve_privacy(run_config, len(participants(run_config, data)))
        observer.stage("loading TensorFlow Federated")
        from orchestrator.rounds.round import weights_digest
        from orchestrator.run.training import train as train_run

        result = train_run(folder, run_config, corpus, data, observer, resume)
    return {
        "rounds": result.rounds,
        "weights_sha256": weights_digest(result.state.model),
        "wall_s": round(result.wall_s, 2),
        "client_batches_per_s": round(result.client_batches / result.wall_s, 2) if result.client_batches else 0.0,
    }


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
@click.option(
    "--run",
    "run_path",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    metavar="DIR",
    help="Where the demo's run goes; a second demo there goes on or just shows it.",
)
@click.option("--preset", metavar="NAME", help="What to train, if there is no run yet; the default is small.")
def demo(run_path: Path, preset: Optional[str]) -> None:
    """Train on the built-in text, evaluate, show what the server saw, attack, export for phones, report: in one go."""
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import read_config

    folder = RunFolder(run_path)
    if folder.exists() and preset is not None:
        raise click.UsageError(
            f"{run_path} already holds a run: leave --preset out to go on with it, or name another --run"
        )
    run_config = folder.config() if folder.exists() else read_config(preset=preset)
    trained = _train(folder, run_config, resume=True)
    note(f"{trained['rounds']} rounds are in {run_path}; evaluating")
    from orchestrator.cli.tables import print_comparison, print_predictions
    from orchestrator.errors import RunFolderError
    from orchestrator.evaluation.comparison import evaluate_run
    from orchestrator.fairness.measure import Options, measure_fairness
    from orchestrator.fairness.results import verdicts
    from orchestrator.report.report import write_report

    figures = evaluate_run(folder, None, True, note)
    print_comparison(figures)
    print_predictions(figures["examples"])
    bundle = run_path.with_name(f"{run_path.name}-bundle")
    context = click.get_current_context()
    note("whom does it serve well, and whom badly?")
    for name, text in verdicts(measure_fairness(folder, Options(participation=False), note)):
        click.echo(f"By {name}: {text}")
    note("looking at one client as the server saw it")
    try:
        context.invoke(cli_server.transcript, run_path=run_path)
    except RunFolderError as error:  # some settings of a run leave nothing to show
        note(str(error))
    note("attacking the updates of some clients")
    context.invoke(cli_audit.attack, run_path=run_path)
    note("writing the model card, which goes into the bundle")
    context.invoke(cli_record.card, run_path=run_path)
    note("exporting for phones, with 50 steps of training compared with TFF")
    context.invoke(cli_edge.export, run_path=run_path, out=bundle, force=True)
    context.invoke(cli_edge.verify, bundle=bundle)
    note("timing the exported model on this machine")
    context.invoke(cli_edge.benchmark, bundle=bundle, runs=10)
    click.echo(f"the model card: {run_path / 'MODEL_CARD.md'}, the record: {run_path / 'record.jsonl'}")
    click.echo(f"the phone bundle: {bundle}")
    click.echo(f"what a curious server could read: {run_path / 'attack.html'}")
    click.echo(f"the report: {write_report(folder)}")


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


def _print_figures(figures: dict[str, Any], as_json: bool) -> None:
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
