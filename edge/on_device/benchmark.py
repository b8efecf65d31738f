"""The on-device benchmark of a bundle: train step, key stroke, load time, memory and sizes, beside plain TensorFlow.

Each runtime and number of threads is a process of its own (edge.on_device.worker). They take turns, a few runs each, so
that what else the machine does hits all alike: read the ratios first, the milliseconds second.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np

from edge.bundle.folder import open_bundle
from edge.clients.c_client import run_c_client, why_not
from edge.clients.files import batches_to_bytes
from edge.errors import BundleError
from edge.export.tflite import INFER_FILE, TRAIN_FILE
from edge.on_device.estimates import SOURCE, estimate_train_steps
from edge.on_device.figures import Figures, KeyStrokeTime, Machine, PhoneEstimates, Ratio, TrainStep, spread
from edge.on_device.worker import LEARNING_RATE, Answer, Request, dense_batch
from models.batches import Batches
from models.own_network import is_own
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize, train_step_flops

BATCHES = (1, 4, 8, 16, 32)
THREADS = (1, 2)
_WARM_UP = 3
_SLICE = 5  # runs before the next process's turn
_MEMORY_BATCH = 4
_PROCESSES = 5  # of the C client, a batch size
_LOSS_TOLERANCE = 1e-3  # nats per token: that far apart the runtimes do the same work

_HOME = Path(__file__).resolve().parents[2]  # of the packages


class _Process:
    """A worker process; calls are answered in order."""

    def __init__(self, bundle: Path, threads: int, kind: str):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
        # In the packages' own folder, where no stranger's folder called models/ can stand in for ours.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge.on_device.worker", str(bundle.resolve()), str(threads), kind],
            cwd=_HOME,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def times(self, request: Request) -> list[float]:
        """Returns the milliseconds of each run."""
        return self._ask(request).times_ms

    def value(self, request: Request) -> float:
        """Returns a single figure."""
        return self._ask(request).value

    def _ask(self, request: Request) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(request) + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise BundleError(f"a benchmark process ended during {request.do}: run `fedkeys verify` on the bundle")
        return msgspec.json.decode(answer, type=Answer)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


Processes = Mapping[int, _Process]  # by number of threads


def benchmark_bundle(
    bundle: Path,
    encoded_update_bytes: int,
    *,
    batches: Sequence[int] = BATCHES,
    runs: int = 30,
    note: Callable[[str], None] = lambda text: None,
) -> Figures:
    """Returns the figures of `fedkeys benchmark --json`.

    Args:
      bundle: the folder.
      encoded_update_bytes: of an update as the server's aggregators take it; edge does not know the encoder.
      batches: sentences a train step; of files that take one batch size, the plan's takes their place.
      runs: timed runs of each train step.
      note: is called with a line about each part as it begins.

    Raises:
      BundleError: it can't be read, or a runtime computes another loss than the others.
    """
    bundle = Path(bundle)
    manifest, _ = open_bundle(bundle)
    size, time = manifest.model.size, manifest.model.max_words
    memory_batch = _MEMORY_BATCH
    if not size.architecture.free_batch:
        batches, memory_batch = (manifest.plan.batch_size,), manifest.plan.batch_size
        note(f"the files take batches of {memory_batch}, and no other")
    has_code = not is_own(size.kind)
    note("starting LiteRT and TensorFlow" if has_code else "starting LiteRT; the bundle has no code for TensorFlow")
    with contextlib.ExitStack() as stack:
        litert = {n: stack.enter_context(_Process(bundle, n, "litert")) for n in THREADS}
        tensorflow = {n: stack.enter_context(_Process(bundle, n, "tensorflow")) for n in THREADS if has_code}
        train, gemm_flops = _train_all(litert, tensorflow, batches, runs, note)
        note("key strokes and load times")
        strokes = [_key_stroke(litert, file, n, 10 * runs) for file in (INFER_FILE, TRAIN_FILE) for n in THREADS]
        loads = {file: _load_ms(litert[1], file) for file in (INFER_FILE, TRAIN_FILE)}
    note("memory")
    c_client, c_memory = _c_client(bundle, size, time, batches, runs, memory_batch)
    memory = {"litert (Python)": _peak_rss_mib(bundle, memory_batch), **c_memory}
    files = {name: entry.bytes for name, entry in manifest.files.items() if name.endswith(".tflite")}
    return Figures(
        train_step_ms=train + c_client,
        ratio_to_tensorflow=_ratios(train),
        key_stroke_ms=strokes + _c_key_strokes(bundle, size, runs),
        load_ms=loads[TRAIN_FILE],
        load_ms_by_file=loads,
        peak_rss_mib=memory.get("c-client", memory["litert (Python)"]),
        peak_rss_mib_by_client=memory,
        memory_batch=memory_batch,
        bytes={**files, "update_raw": 4 * size.num_weights, "update_encoded": encoded_update_bytes},
        arithmetic_limit_ms={str(b): 1e3 * train_step_flops(size, time, b) / gemm_flops for b in batches},
        gemm_gflops=gemm_flops / 1e9,
        machine=machine(),
        phone_estimates=PhoneEstimates(SOURCE, estimate_train_steps(size, time, batches)),
    )


def _train_all(
    litert: Processes, tensorflow: Processes, batches: Sequence[int], runs: int, note: Callable[[str], None]
) -> tuple[list[TrainStep], float]:
    """Rows of train_step_ms, and FLOP/s of a large matrix product.

    The latter is a limit, the best that was ever seen, so it is looked for between the others' turns too.
    """
    rows, gemm_flops = [], 0.0
    for batch in batches:
        note(f"train steps at batch {batch}")
        rows += _train_steps(litert, tensorflow, batch, runs)
        contenders = [runtime[1] for runtime in (litert, tensorflow) if runtime]
        gemm_flops = max(gemm_flops, *(process.value(Request(do="gemm", runs=5)) for process in contenders))
    return rows, gemm_flops


def _train_steps(litert: Processes, tensorflow: Processes, batch: int, runs: int) -> list[TrainStep]:
    """Rows of train_step_ms at one batch size; all processes take turns."""
    contenders: dict[tuple[str, int], tuple[_Process, str]] = {}  # (runtime, threads) -> its process and kind of step
    for threads in THREADS:
        contenders["litert", threads] = litert[threads], ""
        if tensorflow:
            contenders["tensorflow", threads] = tensorflow[threads], "plain"
            contenders["tensorflow, own gradient", threads] = tensorflow[threads], "own"
    times: dict[tuple[str, int], list[float]] = {name: [] for name in contenders}
    losses = {}
    for name, (process, step) in contenders.items():
        losses[name] = process.value(Request(do="loss", batch=batch, step=step))
        process.times(Request(do="train", batch=batch, step=step, runs=_WARM_UP))
    if not np.ptp(list(losses.values())) <= _LOSS_TOLERANCE:  # so that a NaN does not pass
        raise BundleError(f"the runtimes do not do the same work at batch {batch}: their losses are {losses}")
    for done in range(0, runs, _SLICE):
        for name, (process, step) in contenders.items():
            slice_runs = min(_SLICE, runs - done)
            times[name] += process.times(Request(do="train", batch=batch, step=step, runs=slice_runs))
    return [_train_row(runtime, batch, threads, own) for (runtime, threads), own in times.items()]


def _train_row(runtime: str, batch: int, threads: int, times: Sequence[float], warm_up: int = _WARM_UP) -> TrainStep:
    own = msgspec.structs.asdict(spread(times, warm_up))
    return TrainStep(runtime=runtime, batch=batch, threads=threads, **own)


def _key_stroke(litert: Processes, file: str, threads: int, runs: int) -> KeyStrokeTime:
    times = litert[threads].times(Request(do="key_stroke", file=file, runs=runs))
    return KeyStrokeTime(model=file, threads=threads, **msgspec.structs.asdict(spread(times, _WARM_UP)))


def _load_ms(process: _Process, file: str) -> float:
    """Returns the median of five loads."""
    return float(np.median(process.times(Request(do="load", file=file, runs=5))))


def _ratios(rows: Sequence[TrainStep]) -> list[Ratio]:
    """Returns LiteRT's median over each TensorFlow's: one row for each batch size and number of threads."""
    p50 = {(row.runtime, row.batch, row.threads): row.p50 for row in rows}
    return [
        Ratio(
            batch=batch,
            threads=threads,
            plain=mine / p50["tensorflow", batch, threads],
            own_gradient=mine / p50["tensorflow, own gradient", batch, threads],
        )
        for (runtime, batch, threads), mine in p50.items()
        if runtime == "litert" and ("tensorflow", batch, threads) in p50
    ]


def _peak_rss_mib(bundle: Path, batch: int) -> float:
    """Returns the peak memory of a fresh Python process that only trains."""
    with _Process(bundle, 1, "litert") as process:
        process.times(Request(do="train", batch=batch, runs=5))
        return process.value(Request(do="peak_rss_mib"))


def _c_client(
    bundle: Path, size: ModelSize, time: int, batches: Sequence[int], runs: int, memory_batch: int
) -> tuple[list[TrainStep], dict[str, float]]:
    """Rows of train_step_ms by the C client on 1 thread, and its peak memory; nothing where it can't train.

    It prints the mean of a process's steps, its first ones included: a row's percentiles are of such means.
    """
    rows: list[TrainStep] = []
    if why_not():
        return rows, {}
    memory = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in sorted({*batches, memory_batch}):
            one = dense_batch(size.vocabulary_size, time, batch)
            many = Batches(*(np.repeat(part[np.newaxis], runs, 0) for part in one))
            path = Path(folder) / "batches"
            path.write_bytes(batches_to_bytes(many, size.vocabulary_size))
            train = ["train", bundle, path, Path(folder) / "update", "--learning-rate", LEARNING_RATE, "--stats"]
            printed = [dict(map(str.split, run_c_client(train).stdout.splitlines())) for _ in range(_PROCESSES)]
            if batch in batches:
                means = [float(one_process["ms_per_step"]) for one_process in printed]
                row = _train_row("c-client", batch, 1, means, warm_up=0)
                rows.append(msgspec.structs.replace(row, steps_a_run=runs))
            if batch == memory_batch:
                memory["c-client"] = max(float(one_process["peak_rss_mib"]) for one_process in printed)
    return rows, memory


def _c_key_strokes(bundle: Path, size: ModelSize, runs: int) -> list[KeyStrokeTime]:
    """The row of key_stroke_ms by the C client; none where it can't predict.

    Of ten times `runs` words, and at most a thousand: a sentence of more than 200 is read anew now and then.
    """
    if why_not():
        return []
    words = np.random.default_rng(0).integers(NUM_SPECIAL, size.vocabulary_size, min(2 * runs, 200) + 1)
    printed = [run_c_client(["predict", bundle, *words, "--stats"]).stdout.splitlines() for _ in range(_PROCESSES)]
    times = [float(line.split()[1]) for lines in printed for line in lines if line.startswith("key_stroke_ms ")]
    own = msgspec.structs.asdict(spread(times, warm_up=1))
    return [KeyStrokeTime(runtime="c-client", model=INFER_FILE, threads=1, **own)]


def machine() -> Machine:
    """Returns what this machine is, and how busy."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        load_average=os.getloadavg()[0],
        python=platform.python_version(),
        litert=metadata.version("ai-edge-litert"),
        tensorflow=metadata.version("tensorflow"),
        numpy=metadata.version("numpy"),
    )
