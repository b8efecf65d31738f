"""What the bundle commands do with a Keras model: `fedkeys export --keras`, and `fedkeys benchmark` of its bundle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click
from click.core import ParameterSource

from orchestrator.cli.options import FILE, Number
from orchestrator.cli.output import Output, note, say, warn
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.release.keras_export import KerasExportFigures, KerasOptions

_OPTIONS = (
    click.option("--keras", "source", type=click.Path(path_type=Path), metavar="FILE", help="Export this Keras model."),
    click.option("--loss", metavar="NAME", help="Keras's name of the loss; by default the model's own."),
    click.option("--trainable", multiple=True, metavar="PATTERN", help="Train only weights of such names; repeatable."),
    click.option("--lora", type=click.IntRange(0), default=0, metavar="RANK", help="Train adapters of this rank only."),
    click.option(
        "--batch-size", type=click.IntRange(1, 4096), default=16, show_default=True, help="Examples of a batch."
    ),
    click.option(
        "--learning-rate", type=Number(0, min_open=True), default=0.01, show_default=True, help="Of the bundle's plan."
    ),
    click.option(
        "--max-examples",
        type=click.IntRange(1, 1 << 20),
        default=200,
        show_default=True,
        help="A device trains on at most so many in a round.",
    ),
    click.option("--weights", type=FILE, metavar="FILE", help="Begin at these, of `fedkeys aggregate --save-weights`."),
)
# Of the options that go with --keras.
_NAMES = ("loss", "trainable", "lora", "batch_size", "learning_rate", "max_examples", "weights")


def keras_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of a Keras model to `fedkeys export`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_options() -> None:
    """Refuses options of one kind of model beside the other's.

    Raises:
      click.UsageError: which.
    """
    context = click.get_current_context()
    source, run = context.params["source"], context.params["run_path"]
    if (source is None) == (run is None):
        raise click.UsageError("give either --run DIR or --keras FILE")
    if source is not None and context.params["round_num"] is not None:
        raise click.UsageError("--round goes with --run: a Keras model has no rounds")
    for name in _NAMES:
        if source is None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --keras FILE")


def keras_export_output(source: Path, out: Path, options: KerasOptions) -> Output:
    """What `fedkeys export --keras` writes, with its warnings."""
    from orchestrator.release.keras_export import export_keras

    figures = export_keras(source, out, options, note)
    if not figures.signed:
        warn("UNSIGNED: anybody could pass another bundle off as this one: `fedkeys keygen` makes a key for --key")
    if not options.parity:
        warn("UNPROVEN: nobody checked that this bundle trains as TensorFlow does")
    return Output(figures, partial(_show_export, figures, out))


def _show_export(figures: KerasExportFigures, out: Path) -> None:
    for name, entry in figures.files.items():
        say(f"{entry.bytes:12,}  {name}")
    say(f"{figures.num_weights:,} weights train and travel, {figures.num_frozen:,} stay; loss {figures.loss}")
    if figures.parity_max_abs_diff is not None:
        say(f"trains within {figures.parity_max_abs_diff:.1e} of TensorFlow at rate {figures.parity_learning_rate:g}")
        for rate in figures.parity_failed_rates or ():
            say(f"at rate {rate:g} it does not: see parity.json")
    say(f"wrote {out}")


def keras_benchmark_output(bundle: Path, runs: int) -> Output:
    """What `fedkeys benchmark` measures of a Keras model's bundle.

    Raises:
      click.UsageError: an option is for next-word models.
    """
    context = click.get_current_context()
    for name, option in (("batches", "--batch"), ("plot", "--plot")):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} goes with a next-word model's bundle")
    from edge.on_device.keras_benchmark import benchmark_keras_bundle, keras_lines

    figures = benchmark_keras_bundle(bundle, runs)
    return Output(figures, lambda: say("\n".join(keras_lines(figures))))


def keras_update_output(
    bundle: Path,
    data: Path,
    out: Path,
    learning_rate: Optional[float],
    weights: Optional[Path],
    seed: Optional[int],
) -> Output:
    """What `fedkeys device-update` does with a Keras model's bundle.

    Raises:
      click.UsageError: an option is for next-word models.
    """
    context = click.get_current_context()
    for name in ("client", "save_batches"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with a next-word model's bundle")
    from edge.on_device.keras_round import train_keras_on_device

    figures = train_keras_on_device(bundle, data, out, learning_rate=learning_rate, weights_path=weights, seed=seed)
    line = (
        f"{count_text(figures.num_examples, 'example')}, loss {figures.loss:.3f}; wrote {out} ({figures.bytes:,} bytes)"
    )
    return Output(figures, partial(say, line))
