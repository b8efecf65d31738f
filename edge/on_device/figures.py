"""What the benchmark of a bundle measured: the object that `fedkeys benchmark --json` prints, as types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

import msgspec
import numpy as np


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of several runs."""

    p50: float
    p90: float
    p99: float
    min: float
    runs: int
    warm_up: int  # runs before them that are not counted


class TrainStep(Spread, frozen=True, kw_only=True):
    """A train step in one runtime."""

    runtime: str
    batch: int  # sentences
    threads: int
    steps_a_run: Union[int, msgspec.UnsetType] = msgspec.UNSET  # where a run is the mean of several steps


class KeyStrokeTime(Spread, frozen=True, kw_only=True):
    """One key stroke in LiteRT; by the C client it is a word after those before it, all calls included."""

    runtime: str = "litert"
    model: str  # the file
    threads: int


class Ratio(msgspec.Struct, frozen=True):
    """LiteRT's median train step over TensorFlow's: with the gradient of TensorFlow, and with the model's own."""

    batch: int
    threads: int
    plain: float
    own_gradient: float


class StepEstimate(msgspec.Struct, frozen=True):
    """Milliseconds of a train step on phones, estimated."""

    batch: int
    tiers_ms: Mapping[str, tuple[float, float]]  # tier -> (least, most)
    phones_ms: Mapping[str, float]  # p10, p50 and p90 over all phones


class PhoneEstimates(msgspec.Struct, frozen=True):
    """Estimates, and what they rest on."""

    source: str
    train_step: Sequence[StepEstimate]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cpu: str
    cores: int
    load_average: float
    python: str
    litert: str = msgspec.field(name="ai-edge-litert")
    tensorflow: str
    numpy: str


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All of a benchmark."""

    train_step_ms: Sequence[TrainStep]
    ratio_to_tensorflow: Sequence[Ratio]
    key_stroke_ms: Sequence[KeyStrokeTime]
    load_ms: float  # of the file that trains
    load_ms_by_file: Mapping[str, float]
    peak_rss_mib: float  # of the leanest client that runs here
    peak_rss_mib_by_client: Mapping[str, float]
    memory_batch: int  # sentences a step while memory was measured
    bytes: Mapping[str, int]  # of the files, and of an update: raw, and as the server's aggregators take it
    arithmetic_limit_ms: Mapping[str, float]  # by batch: the matrix products alone on 1 thread, at gemm_gflops
    gemm_gflops: float  # of a large matrix product in NumPy or TensorFlow, the best that was seen
    machine: Machine
    phone_estimates: PhoneEstimates


def spread(times: Sequence[float], warm_up: int) -> Spread:
    """Returns the spread of these milliseconds.

    >>> spread([1.0, 3.0, 2.0], warm_up=1).p50
    2.0
    """
    p50, p90, p99 = (float(p) for p in np.percentile(times, (50, 90, 99)))
    return Spread(p50=p50, p90=p90, p99=p99, min=float(min(times)), runs=len(times), warm_up=warm_up)
