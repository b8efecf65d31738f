"""`fedkeys train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from orchestrator.cli.options import JSON, RUN, WORKERS, absolute, note, parse_settings, print_figures

if TYPE_CHECKING:
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.run_config import RunConfig


@click.command()
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
        "data.source": absolute(source),
        "rounds.count": rounds,
        "rounds.cohort_size": cohort,
        "aggregation.aggregator": aggregator,
        "client.runtime": client_runtime,
        "seed": seed,
        "runtime.workers": workers,
    }
    given = parse_settings(settings)
    if "data.vocabulary" in given:
        given["data.vocabulary"] = absolute(str(given["data.vocabulary"]))
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
    result = train_with_progress(folder, run_config, resume)
    print_figures(result, as_json)


def train_with_progress(folder: RunFolder, run_config: RunConfig, resume: bool) -> dict[str, Any]:
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
        if run_config.privacy.traits.adds_noise:
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
