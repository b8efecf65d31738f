"""The on-device benchmark of a Keras model's bundle: train step, inference, load time, memory and sizes, in LiteRT.

Plain TensorFlow is not beside it, since a bundle holds no Keras model: benchmarks/keras_train_step.py compares.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from edge.bundle.folder import read_file
from edge.bundle.golden import GOLDEN_BATCHES
from edge.bundle.keras_golden import batches_of, weight_names
from edge.bundle.keras_manifest import open_keras_bundle
from edge.clients.keras_model import KerasModel
from edge.export.tflite import TRAIN_FILE
from edge.on_device.benchmark import THREADS, machine
from edge.on_device.figures import Machine, Spread, TrainStep, spread
from edge.on_device.worker import LEARNING_RATE, peak_rss_mib

_WARM_UP = 3
_SLICE = 5  # runs before the next one's turn


class InferTime(Spread, frozen=True, kw_only=True):
    """One example's inference in LiteRT."""

    threads: int


class KerasFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What `fedkeys benchmark` prints of a Keras model's bundle."""

    train_step_ms: Sequence[TrainStep]
    infer_ms: Sequence[InferTime]
    load_ms: float  # from the file's bytes to the first inference
    peak_rss_mib: float  # of this process, which imports no TensorFlow and holds the file for each number of threads
    bytes: Mapping[str, int]  # of the file, and of an update: raw
    machine: Machine


def benchmark_keras_bundle(bundle: Path, runs: int = 30) -> KerasFigures:
    """Returns the figures of a bundle; 1 and 2 threads take turns.

    Raises:
      BundleError: it can't be read.
    """
    bundle = Path(bundle)
    manifest = open_keras_bundle(bundle)
    content = read_file(bundle, manifest, TRAIN_FILE)
    batch = batches_of(manifest, read_file(bundle, manifest, GOLDEN_BATCHES))[0]
    example = {name: value[:1] for name, value in batch.items() if name not in ("targets", "mask")}
    names = weight_names(manifest)
    models = {threads: KerasModel(content, names, num_threads=threads) for threads in THREADS}
    train = _in_turns({n: partial(model.train_step, batch, LEARNING_RATE) for n, model in models.items()}, runs)
    infer = _in_turns({n: partial(model.infer, example) for n, model in models.items()}, 10 * runs)
    load = [_milliseconds(lambda: KerasModel(content, names).infer(example)) for _ in range(5)]
    return KerasFigures(
        train_step_ms=[
            TrainStep(runtime="litert", batch=manifest.plan.batch_size, threads=n, **msgspec.structs.asdict(own))
            for n, own in train.items()
        ],
        infer_ms=[InferTime(threads=n, **msgspec.structs.asdict(own)) for n, own in infer.items()],
        load_ms=sorted(load)[2],
        peak_rss_mib=peak_rss_mib(),
        bytes={TRAIN_FILE: len(content), "update_raw": 4 * manifest.model.num_weights},
        machine=machine(),
    )


def _in_turns(sides: Mapping[int, Callable[[], object]], runs: int) -> dict[int, Spread]:
    times: dict[int, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        for _ in range(_WARM_UP):
            run()
    for done in range(0, runs, _SLICE):
        for name, run in sides.items():
            times[name] += [_milliseconds(run) for _ in range(min(_SLICE, runs - done))]
    return {name: spread(own, _WARM_UP) for name, own in times.items()}


def _milliseconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started)


def keras_lines(figures: KerasFigures) -> list[str]:
    """Returns the figures as lines for people."""
    lines = [
        f"train step, batch {row.batch}, {row.threads} threads: {row.p50:.3f} ms, p99 {row.p99:.3f} ms"
        for row in figures.train_step_ms
    ]
    lines += [f"inference, {row.threads} threads: {row.p50:.3f} ms, p99 {row.p99:.3f} ms" for row in figures.infer_ms]
    lines += [f"load: {figures.load_ms:.1f} ms", f"peak memory: {figures.peak_rss_mib:.1f} MiB"]
    lines += [f"{name}: {count:,} bytes" for name, count in figures.bytes.items()]
    own = figures.machine
    lines.append(f"{own.cpu}, {own.cores} cores, load {own.load_average:.1f}; on this machine, not on a phone")
    return lines
