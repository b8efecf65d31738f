"""`fedkeys train`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

import click

from orchestrator.cli import options
from orchestrator.cli.output import Output, note, print_figures, prints, warn
from orchestrator.settings.fleet import FLEET_PRESETS

if TYPE_CHECKING:
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import Run
    from orchestrator.run.training import Parts
    from orchestrator.settings.run_config import RunConfig
    from orchestrator.settings.types import Setting
    from tff_pipelines.runtime import Runtime


@dataclass(frozen=True)
class TrainingFigures:
    """What a training came to, as `fedkeys train --json` prints it.

    Attributes:
      wall_s: the time of this call's rounds.
      word_list: what the run's word list gives away of people's text.
      start: what it began with, and what epsilon says of that.
      folder: of the run.
      train_loss: nats a token, of the last round that was completed.
      dev_loss, dev_top1, dev_top3: of the dev people, at the last evaluation.
    """

    rounds: int
    weights_sha256: str
    wall_s: float
    client_batches_per_s: float
    word_list: str
    start: str
    folder: str
    train_loss: Optional[float]
    dev_loss: Optional[float]
    dev_top1: Optional[float]
    dev_top3: Optional[float]


@click.command()
@options.RUN
@options.CONFIG
@options.PRESET
@click.option(
    "--fleet",
    type=options.Named(FLEET_PRESETS, or_file=True),
    metavar="NAME",
    help=f"Train under a simulated fleet: {', '.join(FLEET_PRESETS)}, or a TOML file.",
)
@options.MODEL
@options.RESUME
@options.takes_settings(
    options.DATA,
    options.ROUNDS,
    options.COHORT,
    options.AGGREGATOR,
    options.CLIENT_RUNTIME,
    options.SEED,
    options.TFF_WORKERS,
)
@prints
def train(
    run_path: Path,
    config_path: Optional[Path],
    preset: Optional[str],
    fleet: Optional[str],
    model: Optional[str],
    resume: bool,
    overrides: dict[str, Setting],
) -> Output:
    """Train by federated rounds in TFF; the text never leaves its client.

    Writes into DIR: config.toml, vocabulary.txt, rounds.jsonl (one line per round), record.jsonl, checkpoints/ and
    tensorboard/. A killed run goes on with --resume, to the very weights that it would have had.

    \b
    Examples:
      fedkeys train --run runs/first --preset smoke
      fedkeys train --run runs/own --data people.jsonl --rounds 500 --set client.dropout=0.2
      fedkeys train --run runs/own --resume
      fedkeys train --run runs/mine --model examples/own_keras_model.py:build
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.files import read_fleet_settings

    folder = RunFolder(run_path)
    overrides = {**(read_fleet_settings(fleet) if fleet else {}), **overrides}
    goes_on = resume and folder.exists() and config_path is None and preset is None
    if goes_on:
        config_path = folder.config_path
    run_config = _read_settings(config_path, preset, overrides, goes_on, model)
    if resume and not folder.exists():
        note(f"{run_path} holds no run yet: beginning one")
    figures, _ = train_with_progress(folder, run_config, resume)
    return Output(figures, partial(print_figures, figures))


def _read_settings(
    config_path: Optional[Path],
    preset: Optional[str],
    overrides: dict[str, Setting],
    of_run: bool,
    model: Optional[str],
) -> RunConfig:
    """Returns the settings of a run, with the code of a network of one's own loaded if `model` names it."""
    from orchestrator.settings.files import read_config

    if model is None:
        return read_config(config_path, preset, overrides, of_run=of_run)
    if "model.kind" in overrides:
        raise click.UsageError("--model and --set model.kind are both given: leave one out")
    from orchestrator.run.own_code import load_code, read_code

    code = read_code(model)
    config = read_config(config_path, preset, {**overrides, "model.kind": code.kind}, of_run=of_run)
    load_code(code, config.data.max_words, warn)
    return config


def train_with_progress(
    folder: RunFolder, run_config: RunConfig, resume: bool, runtime: Optional[Callable[[], Runtime]] = None
) -> tuple[TrainingFigures, Run]:
    """Trains with a progress bar on standard error, and returns what it came to, and the run as it was read for that.

    runtime: gives workers that stay open, once the text is read; None starts the run's workers and ends them.
    """
    from orchestrator.api import train_configured
    from orchestrator.cli.console import ProgressObserver

    def parts() -> Parts:
        from orchestrator.run.training import Parts

        assert runtime is not None
        return Parts(runtime=runtime())

    with ProgressObserver(folder) as observer:
        result = train_configured(folder, run_config, observer, resume, parts if runtime else None)
    from orchestrator.rounds.round import weights_digest
    from orchestrator.run.saved import read_run

    run = read_run(folder)

    def last(metric: str) -> Optional[float]:
        return next((line.metrics[metric] for line in reversed(run.rounds) if metric in line.metrics), None)

    figures = TrainingFigures(
        rounds=result.rounds,
        weights_sha256=weights_digest(result.state.model),
        wall_s=round(result.wall_s, 2),
        client_batches_per_s=round(result.client_batches / result.wall_s, 2) if result.client_batches else 0.0,
        word_list=run.words.statement,
        start=run.start.statement if run.start else "fresh weights",
        folder=str(folder.path),
        train_loss=last("train_loss"),
        dev_loss=last("dev_loss"),
        dev_top1=last("dev_top1"),
        dev_top3=last("dev_top3"),
    )
    return figures, run
