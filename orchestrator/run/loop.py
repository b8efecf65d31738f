"""The loop over rounds, and the clock of their stages: for training here and for serving clients elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from orchestrator.errors import BelowThreshold, Diverged
from orchestrator.rounds.types import RoundReport, ServerState
from orchestrator.run.lines import Round
from orchestrator.settings.sections import RoundsConfig

MAX_ABANDONED = 10  # rounds in a row, after which a run is hopeless

RunOne = Callable[[ServerState], tuple[ServerState, RoundReport]]


def run_rounds(state: ServerState, num_rounds: int, run_one: RunOne) -> ServerState:
    """Returns the state after round `num_rounds`.

    Args:
      state: where the run stands.
      num_rounds: of the whole run.
      run_one: runs the round after a state, and keeps whatever the round leaves.

    Raises:
      BelowThreshold: MAX_ABANDONED rounds in a row were abandoned.
    """
    num_abandoned = 0
    while state.round_num < num_rounds:
        state, report = run_one(state)
        num_abandoned = 0 if report.outcome == "completed" else num_abandoned + 1
        if num_abandoned == MAX_ABANDONED:
            raise BelowThreshold(f"{num_abandoned} rounds in a row were abandoned, the last because: {report.reason}")
    return state


def require_completed(rounds: Sequence[Round]) -> None:
    """Checks that a run's rounds taught it something.

    Raises:
      Diverged: all rounds were abandoned, and the last one because the training diverged.
      BelowThreshold: all rounds were abandoned.
    """
    if not rounds or any(line.outcome == "completed" for line in rounds):
        return
    reason = rounds[-1].reason
    kind = Diverged if "diverged" in reason else BelowThreshold
    raise kind(f"no round of {len(rounds)} was completed, so there is no trained model; the last because: {reason}")


def keeps_checkpoint(rounds: RoundsConfig, round_num: int) -> bool:
    """True if the state after this round is kept: the last one always is.

    >>> [n for n in range(1, 8) if keeps_checkpoint(RoundsConfig(count=7, checkpoint_every=3), n)]
    [3, 6, 7]
    """
    return round_num == rounds.count or round_num % rounds.checkpoint_every == 0


class WallClock:
    """A Stopwatch on the real clock. A stage inside another takes its time from it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See orchestrator.rounds.types.Stopwatch."""
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """Returns the seconds by stage since the last take."""
        taken, self.seconds = {k: round(v, 4) for k, v in self.seconds.items()}, {}
        return taken
