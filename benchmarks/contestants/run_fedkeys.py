"""fedkeys in the race: a training as `fedkeys train` does it, on the text and the settings that the race wrote.

Its own argument is the aggregator. Every round is one of a real run, with its record, report and checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from work import Progress, arguments, read_work

from orchestrator.api import train_configured
from orchestrator.rounds.types import RoundReport
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config


class Told:
    """An observer that tells the race."""

    def __init__(self, progress: Progress):
        self._progress = progress

    def stage(self, text: str) -> None:
        """Ignores what begins."""

    def begin(self, first_round: int, num_rounds: int) -> None:
        """Says that the rounds begin."""
        self._progress.begin()

    def round_done(self, report: RoundReport, dev: Optional[Mapping[str, float]]) -> None:
        """Says that a round is over, which must have summed everybody."""
        assert report.outcome == "completed", report.reason
        self._progress.round_done()


def main() -> None:
    """Trains the run, and tells how far its weights went."""
    path, address, (config_path, aggregator) = arguments()
    work, progress = read_work(path), Progress(address)
    config = read_config(config_path, overrides={"aggregation.aggregator": aggregator})
    folder = Path(config_path).with_name(f"run-{os.getpid()}")
    train_configured(RunFolder(folder), config, Told(progress), resume=False)
    progress.end(work.start, read_run(RunFolder(folder)).newest.model)


if __name__ == "__main__":
    main()
