"""The on-device benchmark of a bundle: train step, key stroke, load time, memory and sizes, beside plain TensorFlow.

Each runtime and number of threads is a process of its own (edge.on_device.worker). They take turns, a few runs each, so
that what else the machine does hits all alike: read the ratios first, the milliseconds second.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.manifest import read_manifest
from edge.clients.c_client import run_c_client, why_not
from edge.clients.files import batches_to_bytes
from edge.errors import BundleError
from edge.export.tflite import INFER_FILE, TRAIN_FILE
from edge.on_device.estimates import SOURCE, estimate_lines, estimate_train_steps
from edge.on_device.worker import LEARNING_RATE, dense_batch
from models.batches import Batches
from models.weights import ModelSize, train_step_flops

BATCHES = (1, 4, 8, 16, 32)
THREADS = (1, 2)
_WARM_UP = 3
_SLICE = 5  # runs before the next process's turn
_MEMORY_BATCH = 4
_PROCESSES = 5  # of the C client, a batch size
_LOSS_TOLERANCE = 1e-3  # nats per token: that far apart the runtimes do the same work


class _Process:
    """A worker process; calls are answered in order."""

    def __init__(self, bundle: Path, threads: int, kind: str):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge.on_device.worker", str(bundle), str(threads), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def __call__(self, do: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise BundleError(f"a benchmark process ended while it did {do}: run `fedkeys verify` on the bundle")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def benchmark_bundle(
    bundle: Path,
    encoded_update_bytes: int,
    *,
    batches: Sequence[int] = BATCHES,
    runs: int = 30,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The figures of `fedkeys benchmark --json`.

    Args:
      bundle: the folder.
      encoded_update_bytes: of an update as the server's aggregators take it; edge does not know the code.
      batches: sentences a train step.
      runs: timed runs of each train step.
      note: is told what begins.

    Raises:
      BundleError: it can't be read, or a runtime computes another loss than the others.
    """
    bundle = Path(bundle)
    manifest, _ = read_manifest(bundle)
    size, time = manifest.model.size, manifest.model.max_words
    note("starting LiteRT and TensorFlow")
    litert = {threads: _Process(bundle, threads, "litert") for threads in THREADS}
    tensorflow = {threads: _Process(bundle, threads, "tensorflow") for threads in THREADS}
    try:
        train, gemm_flops = [], 0.0
        for batch in batches:
            note(f"train steps at batch {batch}")
            train += _train_steps(litert, tensorflow, batch, runs)
            # A limit is the best that was ever seen, so it is looked for between the others' turns too.
            gemm_flops = max(gemm_flops, *(process("gemm", runs=5) for process in (litert[1], tensorflow[1])))
        note("key strokes and load times")
        strokes = [
            {"model": file, "threads": threads, **_percentiles(process("key_stroke", file=file, runs=10 * runs))}
            for file in (INFER_FILE, TRAIN_FILE)
            for threads, process in litert.items()
        ]
        loads = {file: litert[1]("load", file=file, runs=5) for file in (INFER_FILE, TRAIN_FILE)}
    finally:
        for process in (*litert.values(), *tensorflow.values()):
            process.close()
    note("memory")
    memory = {"litert (Python)": _peak_rss_mib(bundle)}
    c_client, c_memory = _c_client(bundle, size, time, batches, runs)
    memory.update(c_memory)
    return {
        "train_step_ms": train + c_client,
        "ratio_to_tensorflow": _ratios(train),
        "key_stroke_ms": strokes,
        "load_ms": float(np.median(loads[TRAIN_FILE])),
        "load_ms_by_file": {file: float(np.median(times)) for file, times in loads.items()},
        "peak_rss_mib": memory.get("c-client", memory["litert (Python)"]),
        "peak_rss_mib_by_client": memory,
        "memory_batch": _MEMORY_BATCH,
        "bytes": {
            **{name: entry.bytes for name, entry in manifest.files.items() if name.endswith(".tflite")},
            "update_raw": 4 * size.num_weights,
            "update_encoded": encoded_update_bytes,
        },
        # What the matrix products alone would take on 1 thread, at the rate of a large one in NumPy or TensorFlow.
        "arithmetic_limit_ms": {
            str(batch): 1e3 * train_step_flops(size, time, batch) / gemm_flops for batch in batches
        },
        "gemm_gflops": gemm_flops / 1e9,
        "machine": _machine(),
        "phone_estimates": {"source": SOURCE, "train_step": estimate_train_steps(size, time, batches)},
    }


