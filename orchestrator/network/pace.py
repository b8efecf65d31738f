"""Holds what a client makes of its text back until a time that does not depend on the text.

How long training takes tells how much was typed. An answer therefore leaves a whole number of steps after the question
came, and one step holds every training that is shorter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from models.batches import Batches
from models.weights import ModelSize
from orchestrator.rounds.build import load_trainer
from orchestrator.settings.run_config import RunConfig

if TYPE_CHECKING:
    from models.local_training import Trainer

DEFAULT_STEP_S = 1.0


def load_warm_trainer(config: RunConfig, size: ModelSize) -> Trainer:
    """Returns the trainer after a first call on nothing: that call alone takes TensorFlow longer than a step."""
    trainer = load_trainer(config, size)
    nothing = np.zeros((1, 1, config.data.max_words), np.int32)
    weights = tuple(np.zeros(shape, np.float32) for shape in size.shapes)
    trainer(weights, 0.0, 0, Batches(nothing, nothing, nothing.astype(np.float32)))
    return trainer


class Pace:
    """When a client's answers leave.

    Args:
      step_s: the step in seconds; 0 lets each answer leave at once, and its time tells how much was typed.
      note: called with a line if something took longer than a step, which the server sees.
      clock, sleep: as time.monotonic and time.sleep.
    """

    def __init__(
        self,
        step_s: float,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._step_s, self._note, self._clock, self._sleep = step_s, note, clock, sleep

    @contextmanager
    def held(self, what: str) -> Iterator[None]:
        """Does its block, and ends a whole number of steps after it began; at least one."""
        started = self._clock()
        try:
            yield
        finally:
            self._hold(what, started)

    def _hold(self, what: str, started: float) -> None:
        """Sleeps until a whole number of steps after the start; says if it was more than one."""
        if not self._step_s:
            return
        spent = self._clock() - started
        steps = max(1, math.ceil(spent / self._step_s))
        if steps > 1:
            self._note(
                f"{what} took {spent:.1f} s, longer than a step of {self._step_s:g} s: the server sees that it took "
                f"{steps} steps; raise --answer-step"
            )
        self._sleep(max(0.0, started + steps * self._step_s - self._clock()))
