"""The commands around phones: export a run, verify, prove and benchmark a bundle, and one device's part of a round."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Optional

import click

from orchestrator.cli.options import JSON, RUN, note, print_json

_BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))


def add_commands(group: click.Group) -> None:
    """Adds this file's commands to the group."""
    for command in (export, verify, parity, benchmark, device_update, aggregate):
        group.add_command(command)


@click.command()
@RUN
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="BUNDLE", help="The folder to write.")
@click.option("--round", "round_num", type=click.IntRange(0), metavar="N", help="Checkpoint; the newest.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Sign with this key (fedkeys keygen).")
@click.option("--zip", "archive", is_flag=True, help="Also write BUNDLE.zip.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option("--no-parity", is_flag=True, help="Don't compare with TFF; the bundle is marked as unproven.")
@JSON
def export(
    run_path: Path,
    out: Path,
    round_num: Optional[int],
    key: Optional[Path],
    archive: bool,
    force: bool,
    no_parity: bool,
    as_json: bool,
) -> None:
    """Write a phone bundle: models that go on training on the device, and all that an app needs beside them.

    Trains 50 steps on the run's text in TFF and in the exported files, and writes nothing if they differ.
    """
    from orchestrator.run.folder import RunFolder
    from orchestrator.settings.audit import what_is_hidden

    folder = RunFolder(run_path)
    hidden = what_is_hidden(folder.config().audit)
    from orchestrator.release.export import export_run

    figures = export_run(
        folder,
        out,
        round_num=round_num,
        force=force,
        archive=archive,
        parity=not no_parity,
        key=key,
        note=note,
    )
    if hidden:
        _warn(hidden)
    if key is None:
        _warn("UNSIGNED: anybody could pass another bundle off as this one: `fedkeys keygen` makes a key for --key")
    if no_parity:
        _warn("UNPROVEN: nobody checked that this bundle trains as TFF does")
    if as_json:
        print_json(figures)
        return
    for name, entry in figures["files"].items():
        click.echo(f"{entry['bytes']:12,}  {name}")
    if figures["parity_max_abs_diff"] is not None:
        click.echo(
            f"trains within {figures['parity_max_abs_diff']:.1e} of TFF; int8 proposes the same word at "
            f"{figures['int8_top1_agreement']:.2%} of held-out positions"
        )
    click.echo(f"wrote {out}")


@click.command()
@_BUNDLE
@click.option("--public-key", type=click.Path(path_type=Path), metavar="FILE", help="Whose signature it must bear.")
@JSON
def verify(bundle: Path, public_key: Optional[Path], as_json: bool) -> None:
    """Check a bundle: digests, signature, schema, ops, certificate, golden batch. Exit 2 at the first fault."""
    from edge.bundle.verification import verify_bundle
    from edge.errors import EdgeError

    checks: list[dict[str, Any]] = []
    try:
        for check in verify_bundle(bundle, public_key):
            checks.append({"name": check.name, "ok": check.ok, "detail": check.detail})
            if not as_json:
                click.echo(f"ok  {check.name}: {check.detail}")
    except EdgeError as error:
        if as_json:
            checks.append({"name": "fault", "ok": False, "detail": str(error)})
            print_json({"ok": False, "checks": checks})
        raise
    if as_json:
        print_json({"ok": True, "checks": checks})


@click.command()
@_BUNDLE
@RUN
@JSON
def parity(bundle: Path, run_path: Path, as_json: bool) -> None:
    """Train 50 steps on the run's text in TFF and in each runtime that is here, and show how far they end apart."""
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    folder.config()
    from orchestrator.release.parity import parity_figures, parity_lines, run_parity

    certificate = run_parity(folder, bundle, note)
    if as_json:
        print_json(parity_figures(certificate))
    else:
        click.echo("\n".join(parity_lines(certificate)))
    if not certificate.passed:
        _warn(f"FAILED: {certificate.max_abs_diff:.1e} is more than {certificate.gate:.0e}")
        sys.exit(2)


@click.command()
@_BUNDLE
@click.option("--runs", type=click.IntRange(5), default=30, show_default=True, help="Timed runs of each train step.")
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 256),
    multiple=True,
    default=(1, 4, 8, 16, 32),
    show_default=True,
    help="Sentences a train step; may be given again.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Also draw it, as a PNG.")
