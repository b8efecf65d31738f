"""The commands around the bundle that phones get: export, verify, parity, benchmark."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import click

from models.loading import TENSORFLOW, loading
from orchestrator.cli.keras_bundle import check_options, keras_benchmark_output, keras_export_output, keras_options
from orchestrator.cli.options import FILE, FOLDER, NEW_FILE, RUN, SIGNING_KEY, trusts
from orchestrator.cli.output import Output, note, prints, say, say_at_once, warn, wrote

if TYPE_CHECKING:
    from orchestrator.release.export import ExportFigures, ExportOptions
    from orchestrator.run.saved import Run
    from tff_pipelines.runtime import Runtime

BUNDLE = click.argument("bundle", type=FOLDER)


@click.command()
@click.option("--run", "run_path", type=FOLDER, metavar="DIR", help="The folder of the run.")
@trusts
@keras_options
@click.option("--out", type=FOLDER, required=True, metavar="BUNDLE", help="The folder to write.")
@click.option(
    "--round", "round_num", type=click.IntRange(0), metavar="N", help="Export this checkpoint, not the newest."
)
@SIGNING_KEY
@click.option("--zip", "archive", is_flag=True, help="Also write BUNDLE.zip.")
@click.option("--force", is_flag=True, help="Replace a bundle that is already there.")
@click.option("--no-parity", is_flag=True, help="Don't prove how it trains; the bundle is marked as unproven.")
@prints
def export(
    run_path: Optional[Path],
    source: Optional[Path],
    out: Path,
    round_num: Optional[int],
    key: Optional[Path],
    archive: bool,
    force: bool,
    no_parity: bool,
    loss: Optional[str],
    trainable: tuple[str, ...],
    lora: int,
    batch_size: int,
    learning_rate: float,
    max_examples: int,
    weights: Optional[Path],
) -> Output:
    """Write a phone bundle: models that go on training on the device, and all that an app needs beside them.

    Of a run, or with --keras of a Keras model of TensorFlow 2.14 (.keras, .h5, SavedModel), of which no code runs.
    Trains 50 steps in TFF, or in TensorFlow, and in the exported files, and writes nothing if they differ.

    \b
    Examples:
      fedkeys export --run runs/first --out bundle
      fedkeys export --run runs/first --out bundle --key signing.key --zip
      fedkeys export --keras model.keras --out bundle --lora 4
    """
    check_options()
    if source is not None:
        from orchestrator.release.keras_export import KerasOptions

        of_keras = KerasOptions(
            loss, trainable, lora, batch_size, learning_rate, max_examples, weights, force, archive, not no_parity, key
        )
        return keras_export_output(source, out, of_keras)
    assert run_path is not None
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path))
    with loading(TENSORFLOW):
        from orchestrator.release.export import ExportOptions
    options = ExportOptions(round_num, force, archive, parity=not no_parity, key=key)
    return export_output(run, out, options)


def export_output(run: Run, out: Path, options: ExportOptions, runtime: Optional[Runtime] = None) -> Output:
    """What `fedkeys export` writes for a run, with its warnings; see orchestrator.release.export.export_run."""
    from orchestrator.release.export import export_run
    from orchestrator.settings.audit import what_is_hidden

    figures = export_run(run, out, options, note, runtime)
    hidden = what_is_hidden(run.config.audit)
    if hidden:
        warn(hidden)
    if not figures.signed:
        warn("UNSIGNED: anybody could pass another bundle off as this one: `fedkeys keygen` makes a key for --key")
    if not options.parity:
        warn("UNPROVEN: nobody checked that this bundle trains as TFF does")
    return Output(figures, partial(_show_export, figures, out))


def _show_export(figures: ExportFigures, out: Path) -> None:
    for name, entry in figures.files.items():
        say(f"{entry.bytes:12,}  {name}")
    if figures.parity_max_abs_diff is not None:
        say(
            f"trains within {figures.parity_max_abs_diff:.1e} of TFF; int8 proposes the same word at "
            f"{figures.int8_top1_agreement:.2%} of held-out positions"
        )
    say(f"wrote {out}")


@click.command()
@BUNDLE
@click.option("--public-key", type=FILE, metavar="FILE", help="Whose signature it must bear.")
@click.option("--require-signature", is_flag=True, help="Refuse a bundle that is not signed.")
@click.option(
    "--app",
    metavar="NAME",
    help="Whose bundle it is: it must bear the signature of the key that signed this app's first bundle.",
)
@prints
def verify(bundle: Path, public_key: Optional[Path], require_signature: bool, app: Optional[str]) -> Output:
    """Check a bundle: digests, signature, schema, ops, certificate, golden batch. Exits with 2 at the first fault.

    With --app, the key of the first bundle that passes is remembered, and later bundles must bear its signature.
    --public-key replaces the key that is remembered. Models are loaded once all else is right; still, load no bundle of
    a stranger.

    \b
    Examples:
      fedkeys verify bundle
      fedkeys verify bundle --public-key signing.key.pub
      fedkeys verify bundle --app keyboard --public-key signing.key.pub
      fedkeys verify next-bundle --app keyboard
    """
    from edge.bundle.keras_manifest import is_keras_bundle
    from edge.bundle.keras_verification import verify_keras_bundle
    from edge.bundle.verification import Check, verify_bundle
    from edge.errors import EdgeError

    checks: list[Check] = []
    verified = verify_keras_bundle if is_keras_bundle(bundle) else verify_bundle
    try:
        for check in verified(bundle, public_key, require_signature, app):
            checks.append(check)
            say_at_once(f"ok  {check.name}: {check.detail}")
    except EdgeError as error:
        checks.append(Check("fault", False, str(error)))
        return Output({"ok": False, "checks": checks}, lambda: None, error.exit_code, fault=str(error))
    return Output({"ok": True, "checks": checks}, lambda: None)


@click.command()
@BUNDLE
@RUN
@prints
def parity(bundle: Path, run_path: Path) -> Output:
    """Train 50 steps on the run's text in TFF and in each runtime that is here, and show how far they end apart.

    Exits with 2 if a runtime ends further from TFF than the bundle's gate allows.

    \b
    Example:
      fedkeys parity bundle --run runs/first
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    run = read_run(RunFolder(run_path))
    from orchestrator.release.parity import parity_figures, parity_lines, run_parity

    certificate = run_parity(run, bundle, note)
    show = partial(say, "\n".join(parity_lines(certificate)))
    if certificate.passed:
        return Output(parity_figures(certificate), show)
    fault = f"FAILED: {certificate.max_abs_diff:.1e} is more than {certificate.gate:.0e}"
    return Output(parity_figures(certificate), show, exit_code=2, fault=fault)


