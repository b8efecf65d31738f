"""The commands that look at a text or a run: data, evaluate, predict, costs, report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from models.chitchat import BUILT_IN
from models.loading import TENSORFLOW, loading
from orchestrator.cli.options import NEW_FILE, RUN, SPLIT_SEED, WORDS, WORKERS, Number, takes_settings, text_source
from orchestrator.cli.output import Output, json_wanted, note, print_figures, prints, say, wrote

if TYPE_CHECKING:
    from orchestrator.evaluation.prediction import Predictor
    from orchestrator.settings.types import Setting


@click.command()
@text_source(f"Whose text: {BUILT_IN}, or a path to JSON Lines, a folder of text files, or TFF's SQLite client data.")
@click.option("--plot", type=NEW_FILE, metavar="FILE", help="Also draw the figures, as a PNG.")
@SPLIT_SEED
@takes_settings()
@prints
def data(source: str, plot: Optional[Path], seed: int, overrides: dict[str, Setting]) -> Output:
    """Show what a text holds: people, tokens, coverage, out-of-vocabulary rate, sentence lengths.

    \b
    Examples:
      fedkeys data                                    # the built-in text
      fedkeys data --data people.jsonl --plot text.png
      fedkeys data --data few.jsonl --set data.min_sentences=3
    """
    from dataclasses import asdict

    from msgspec import to_builtins

    from models.text_statistics import describe
    from models.text_statistics import plot as draw_plot
    from orchestrator.run.data import read_text
    from orchestrator.settings.files import read_config

    corpus, of_run = read_text(read_config(overrides={"data.source": source, **overrides}).data, seed)
    statistics = describe(corpus, of_run.split, of_run.vocabulary)
    origin = of_run.origin
    figures = {"source": corpus.name, **asdict(statistics), "words": to_builtins(origin), "word_list": origin.statement}

    def draw() -> None:
        if plot is not None:
            draw_plot(corpus, statistics, plot)
            wrote(plot)

    return Output(figures, partial(print_figures, figures), then=draw)


@click.command()
@RUN
@click.option("--personalise", is_flag=True, help="Also fine-tune for each test person and score their later text.")
@WORKERS
@prints
def evaluate(run_path: Path, personalise: bool, workers: Optional[str]) -> Output:
    """Score a run on people it never saw, beside n-gram models that saw all the text.

    Recall counts words of the vocabulary; words outside of it are counted apart. Intervals are 95 %, over people.
    Writes DIR/evaluation.json, which `fedkeys report` and `fedkeys card` show.

    \b
    Examples:
      fedkeys evaluate --run runs/first
      fedkeys evaluate --run runs/first --personalise
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path), workers)
    from orchestrator import api
    from orchestrator.cli.tables import print_comparison
    from orchestrator.run.results import kept

    figures, fault = kept(partial(api.evaluate, run, personalise, note))
    return Output(figures, partial(print_comparison, figures), exit_code=2 if fault else 0, fault=fault)


@click.command()
@RUN
@click.argument("text", required=False)
@click.option(
    "--round",
    "round_num",
    type=click.IntRange(0),
    metavar="N",
    help="Use the checkpoint of this round; the newest if it is left out.",
)
@click.option(
    "--mix",
    "ngram_share",
    type=Number(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Mix the model with the run's private n-gram, which gets this share, 0 to 1; see `fedkeys ngram`.",
)
@prints
def predict(run_path: Path, text: Optional[str], round_num: Optional[int], ngram_share: float) -> Output:
    """Show the three likeliest next words after TEXT. Without TEXT, ask for texts until an empty line.

    \b
    Example:
      fedkeys predict --run runs/first "have a good"
      fedkeys predict --run runs/first --round 50 "have a good"
      fedkeys predict --run runs/private --mix 0.5 "have a good"
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path))
    with loading(TENSORFLOW):
        from orchestrator.evaluation.prediction import Predictor
    if text is None and json_wanted():
        raise click.UsageError("--json needs a TEXT")
    predictor = Predictor.of_run(run, run.state_after(round_num).model, ngram_share)
    if text is None:
        return Output({}, partial(_converse, predictor))
    predictions = predictor.next_words(text)
    lines = "\n".join(f"{prediction.probability:7.2%}  {prediction.word}" for prediction in predictions)
    return Output({"predictions": predictions}, partial(say, lines))


def _converse(predictor: Predictor) -> None:
    click.echo("Type the start of a sentence; an empty line ends.", err=True)
    while True:
        try:
            line = input("> ")
        except EOFError:
            return
        if not line.strip():
            return
        say("   ".join(f"{p.word} {p.probability:.1%}" for p in predictor.next_words(line)))


@click.command()
@RUN
@prints
def costs(run_path: Path) -> Output:
    """Show what the sums of a run cost, beside the same sum under each aggregator, measured now.

    The figures are bytes sent, bytes received and CPU seconds of a client, the server and the decryptor, stage by
    stage. The time that a client's part takes on three phones and over five networks is an estimate.

    \b
    Example:
      fedkeys costs --run runs/first
    """
    from orchestrator.cli.tables import print_costs
    from orchestrator.evaluation.costs import read_costs
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    figures = read_costs(read_run(RunFolder(run_path)), note)
    return Output(figures, partial(print_costs, figures))


@click.command()
@RUN
@WORDS
def report(run_path: Path, words: bool) -> None:
    """Write DIR/report.html: one self-contained page with the curves, the baselines, examples and the settings.

    What evaluate, fairness, transcript, attack and audit found is on the page, if they were run before. So is what
    phones measured, if the files that their pages saved lie in DIR/phones. Words that people typed are masked without
    --words.

    \b
    Examples:
      fedkeys report --run runs/first
      fedkeys report --run runs/first --words
    """
    from orchestrator.report.report import write_report
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    say(f"wrote {write_report(read_run(RunFolder(run_path)), words)}")