@JSON
def benchmark(bundle: Path, runs: int, batches: tuple[int, ...], plot: Optional[Path], as_json: bool) -> None:
    """Time training and predicting in LiteRT on this machine, beside plain TensorFlow; memory and sizes too."""
    from edge.bundle.manifest import read_manifest
    from edge.on_device.benchmark import benchmark_bundle, plot_figures, table_lines
    from orchestrator.encoding import Encoder

    size = read_manifest(bundle)[0].model.size
    # Whatever the round's clip norm, weights and cohort are, a vector has 32 bits a slot.
    vector = Encoder(clip_norm=1.0, num_clients=1, max_weight=1.0, shapes=size.shapes)
    figures = benchmark_bundle(bundle, 4 * vector.num_slots, batches=batches, runs=runs, note=note)
    if plot is not None:
        plot_figures(figures, plot)
        click.echo(f"wrote {plot}", err=True)
    if as_json:
        print_json(figures)
    else:
        click.echo("\n".join(table_lines(figures)))


@click.command("device-update")
@_BUNDLE
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The person's text (UTF-8, a message a line), or token batches.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The update to write.")
@click.option("--client", type=click.Choice(["python", "c"]), default="python", show_default=True, help="What trains.")
@click.option("--learning-rate", type=float, metavar="RATE", help="Of this round; the plan's by default.")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The round's weights, raw float32; the bundle's by default.",
)
@click.option("--seed", type=click.IntRange(0), metavar="S", help="Of the order of the sentences; random by default.")
@click.option("--save-batches", type=click.Path(path_type=Path), metavar="FILE", help="Also keep the token batches.")
@JSON
def device_update(
    bundle: Path,
    data: Path,
    out: Path,
    client: str,
    learning_rate: Optional[float],
    weights: Optional[Path],
    seed: Optional[int],
    save_batches: Optional[Path],
    as_json: bool,
) -> None:
    """Do one client's part of a round as a device does it: train on FILE, write the update. Needs no TensorFlow."""
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
    if as_json:
        print_json(figures)
    else:
        click.echo(
            f"{figures['num_examples']} sentences, {figures['num_tokens']} tokens, "
            f"{figures['loss_nats_per_token']:.3f} nats per token; wrote {out} ({figures['bytes']:,} bytes)"
        )


@click.command()
@RUN
@click.argument("updates", nargs=-1, type=click.Path(path_type=Path), metavar="[UPDATE]...")
@click.option(
    "--save-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the weights that the next round's devices begin at (device-update --weights). Needs no UPDATE.",
)
@JSON
def aggregate(run_path: Path, updates: tuple[Path, ...], save_weights: Optional[Path], as_json: bool) -> None:
    """Run a run's next round on the files that devices wrote: fedkeys device-update makes an UPDATE.

    All must have begun at the weights of the run's newest checkpoint. They go through the run's own clip, code,
    aggregator and server; the run gains a round and a checkpoint, or stays as it is if anything is wrong. Whoever runs
    this could read each file, whatever the aggregator: fedkeys serve is for devices that should not be read.

    \b
      fedkeys aggregate --run DIR --save-weights round.bin
      fedkeys device-update BUNDLE --data FILE --weights round.bin --out a.bin      on each device
      fedkeys aggregate --run DIR a.bin b.bin c.bin --save-weights round.bin
    """
    if not updates and save_weights is None:
        raise click.UsageError("give the devices' UPDATE files, or --save-weights")
    from orchestrator.run.devices import aggregate_updates, write_round_weights
    from orchestrator.run.folder import RunFolder

    folder = RunFolder(run_path)
    folder.config()
    figures: dict[str, Any] = {}
    if updates:
        note(f"reading {len(updates)} updates, then loading TensorFlow Federated for the server's step")
        _, report = aggregate_updates(folder, updates)
        figures = {
            "round_num": report.round_num,
            "num_selected": len(report.selected),
            "num_survivors": len(report.survivors),
            "metrics": dict(report.metrics),
            "weights_sha256": report.weights_sha256,
        }
    if save_weights is not None:
        figures["next_round"], figures["next_learning_rate"] = write_round_weights(folder, save_weights)
        figures["next_weights"] = str(save_weights)
    if as_json:
        print_json(figures)
        return
    if updates:
        click.echo(
            f"round {figures['round_num']}: {figures['num_survivors']} of {figures['num_selected']} updates counted, "
            f"{figures['metrics']['train_loss']:.3f} nats per token on the devices"
        )
    if save_weights is not None:
        click.echo(
            f"wrote {save_weights}: where the devices of round {figures['next_round']} begin, at learning rate "
            f"{figures['next_learning_rate']:g}"
        )


def _warn(text: str) -> None:
    click.secho(text, err=True, bold=True, fg="yellow")
