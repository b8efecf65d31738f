"""The kinds of network beside each other: how well, how large, how fast in LiteRT, at the settings of one preset.

    python benchmarks/kinds.py --runs DIR [--preset smoke] [--rounds N] [--set NAME=VALUE] [--json]

Each kind is trained with seed 0, scored on the test people, exported and benchmarked. The settings are those of the
preset, which were chosen for the default kind. Runs and bundles that are whole in DIR are not made again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import click
import msgspec

from models.architectures import ARCHITECTURES

BATCH = 16  # sentences of the train step that is shown


class Row(msgspec.Struct, frozen=True):
    """The figures of a kind. Milliseconds are medians of LiteRT on one thread."""

    kind: str
    weights: int
    top1: float
    top3: float
    best_ngram_top1: float
    update_bytes: int  # of an upload in a round, as the sum takes it
    train_step_ms: float
    train_step_over_tensorflow: float
    key_stroke_ms: float


def fedkeys(*words: object) -> dict[str, Any]:
    """Runs a command and returns what it prints as JSON; its progress goes on to standard error."""
    command = [sys.executable, "-m", "orchestrator.cli", *map(str, words), "--json"]
    return msgspec.json.decode(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure(kind: str, folder: Path, preset: str, rounds: Optional[int], settings: tuple[str, ...]) -> Row:
    """Trains, scores, exports and benchmarks a kind in folder / kind."""
    run, bundle = folder / kind, folder / f"{kind}.bundle"
    words = [word for setting in (f"model.kind={kind}", *settings) for word in ("--set", setting)]
    count = [] if rounds is None else ["--rounds", rounds]
    fedkeys("train", "--run", run, "--preset", preset, "--resume", *count, *words)
    if not bundle.exists():
        fedkeys("export", "--run", run, "--out", bundle)
    score = fedkeys("evaluate", "--run", run)
    speed = fedkeys("benchmark", bundle)
    step = next(
        row["p50"]
        for row in speed["train_step_ms"]
        if (row["runtime"], row["batch"], row["threads"]) == ("litert", BATCH, 1)
    )
    ratio = next(row["plain"] for row in speed["ratio_to_tensorflow"] if (row["batch"], row["threads"]) == (BATCH, 1))
    stroke = next(row["p50"] for row in speed["key_stroke_ms"] if (row["model"], row["threads"]) == ("infer.tflite", 1))
    return Row(
        kind=kind,
        weights=speed["bytes"]["update_raw"] // 4,
        top1=score["model"]["top1"],
        top3=score["model"]["top3"],
        best_ngram_top1=score[score["best_ngram"]]["top1"],
        update_bytes=speed["bytes"]["update_encoded"],
        train_step_ms=step,
        train_step_over_tensorflow=ratio,
        key_stroke_ms=stroke,
    )


@click.command()
@click.option("--runs", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--preset", default="smoke", show_default=True)
@click.option("--rounds", type=int, help="Rounds of each run; the preset's by default.")
@click.option("--set", "settings", multiple=True, help="A setting of each run, NAME=VALUE.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(runs: Path, preset: str, rounds: Optional[int], settings: tuple[str, ...], as_json: bool) -> None:
    """Compare the kinds of network."""
    rows = [measure(kind, runs, preset, rounds, settings) for kind in ARCHITECTURES]
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    click.echo("| `model.kind` | weights | top-1 | top-3 | upload | train step | over TensorFlow | key stroke |")
    click.echo("|---|---|---|---|---|---|---|---|")
    for row in rows:
        click.echo(
            f"| `{row.kind}` | {row.weights:,} | {row.top1:.1%} | {row.top3:.1%} | {row.update_bytes / 1e6:.2f} MB | "
            f"{row.train_step_ms:.1f} ms | {row.train_step_over_tensorflow:.2f} | {row.key_stroke_ms:.2f} ms |"
        )
    click.echo(f"best n-gram: {rows[0].best_ngram_top1:.1%}")


if __name__ == "__main__":
    main()
