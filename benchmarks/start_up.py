"""How long `fedkeys train` takes to the first round's work, by stage, and that first round.

    python benchmarks/start_up.py [--preset small] [--data FILE] [--repeats 3] [--json]

Each start is a fresh process that trains as `fedkeys train` does, from its own beginning, Python's included, to the end
of round 1; then it is stopped. Medians by the clock, and the CPU seconds of the process, without its workers', which
other work on the machine moves less. The first start is not counted: it makes what later ones find in the cache.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import msgspec

FIRST_ROUND = "round 1"


class Stage(msgspec.Struct):
    """What a start does, and when it began: seconds since the process was started, and of its CPU."""

    name: str
    wall_s: float
    cpu_s: float


class Enough(Exception):
    """Round 1 is done."""


class Marks:
    """An observer that notes when each stage begins, and stops the training after its first round."""

    def __init__(self, started: float):
        self._started = started
        self.stages = [Stage("Python, and fedkeys' own imports", 0.0, 0.0)]

    def stage(self, text: str) -> None:
        """Notes a stage."""
        cpu_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        self.stages.append(Stage(text, time.monotonic() - self._started, cpu_s))

    def begin(self, first_round: int, num_rounds: int) -> None:
        """Notes that the rounds begin."""
        self.stage(FIRST_ROUND)

    def round_done(self, report: object, dev: Optional[Mapping[str, float]]) -> None:
        """Notes that the first round is over."""
        self.stage("end")
        raise Enough


def train_once(preset: str, data: Optional[str], started: float) -> list[Stage]:
    """Trains in this process until round 1 is done. started: the moment of time.monotonic() at which it was started."""
    from orchestrator import api

    marks = Marks(started)
    with tempfile.TemporaryDirectory(prefix="start-up-") as folder:
        try:
            api.train(Path(folder) / "run", data, preset=preset, settings={"rounds.count": 3}, observer=marks)
        except Enough:
            return marks.stages
    raise AssertionError("no round was done")


def measure(preset: str, data: Optional[str]) -> list[Stage]:
    """Returns the stages of a start in a fresh process."""
    own = [sys.executable, __file__, "--preset", preset, *(("--data", data) if data else ())]
    done = subprocess.run([*own, "--started", repr(time.monotonic())], stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=list[Stage])


def lengths(starts: list[list[Stage]]) -> list[Stage]:
    """Returns the medians of how long each stage took; before the first round's row, that of all together up to it."""
    rows = []
    for place, stage in enumerate(starts[0][:-1]):
        ends = [(start[place], start[place + 1]) for start in starts]
        if stage.name == FIRST_ROUND:
            to_here = [start[place] for start in starts]
            wall, cpu = (statistics.median(own) for own in zip(*((one.wall_s, one.cpu_s) for one in to_here)))
            rows.append(Stage("together, to the first round's work", wall, cpu))
        wall = statistics.median(after.wall_s - before.wall_s for before, after in ends)
        cpu = statistics.median(after.cpu_s - before.cpu_s for before, after in ends)
        rows.append(Stage(stage.name, wall, cpu))
    return rows


@click.command()
@click.option("--preset", default="small", show_default=True)
@click.option("--data", help="A text of one's own.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.option("--started", type=float, hidden=True)
def main(preset: str, data: Optional[str], repeats: int, as_json: bool, started: Optional[float]) -> None:
    """Time the start of a training."""
    if started is not None:
        print(msgspec.json.encode(train_once(preset, data, started)).decode())
        return
    _, *starts = (measure(preset, data) for _ in range(repeats + 1))
    rows = lengths(starts)
    if as_json:
        print(msgspec.json.encode(rows).decode())
        return
    for row in rows:
        print(f"{row.wall_s:7.2f} s  {row.cpu_s:7.2f} s of CPU  {row.name}")


if __name__ == "__main__":
    main()
