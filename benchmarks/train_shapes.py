"""A train step on real sentences in LiteRT: whole rows beside the fixed shapes in which sentences share rows.

    python benchmarks/train_shapes.py BUNDLE --run RUN [--json]

Batches are drawn from the text of the run's training people as a client draws them. Both ways train on the same batches
in turns, on one thread; times are means over a round of batches, the least of RUNS rounds, since other load only adds.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
import msgspec
import numpy as np

from edge.bundle.folder import open_bundle, read_file
from edge.clients.litert import TrainableModel
from edge.clients.packing import Batch, packed
from edge.export.tflite import TRAIN_FILE
from edge.on_device.worker import timed
from models.batches import Batches, build_batches
from orchestrator.rounds.build import cut
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run

BATCH_SIZES, STEPS, RUNS, WARM_UP = (16, 4, 1), 60, 7, 1
RATE = 0.01


class Row(msgspec.Struct, frozen=True):
    """The figures of a batch size; shares are of what whole rows take or hold."""

    batch: int
    whole_ms: float
    shapes_ms: float
    share_of_time: float
    share_of_positions: float  # that are computed
    share_of_words: float  # that are real: the least that could be computed


def measure(model: TrainableModel, batches: Batches) -> Row:
    """Times the steps both ways; afterwards the model has its shapes again."""
    shapes, times = model.shapes, {"whole": [], "shapes": []}

    def train() -> None:
        for batch in zip(*batches):
            model.train_step(*batch, RATE)

    for _ in range(WARM_UP + RUNS):
        for name, own in (("whole", []), ("shapes", shapes)):
            model.shapes = own
            times[name] += timed(train, 1)
    whole, small = (min(own[WARM_UP:]) / len(batches.tokens) for own in times.values())
    in_shapes = [packed(Batch(*batch), shapes) for batch in zip(*batches)]
    positions = [found[0].positions if found else batches.tokens[0].size for found in in_shapes]
    return Row(
        batch=batches.tokens.shape[1],
        whole_ms=whole,
        shapes_ms=small,
        share_of_time=small / whole,
        share_of_positions=float(np.mean(positions)) / batches.tokens[0].size,
        share_of_words=batches.num_tokens / batches.tokens.size,
    )


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--run", "folder", type=click.Path(path_type=Path), required=True, help="The run of the bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def main(bundle: Path, folder: Path, as_json: bool) -> None:
    """Time train steps on a run's text."""
    manifest, _ = open_bundle(bundle)
    size, time = manifest.model.size, manifest.model.max_words
    model = TrainableModel(read_file(bundle, manifest, TRAIN_FILE), size.names)
    people = read_run(RunFolder(folder)).text.data.train.values()
    text = list(itertools.chain.from_iterable(cut(own, size.vocabulary_size) for own in people))
    rng = np.random.default_rng(0)
    rows = []
    for batch_size in BATCH_SIZES:
        chosen = [text[i] for i in rng.choice(len(text), STEPS * batch_size, replace=False)]
        rows.append(measure(model, build_batches(chosen, batch_size=batch_size, time=time)))
    if as_json:
        click.echo(msgspec.json.encode(rows).decode())
        return
    click.echo(
        f"{TRAIN_FILE}: {manifest.files[TRAIN_FILE].bytes:,} bytes, {', '.join(s.signature for s in model.shapes)}"
    )
    click.echo("| sentences | whole rows | fixed shapes | time | positions | words in whole rows |")
    click.echo("|---|---|---|---|---|---|")
    for row in rows:
        click.echo(
            f"| {row.batch} | {row.whole_ms:.1f} ms | {row.shapes_ms:.1f} ms | {row.share_of_time:.2f} | "
            f"{row.share_of_positions:.2f} | {row.share_of_words:.2f} |"
        )


if __name__ == "__main__":
    main()