def _train_steps(litert: Mapping, tensorflow: Mapping, batch: int, runs: int) -> list[dict[str, Any]]:
    """Rows of train_step_ms at one batch size; all processes take turns."""
    contenders: list[tuple[str, int, Callable]] = []
    losses = {}
    for threads in THREADS:
        contenders.append(("litert", threads, lambda do, p=litert[threads], **a: p(do, batch=batch, **a)))
        for step, name in (("plain", "tensorflow"), ("own", "tensorflow, own gradient")):
            contenders.append(
                (name, threads, lambda do, p=tensorflow[threads], s=step, **a: p(do, batch=batch, step=s, **a))
            )
    times: dict[tuple[str, int], list[float]] = {}
    for name, threads, process in contenders:
        losses[name, threads] = process("loss")
        process("train", runs=_WARM_UP)
        times[name, threads] = []
    if not np.ptp(list(losses.values())) <= _LOSS_TOLERANCE:  # so that a NaN does not pass
        raise BundleError(f"the runtimes do not do the same work at batch {batch}: their losses are {losses}")
    for done in range(0, runs, _SLICE):
        for name, threads, process in contenders:
            times[name, threads] += process("train", runs=min(_SLICE, runs - done))
    return [
        {"runtime": name, "batch": batch, "threads": threads, **_percentiles(times[name, threads])}
        for name, threads, _ in contenders
    ]


def _percentiles(times: Sequence[float]) -> dict[str, Any]:
    p50, p90, p99 = (float(p) for p in np.percentile(times, (50, 90, 99)))
    return {"p50": p50, "p90": p90, "p99": p99, "min": float(min(times)), "runs": len(times), "warm_up": _WARM_UP}


def _ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """LiteRT's median over each TensorFlow's, a row a batch size and number of threads."""
    p50 = {(row["runtime"], row["batch"], row["threads"]): row["p50"] for row in rows}
    return [
        {
            "batch": batch,
            "threads": threads,
            "plain": mine / p50["tensorflow", batch, threads],
            "own_gradient": mine / p50["tensorflow, own gradient", batch, threads],
        }
        for (runtime, batch, threads), mine in p50.items()
        if runtime == "litert"
    ]


def _peak_rss_mib(bundle: Path) -> float:
    """Of a fresh Python process that only trains."""
    process = _Process(bundle, 1, "litert")
    try:
        process("train", batch=_MEMORY_BATCH, runs=5)
        return process("peak_rss_mib")
    finally:
        process.close()


