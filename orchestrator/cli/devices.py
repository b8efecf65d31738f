"""The commands of rounds whose updates travel as files: device-update on a device, aggregate on the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from orchestrator.cli.edge import BUNDLE
from orchestrator.cli.keras_bundle import keras_update_output
from orchestrator.cli.options import AGGREGATOR, COHORT, FILE, FOLDER, NEW_FILE, RUN, takes_settings
from orchestrator.cli.output import Output, note, prints, say
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.types import Setting


@click.command("device-update")
@BUNDLE
@click.option(
    "--data",
    type=FILE,
    required=True,
    metavar="FILE",
    help="The person's text (UTF-8, a message a line), or token batches; of a Keras model .npz.",
)
@click.option("--out", type=NEW_FILE, required=True, metavar="FILE", help="The update to write.")
@click.option("--client", type=click.Choice(["python", "c"]), default="python", show_default=True, help="What trains.")
@click.option(
    "--learning-rate", type=float, metavar="RATE", help="Learning rate of this round; the plan's if it is left out."
)
@click.option(
    "--weights",
    type=FILE,
    metavar="FILE",
    help="Weights of this round, raw float32; the bundle's if it is left out.",
)
@click.option(
    "--seed", type=click.IntRange(0), metavar="S", help="Seed of the order of sentences; random if it is left out."
)
@click.option("--save-batches", type=NEW_FILE, metavar="FILE", help="Also keep the token batches.")
@prints
def device_update(
    bundle: Path,
    data: Path,
    out: Path,
    client: str,
    learning_rate: Optional[float],
    weights: Optional[Path],
    seed: Optional[int],
    save_batches: Optional[Path],
) -> Output:
    """Do one client's part of a round as a device does it: train on FILE, write the update. Needs no TensorFlow.

    With a Keras model's bundle FILE is an .npz of arrays: y, and x or one for each of the model's inputs by its name.

    \b
    Examples:
      fedkeys device-update bundle --data ann.txt --out ann.bin
      fedkeys device-update keras-phone --data ann.npz --out ann.bin
    """
    from edge.bundle.keras_manifest import is_keras_bundle

    if is_keras_bundle(bundle):
        return keras_update_output(bundle, data, out, learning_rate, weights, seed)
    from edge.on_device.round import train_on_device

    figures = train_on_device(
        bundle,
        data,
        out,
        client=client,
        learning_rate=learning_rate,
        weights_path=weights,
        seed=seed,
        save_batches=save_batches,
    )
    line = (
        f"{count_text(figures.num_examples, 'sentence')}, {count_text(figures.num_tokens, 'token')}, "
        f"{figures.loss_nats_per_token:.3f} nats per token; wrote {out} ({figures.bytes:,} bytes)"
    )
    return Output(figures, partial(say, line))


@click.command()
@RUN
@click.argument("updates", nargs=-1, type=FILE, metavar="[UPDATE]...")
@click.option(
    "--save-weights",
    type=NEW_FILE,
    metavar="FILE",
    help="Write the weights that the next round's devices begin at (device-update --weights). Needs no UPDATE.",
)
@click.option(
    "--begin",
    "bundle",
    type=FOLDER,
    metavar="BUNDLE",
    help="Begin rounds in DIR, which must be free, at the weights of this Keras model's bundle.",
)
@takes_settings(COHORT, AGGREGATOR)
@prints
def aggregate(
    run_path: Path,
    updates: tuple[Path, ...],
    save_weights: Optional[Path],
    bundle: Optional[Path],
    overrides: dict[str, Setting],
) -> Output:
    """Compute the next round of a run from the files that devices wrote: `fedkeys device-update` makes an UPDATE.

    Each device must have begun at the weights of the run's newest checkpoint. The updates go through the run's clip,
    encoder, aggregator and server. The run gains a round and a checkpoint, or stays as it is if anything is wrong.
    Whoever runs this command could read each file, whatever the aggregator: use `fedkeys serve` for devices that
    nobody should read.

    \b
    Example:
      fedkeys aggregate --run DIR --save-weights round.bin
      fedkeys device-update BUNDLE --data FILE --weights round.bin --out a.bin   # on each device
      fedkeys aggregate --run DIR a.bin b.bin c.bin --save-weights round.bin

    A Keras model's rounds begin with its bundle, whose plan they follow; --set, --cohort and --aggregator go with that:

    \b
      fedkeys aggregate --run DIR --begin BUNDLE --cohort 20
    """
    if not updates and save_weights is None and bundle is None:
        raise click.UsageError("give the devices' UPDATE files, --save-weights or --begin")
    if updates and bundle is not None:
        raise click.UsageError("--begin goes without UPDATE files: begin first, then call again with them")
    if overrides and bundle is None:
        raise click.UsageError(f"{', '.join(overrides)}: settings go with --begin; DIR has its own")
    from orchestrator.run.devices import write_round_weights
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    figures: dict[str, object] = {}
    lines = []
    if bundle is not None:
        from orchestrator.run.keras_folder import begin_from_bundle

        begin_from_bundle(folder, bundle, overrides)
        figures["begun"] = str(run_path)
        lines.append(f"{run_path} begins at the weights of {bundle}")
    if updates:
        counted = _aggregate(folder, updates)
        figures.update(asdict(counted))
        lines.append(
            f"round {counted.round_num}: {counted.num_survivors:,} of {count_text(counted.num_selected, 'update')} "
            f"counted, {counted.metrics['train_loss']:.3f} {_unit(folder)} on the devices"
        )
    if save_weights is not None:
        begun = NextRound(*write_round_weights(folder, save_weights), str(save_weights))
        figures.update(asdict(begun))
        lines.append(
            f"wrote {save_weights}: the devices of round {begun.next_round} begin there, at learning rate "
            f"{begun.next_learning_rate:g}"
        )
    return Output(figures, partial(say, "\n".join(lines)))


@dataclass(frozen=True)
class CountedUpdates:
    """What the devices' updates came to."""

    round_num: int
    num_selected: int
    num_survivors: int
    metrics: Mapping[str, float]
    weights_sha256: str


@dataclass(frozen=True)
class NextRound:
    """Where the devices of the next round begin."""

    next_round: int
    next_learning_rate: float
    next_weights: str


def _unit(folder: RunFolder) -> str:
    from orchestrator.run.keras_folder import is_keras_folder

    return "loss" if is_keras_folder(folder) else "nats per token"


def _aggregate(folder: RunFolder, updates: tuple[Path, ...]) -> CountedUpdates:
    from orchestrator.run.devices import aggregate_updates

    note(f"reading {count_text(len(updates), 'update')}, then loading TensorFlow Federated for the server's step")
    _, report = aggregate_updates(folder, updates)
    return CountedUpdates(
        round_num=report.round_num,
        num_selected=len(report.selected),
        num_survivors=len(report.survivors),
        metrics=dict(report.metrics),
        weights_sha256=report.weights_sha256,
    )