@click.command()
@BUNDLE
@click.option(
    "--runs", type=click.IntRange(5), default=30, show_default=True, help="Time each train step this many times."
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 256),
    multiple=True,
    default=(1, 4, 8, 16, 32),
    show_default=True,
    help="Number of sentences in a train step; may be given several times.",
)
@click.option("--plot", type=NEW_FILE, metavar="FILE", help="Also draw the times, as a PNG.")
@prints
def benchmark(bundle: Path, runs: int, batches: tuple[int, ...], plot: Optional[Path]) -> Output:
    """Time training and predicting in LiteRT on this machine, beside plain TensorFlow; memory and sizes, too.

    A Keras model's bundle has one batch size and no TensorFlow beside it: --batch and --plot go with next-word models.

    \b
    Example:
      fedkeys benchmark bundle --batch 8 --batch 16 --plot times.png
    """
    from edge.bundle.keras_manifest import is_keras_bundle

    if is_keras_bundle(bundle):
        return keras_benchmark_output(bundle, runs)
    from edge.bundle.manifest import read_manifest
    from edge.on_device.benchmark import benchmark_bundle
    from edge.on_device.display import plot_figures, table_lines
    from orchestrator.encoding import Encoder

    size = read_manifest(bundle)[0].model.size
    # Whatever the round's clip norm, weights and cohort are, a vector has 32 bits a slot.
    vector = Encoder(clip_norm=1.0, num_clients=1, max_weight=1.0, shapes=size.shapes)
    figures = benchmark_bundle(bundle, 4 * vector.num_slots, batches=batches, runs=runs, note=note)

    def draw() -> None:
        if plot is not None:
            plot_figures(figures, plot)
            wrote(plot)

    return Output(figures, lambda: say("\n".join(table_lines(figures))), then=draw)
