"""How much noise each mechanism leaves in the model, and what it keeps in memory for it.

    python benchmarks/matrix_noise.py [--rounds 2000 --separation 313]... [--oracle PYTHON] [--json]

Figures are errors of the running sum, root mean square and largest over the rounds, times the sensitivity: at equal
privacy the noise in the model is proportional to them. Memory is in models. They are worked out, not sampled, and no
clock is read. With --oracle PYTHON, an interpreter with jax-privacy 2.0, its optimal BLT with as many buffers is shown
beside ours: python -m venv DIR; DIR/bin/pip install jax-privacy==2.0.0; --oracle DIR/bin/python.
"""

from __future__ import annotations

import json
import math
import subprocess
from typing import Optional

import click
import msgspec
import numpy as np

from orchestrator.privacy.bands import choose_bands
from orchestrator.privacy.buffers import choose_buffers
from orchestrator.privacy.calibration import planned_squared
from orchestrator.privacy.correlated import ROUNDS_AHEAD, prefix_variances
from orchestrator.privacy.mechanisms import MECHANISMS
from orchestrator.settings.noise_shape import INDEPENDENT, NoiseShape, buffers_setting

_ORACLE = """
import jax, json, math, sys
jax.config.update("jax_enable_x64", True)
from jax_privacy.matrix_factorization import buffered_toeplitz as blt
rounds, separation, buffers = map(int, sys.argv[1:])
turns = dict(n=rounds, min_sep=separation, max_participations=-(-rounds // separation), error="mean")
best = blt.optimize(**turns, min_buffers=buffers, max_buffers=buffers)
print(json.dumps(math.sqrt(float(blt.LossFn.build_min_sep(**turns).loss(best)))))
"""


class Row(msgspec.Struct, frozen=True):
    """A mechanism in a run of so many rounds."""

    rounds: int
    separation: int
    mechanism: str
    rms: float  # times the sensitivity
    largest: float  # times the sensitivity
    models_kept: int
    shape: str


def row_of(rounds: int, separation: int, mechanism: str, shape: NoiseShape, models_kept: int, text: str) -> Row:
    """Returns the figures of a mechanism."""
    sequence = MECHANISMS[mechanism].sequence
    if sequence is None:
        variances = np.arange(1.0, rounds + 1)
    else:
        variances = prefix_variances(lambda draw: sequence(shape, draw), rounds)
    sensitivity = math.sqrt(planned_squared(mechanism, rounds, separation, shape))
    rms, largest = math.sqrt(variances.mean()), math.sqrt(variances.max())
    return Row(rounds, separation, mechanism, rms * sensitivity, largest * sensitivity, models_kept, text)


def rows_of(rounds: int, separation: int) -> list[Row]:
    """Returns the mechanisms' figures, the most noise first."""
    bands, buffers = choose_bands(rounds, separation, separation), choose_buffers(rounds, separation)
    rows = [
        row_of(rounds, separation, "central", INDEPENDENT, 0, ""),
        row_of(rounds, separation, "tree", INDEPENDENT, rounds.bit_length(), ""),
        row_of(rounds, separation, "matrix", NoiseShape(bands), bands - 1 + ROUNDS_AHEAD, f"{bands} bands"),
        row_of(rounds, separation, "blt", NoiseShape(1, buffers), len(buffers), buffers_setting(buffers)),
    ]
    return sorted(rows, key=lambda row: -row.rms)


@click.command()
@click.option("--rounds", type=click.IntRange(1, 4000), multiple=True, default=(120, 500, 2000, 2000))
@click.option("--separation", type=click.IntRange(1), multiple=True, default=(10, 50, 313, 2000))
@click.option("--oracle", metavar="PYTHON", help="An interpreter that has jax-privacy 2.0.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(rounds: tuple[int, ...], separation: tuple[int, ...], oracle: Optional[str], as_json: bool) -> None:
    """Compare the mechanisms for pairs of --rounds and --separation."""
    if len(rounds) != len(separation):
        raise click.UsageError("give as many --separation as --rounds")
    rows, optima = [], {}
    for pair in zip(rounds, separation):
        rows += rows_of(*pair)
        if oracle:
            num_buffers = next(row.models_kept for row in reversed(rows) if row.mechanism == "blt")
            command = [oracle, "-c", _ORACLE, *map(str, (*pair, num_buffers))]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            optima[pair] = float(json.loads(output.splitlines()[-1]))
    if as_json:
        click.echo(msgspec.json.encode({"rows": rows, "oracle": [[*pair, rms] for pair, rms in optima.items()]}))
        return
    click.echo("rounds  separation  mechanism  rms error  largest  models kept")
    for row in rows:
        figures = f"{row.rms:9.2f}  {row.largest:7.2f}  {row.models_kept:11}"
        click.echo(f"{row.rounds:6}  {row.separation:10}  {row.mechanism:9}  {figures}  {row.shape}")
    for (num_rounds, apart), rms in optima.items():
        own = next(row for row in rows if (row.rounds, row.separation, row.mechanism) == (num_rounds, apart, "blt"))
        click.echo(f"{num_rounds} rounds, separation {apart}: ours {own.rms:.6f}, jax-privacy's optimum {rms:.6f}")


if __name__ == "__main__":
    main()
