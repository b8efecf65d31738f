"""What a contestant of benchmarks/race.py is given, and how it tells what it did. Needs NumPy alone.

A contestant is a script of this folder, called with the work's file, the race's address, and its own arguments. It says
when its rounds begin, when each is over, and with which weights the last one ended, and begins a round when it is its
turn. Times are those of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import functools
import json
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

CLIENT_LEARNING_RATE = 0.1  # at 0.5, ten dense rounds of 16 batches and momentum end in numbers beyond a sum's range
SERVER_LEARNING_RATE = 1.0
SERVER_MOMENTUM = 0.9
BATCH = 16  # sentences

Weights = Sequence[np.ndarray]  # float32: embedding, kernel, bias, projection, output bias


class ClientWork(NamedTuple):
    """One client's batches in one round, in the order to train on; in each row of `mask` the ones come first."""

    tokens: np.ndarray  # int32 [num_batches, BATCH, time]
    targets: np.ndarray  # int32 [num_batches, BATCH, time]
    mask: np.ndarray  # float32 [num_batches, BATCH, time], 1 = real

    @property
    def num_examples(self) -> int:
        """Sentences: what the client counts by in the mean."""
        return self.mask.shape[0] * self.mask.shape[1]


@dataclass(frozen=True)
class Work:
    """The weights to begin with, and the clients of each round."""

    start: tuple[np.ndarray, ...]
    rounds: tuple[tuple[ClientWork, ...], ...]

    def write(self, path: Path) -> None:
        """Writes the work for `read_work`."""
        fields = {
            name: np.stack([[getattr(c, name) for c in own] for own in self.rounds]) for name in ClientWork._fields
        }
        np.savez(path, **fields, **{f"start_{i}": tensor for i, tensor in enumerate(self.start)})


@functools.lru_cache(maxsize=1)
def read_work(path: str) -> Work:
    """Returns the work that `Work.write` wrote; a process reads it once, also where each client asks for it."""
    with np.load(path) as arrays:
        start = tuple(arrays[name] for name in sorted(n for n in arrays.files if n.startswith("start_")))
        by_round = zip(*(arrays[name] for name in ClientWork._fields))
        return Work(start, tuple(tuple(map(ClientWork, *fields)) for fields in by_round))


class Progress:
    """Tells the race how far a contestant is, and waits for its turn before each round."""

    def __init__(self, address: str):
        race = socket.socket(socket.AF_UNIX)
        race.connect(address)
        self._race = race.makefile("rw")
        self._turn_since_s = 0.0

    def begin(self) -> None:
        """Says that everything stands ready, and waits until the first round may begin."""
        self._tell({"at_s": time.perf_counter()})
        self._await_turn()

    def round_done(self) -> None:
        """Says that a round is over, since its new weights are there; waits until the next one may begin."""
        self._tell({"round_s": time.perf_counter() - self._turn_since_s})
        self._await_turn()

    def end(self, start: Weights, weights: Weights) -> None:
        """Says how far the weights after the last round are from those of the start."""
        norms = [float(np.linalg.norm(np.asarray(b, np.float64) - a)) for a, b in zip(start, weights)]
        self._tell({"norms": norms})

    def _tell(self, facts: Mapping[str, object]) -> None:
        print(json.dumps(facts), file=self._race, flush=True)

    def _await_turn(self) -> None:
        self._race.readline()
        self._turn_since_s = time.perf_counter()


def arguments() -> tuple[str, str, list[str]]:
    """Returns what the race called this script with: the work's file, the race's address, and what is the script's."""
    _, path, address, *own = sys.argv
    return path, address, own