def _c_client(
    bundle: Path, size: ModelSize, time: int, batches: Sequence[int], runs: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of train_step_ms by the C client on 1 thread, and its peak memory; nothing where it can't be built.

    It prints the mean of a process's steps, its first ones included: a row's percentiles are of such means.
    """
    rows: list[dict[str, Any]] = []
    if why_not():
        return rows, {}
    memory = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in sorted({*batches, _MEMORY_BATCH}):
            one = dense_batch(size.vocabulary_size, time, batch)
            many = Batches(*(np.repeat(part[np.newaxis], runs, 0) for part in one))
            path = Path(folder) / "batches"
            path.write_bytes(batches_to_bytes(many, size.vocabulary_size))
            train = ["train", bundle, path, Path(folder) / "update", "--learning-rate", LEARNING_RATE, "--stats"]
            printed = [dict(map(str.split, run_c_client(train).stdout.splitlines())) for _ in range(_PROCESSES)]
            if batch in batches:
                row = _percentiles([float(one_process["ms_per_step"]) for one_process in printed])
                row.update(warm_up=0, steps_a_run=runs)
                rows.append({"runtime": "c-client", "batch": batch, "threads": 1, **row})
            if batch == _MEMORY_BATCH:
                memory["c-client"] = max(float(one_process["peak_rss_mib"]) for one_process in printed)
    return rows, memory


def _machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("ai-edge-litert", "tensorflow", "numpy")},
    }


def plot_figures(figures: Mapping[str, Any], path: Path) -> None:
    """Draws the train step by batch size, one line a runtime, with the arithmetic limit, as a picture file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    lines: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in figures["train_step_ms"]:
        lines.setdefault((row["runtime"], row["threads"]), []).append((row["batch"], row["p50"]))
    for (runtime, threads), points in lines.items():
        plural = "s" if threads > 1 else ""
        axes.plot(*zip(*sorted(points)), marker="o", markersize=3, label=f"{runtime}, {threads} thread{plural}")
    limit = [(int(batch), ms) for batch, ms in figures["arithmetic_limit_ms"].items()]
    axes.plot(*zip(*sorted(limit)), "k:", label="arithmetic limit, 1 thread")
    estimates = figures["phone_estimates"]["train_step"]
    sizes = [row["batch"] for row in estimates]
    for name, colour in (("low", "tab:red"), ("mid", "tab:orange"), ("high", "tab:olive")):
        low, high = zip(*(row["tiers_ms"][name] for row in estimates))
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, label=f"{name} phones, estimated")
    axes.set(xscale="log", yscale="log", xlabel="sentences a train step", ylabel="median milliseconds")
    axes.set_xticks([b for b, _ in sorted(limit)], [str(b) for b, _ in sorted(limit)])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    axes.set_title(f"A train step on {figures['machine']['cpu']}", fontsize=10)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def table_lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures as lines for people."""
    lines = [f"{'train step, ms':28} threads  batch     p50     p90     p99   runs   of the limit"]
    limits = figures["arithmetic_limit_ms"]
    for row in figures["train_step_ms"]:
        share = f"{limits[str(row['batch'])] / row['p50']:6.0%}" if row["threads"] == 1 else ""
        lines.append(
            f"{row['runtime']:28} {row['threads']:7} {row['batch']:6} {row['p50']:7.2f} {row['p90']:7.2f} "
            f"{row['p99']:7.2f} {row['runs']:6} {share:>14}"
        )
    lines.append("LiteRT's median over TensorFlow's (plain; with the model's own gradient)")
    for row in figures["ratio_to_tensorflow"]:
        lines.append(
            f"  batch {row['batch']:3}, {row['threads']} threads: {row['plain']:.2f}; {row['own_gradient']:.2f}"
        )
    for row in figures["key_stroke_ms"]:
        lines.append(
            f"key stroke, {row['model']}, {row['threads']} threads: {row['p50']:.3f} ms, p99 {row['p99']:.3f} ms"
        )
    for file, ms in figures["load_ms_by_file"].items():
        lines.append(f"load {file}: {ms:.1f} ms")
    for client, mib in figures["peak_rss_mib_by_client"].items():
        lines.append(f"peak memory while training at batch {figures['memory_batch']}, {client}: {mib:.1f} MiB")
    for name, count in figures["bytes"].items():
        lines.append(f"{name}: {count:,} bytes")
    lines += estimate_lines(figures["phone_estimates"]["train_step"])
    machine = figures["machine"]
    lines.append(
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']:.1f}, "
        f"{figures['gemm_gflops']:.0f} GFLOP/s on one; medians of runs that take turns, on this machine, not on a phone"
    )
    return lines
