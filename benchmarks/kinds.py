"""The kinds of network beside each other: how well on the dev people, how large, how fast in LiteRT.

    python benchmarks/kinds.py --runs DIR [--preset smoke] [--rounds 50] [--json]

Each kind is trained with seed 0 under a plain sum. The settings are those of the preset, which were chosen for the
default kind; RATES names the kinds that learn badly at its client.learning_rate, and their rate. A run that is whole in
DIR is not made again. Times are the least of RUNS on one thread, since other load only adds to them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import msgspec

from edge.clients.litert import TrainableModel, build_interpreter
from edge.export.tflite import INFER_FILE, TRAIN_FILE, build_files
from edge.on_device.worker import dense_batch, timed
from models.architectures import ARCHITECTURES, TRANSFORMER
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run

RATES = {TRANSFORMER: 0.5}
BATCH, RUNS = 16, 30  # sentences of a train step; timed runs


class Row(msgspec.Struct, frozen=True):
    """The figures of a kind; recalls of the dev people after the last round."""

    kind: str
    learning_rate: float
    weights: int
    dev_top1: float
    dev_top3: float
    train_step_ms: float
    key_stroke_ms: float


def measure(kind: str, folder: Path, preset: str, rounds: int) -> Row:
    """Trains a kind in folder / kind, exports it and times the files."""
    words = ["--preset", preset, "--rounds", str(rounds), "--aggregator", "plain", "--resume"]
    settings = [f"model.kind={kind}", f"evaluation.every={rounds}"]
    settings += [f"client.learning_rate={RATES[kind]}"] if kind in RATES else []
    words += [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "orchestrator.cli", "train", "--run", str(folder / kind), *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    run = read_run(RunFolder(folder / kind))
    size, time = run.config.model.size_with(run.vocabulary.size), run.config.data.max_words
    files = build_files(size, run.newest.model, time, run.config.client.clip_norm, BATCH)
    model = TrainableModel(files[TRAIN_FILE], size.names)
    batch = dense_batch(size.vocabulary_size, time, BATCH)
    infer = build_interpreter(files[INFER_FILE]).get_signature_runner("infer")
    token = dense_batch(size.vocabulary_size, 1, 1)[0][0]
    return Row(
        kind=kind,
        learning_rate=run.config.client.learning_rate,
        weights=size.num_weights,
        dev_top1=run.rounds[-1].metrics["dev_top1"],
        dev_top3=run.rounds[-1].metrics["dev_top3"],
        train_step_ms=min(timed(lambda: model.train_step(*batch, 0.01), RUNS)),
        key_stroke_ms=min(timed(lambda: infer(token=token, **size.start_state()), 10 * RUNS)),
    )


@click.command()
@click.option("--runs", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--preset", default="smoke", show_default=True)
@click.option("--rounds", default=50, show_default=True, help="Rounds of each run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def main(runs: Path, preset: str, rounds: int, as_json: bool) -> None:
    """Compare the kinds of network."""
    rows = [measure(kind, runs, preset, rounds) for kind in ARCHITECTURES]
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    click.echo("| `model.kind` | client's rate | weights | dev top-1 | dev top-3 | train step | key stroke |")
    click.echo("|---|---|---|---|---|---|---|")
    for row in rows:
        click.echo(
            f"| `{row.kind}` | {row.learning_rate:g} | {row.weights:,} | {row.dev_top1:.1%} | {row.dev_top3:.1%} | "
            f"{row.train_step_ms:.1f} ms | {row.key_stroke_ms:.2f} ms |"
        )


if __name__ == "__main__":
    main()
