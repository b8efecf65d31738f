"""Shows progress on standard error, so that standard output stays for figures."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Callable, Optional

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from orchestrator.cli.output import cell
from orchestrator.rounds.types import RoundReport
from orchestrator.units import count_text

if TYPE_CHECKING:
    from orchestrator.run.folder import RunFolder


SMOOTHED_ROUNDS = 20  # over which the loss that is shown is a mean


class ProgressObserver:
    """Shows a training as a bar with loss, recall and time left; in a pipe or a log, one line per evaluation.

    The loss is the mean of the last SMOOTHED_ROUNDS rounds in which somebody trained, those before a resume among them.
    """

    def __init__(self, folder: Optional[RunFolder] = None) -> None:
        """folder: of the run, whose earlier rounds a resume goes on from; None begins without any."""
        self._folder = folder
        self._console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: Optional[TaskID] = None
        self._recall = ""
        self._losses: deque[float] = deque(maxlen=SMOOTHED_ROUNDS)

    def __enter__(self) -> ProgressObserver:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, text: str) -> None:
        """Says that something begins that takes a while."""
        self._console.print(cell(f"{text} ...", "dim"))

    def begin(self, first_round: int, num_rounds: int) -> None:
        """Draws the bar before the first round."""
        if first_round > 1:
            self._console.print(f"going on from round {first_round - 1}")
            for line in self._folder.rounds() if self._folder is not None else ():
                self._take_loss(line.metrics)
        self._task = self._progress.add_task("rounds", total=num_rounds, completed=first_round - 1, figures="")

    def round_done(self, report: RoundReport, dev: Optional[Mapping[str, float]]) -> None:
        """Moves the bar after a round."""
        self._take_loss(report.metrics)
        shown = f"{statistics.fmean(self._losses):.3f} nats" if self._losses else "-"
        loss = f"loss of {count_text(max(1, len(self._losses)), 'round')} {shown}"
        if dev:
            self._recall = f"dev top-1 {dev['dev_top1']:.2%} top-3 {dev['dev_top3']:.2%}"
            if not self._console.is_terminal:
                self._console.print(f"round {report.round_num}: {loss}, {self._recall}")
        if report.outcome != "completed":
            self._console.print(cell(f"round {report.round_num} abandoned: {report.reason}", "yellow"))
        assert self._task is not None  # begin() came first
        self._progress.update(self._task, completed=report.round_num, figures=f"{loss} {self._recall}")

    def _take_loss(self, metrics: Mapping[str, Optional[float]]) -> None:
        loss = metrics.get("train_loss")  # nobody trained: no loss
        if loss is not None and math.isfinite(loss):
            self._losses.append(loss)


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[..., None]]:
    """Yields a callback and shows how many times it was called; shows nothing in a pipe or a log."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def count(*_: object) -> None:
            progress.advance(task)

        yield count
