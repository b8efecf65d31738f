"""How long `fedkeys evaluate` takes, by stage.

    python benchmarks/evaluation.py --run DIR [--json]

The run is evaluated once, in a process that has imported everything. Seconds by the clock, and of CPU in this process,
which other work on the machine moves less; the workers' CPU is not counted. DIR/evaluation.json is written anew.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec


@click.command()
@click.option("--run", "run_path", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def main(run_path: Path, as_json: bool) -> None:
    """Time the stages of an evaluation."""
    from orchestrator.evaluation.comparison import evaluate_run
    from orchestrator.run.folder import RunFolder
    from orchestrator.run.saved import read_run

    marks: list[tuple[str, float, float]] = []

    def note(stage: str) -> None:
        marks.append((stage, time.perf_counter(), time.process_time()))

    figures = evaluate_run(read_run(RunFolder(run_path)), False, note)
    note("end")
    rows = [
        (stage, wall - since, cpu - cpu_since) for (stage, since, cpu_since), (_, wall, cpu) in zip(marks, marks[1:])
    ]
    rows.append((f"together, {figures.positions} words", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    if as_json:
        stages = [{"stage": stage, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2)} for stage, wall, cpu in rows]
        print(msgspec.json.encode(stages).decode())
        return
    for stage, wall, cpu in rows:
        print(f"{wall:7.2f} s  {cpu:7.2f} s of CPU  {stage}")


if __name__ == "__main__":
    main()
