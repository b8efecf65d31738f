"""What the main process of a training holds, by stage, and what its workers hold after the first round.

    python benchmarks/memory.py [--preset small] [--data FILE] [--cohort 10] [--json]

MiB of the kernel's /proc/PID/smaps_rollup: `own` is what the process alone has (Private_*), `shared` what others map
as well, as the code of libraries that the workers load too. `freed` is the part of `own` that malloc keeps for later.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Optional, Union

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import msgspec

_ROUNDS = (1, 3)


class Held(msgspec.Struct):
    """What a process holds at some moment, MiB."""

    when: str
    own: float
    shared: float
    freed: Optional[float] = None


class _MallInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def held(when: str, pid: Union[int, str] = "self") -> Held:
    """Returns what a process holds now; what malloc keeps for later only for this process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = kib["Private_Clean"] + kib["Private_Dirty"]
    return Held(when, own / 1024, (kib["Rss"] - own) / 1024, _freed() if pid == "self" else None)


def _freed() -> Optional[float]:
    try:
        ask = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):  # another libc, or glibc before 2.33
        return None
    ask.restype = _MallInfo
    return ask().fordblks / 2**20


class Marks:
    """An observer that notes what is held when a stage begins."""

    def __init__(self) -> None:
        self.rows = [held("Python, and fedkeys' own imports")]
        self._stage = "reading the text"

    def stage(self, text: str) -> None:
        """Notes what is held after the stage before."""
        if text != self._stage:
            self.rows.append(held(f"after {self._stage}"))
            self._stage = text

    def begin(self, first_round: int, num_rounds: int) -> None:
        """Notes what is held before the rounds."""
        self.stage("the rounds")

    def round_done(self, report: object, dev: Optional[Mapping[str, float]]) -> None:
        """Notes what is held after some rounds, of the workers too."""
        number = report.round_num  # type: ignore[attr-defined]
        if number in _ROUNDS:
            self.rows.append(held(f"after round {number}"))
        if number == max(_ROUNDS):
            self.rows.extend(held(f"a worker, after round {number}", pid) for pid in _children())


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@click.command()
@click.option("--preset", default="small", show_default=True)
@click.option("--data", help="A text of one's own.")
@click.option("--cohort", default=10, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def main(preset: str, data: Optional[str], cohort: int, as_json: bool) -> None:
    """Print what a training holds."""
    from orchestrator import api

    marks = Marks()
    settings = {"rounds.count": max(_ROUNDS), "rounds.cohort_size": cohort, "evaluation.every": max(_ROUNDS)}
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        api.train(Path(folder) / "run", data, preset=preset, settings=settings, observer=marks)
    if as_json:
        print(msgspec.json.encode(marks.rows).decode())
        return
    for row in marks.rows:
        freed = "" if row.freed is None else f"{row.freed:7.0f} MiB freed"
        print(f"{row.own:7.0f} MiB own {row.shared:7.0f} MiB shared {freed:18} {row.when}")


if __name__ == "__main__":
    main()
