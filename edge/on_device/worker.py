"""One measured process of the benchmark: reads a request a line, answers with a line of JSON.

    python -m edge.on_device.worker BUNDLE THREADS litert|tensorflow

A process of LiteRT imports no TensorFlow, so that its peak memory is LiteRT's; a process of TensorFlow has
THREADS threads and no more. A request is a Request, an answer an Answer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Union

import msgspec
import numpy as np

from edge.bundle.folder import read_file
from edge.bundle.manifest import Manifest, read_manifest
from edge.clients.litert import TrainableModel, build_interpreter
from edge.export.tflite import TRAIN_FILE
from models.vocabulary import NUM_SPECIAL

if TYPE_CHECKING:
    import tensorflow as tf

LEARNING_RATE = 0.01
_GEMM_SIZE = 1536


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and with what: each `do` reads the fields that it needs."""

    do: Literal["train", "loss", "key_stroke", "load", "gemm", "peak_rss_mib"]
    batch: int = 0  # sentences
    step: str = ""  # TensorFlow's gradient: "plain" or "own"
    file: str = ""  # of the bundle
    runs: int = 1


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of each run, or one figure."""

    times_ms: list[float] = []
    value: float = 0.0


def dense_batch(vocabulary_size: int, time_steps: int, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns tokens, targets and mask [batch, time] of made-up sentences that fill every position: the most work."""
    rng = np.random.default_rng(batch)
    ids = rng.integers(NUM_SPECIAL, vocabulary_size, (batch, time_steps + 1)).astype(np.int32)
    mask = np.ones((batch, time_steps), np.float32)
    return np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]), mask


def timed(function: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of each of `runs` calls."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def _square() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((_GEMM_SIZE, _GEMM_SIZE)).astype(np.float32)


def _gemm_flops(product: Callable[[], object], runs: int) -> float:
    """Returns FLOP/s of the best of `runs` products of two square matrices."""
    return 2.0 * _GEMM_SIZE**3 / (min(timed(product, runs)) / 1e3)


class _Litert:
    """The exported files in LiteRT."""

    def __init__(self, bundle: Path, manifest: Manifest, threads: int):
        self._bundle, self._manifest, self._threads = bundle, manifest, threads
        self._model = manifest.model
        self._trainable = TrainableModel(
            read_file(bundle, manifest, TRAIN_FILE), manifest.model.size.names, num_threads=threads
        )
        self._start = self._trainable.get_weights()

    def answer(self, request: Request) -> Answer:
        """Returns what the request asks for."""
        if request.do == "train":
            return Answer(times_ms=self._train(request.batch, request.runs))
        if request.do == "loss":
            return Answer(value=self._loss(request.batch))
        if request.do == "key_stroke":
            return Answer(times_ms=timed(self._open(request.file), request.runs + 20)[20:])  # warm
        if request.do == "load":  # from the file to its first prediction
            return Answer(times_ms=timed(lambda: self._open(request.file)(), request.runs))
        return Answer(value=self._gemm(request.runs))

    def _train(self, batch: int, runs: int) -> list[float]:
        """Milliseconds of train steps."""
        data = dense_batch(self._model.vocabulary_size, self._model.max_words, batch)
        return timed(lambda: self._trainable.train_step(*data, LEARNING_RATE), runs)

    def _loss(self, batch: int) -> float:
        """Loss of the first step at this batch size, to compare with others'."""
        self._trainable.set_weights(self._start)
        data = dense_batch(self._model.vocabulary_size, self._model.max_words, batch)
        return self._trainable.train_step(*data, LEARNING_RATE)[0]

    def _open(self, file: str) -> Callable[[], object]:
        infer = build_interpreter(read_file(self._bundle, self._manifest, file), "litert", self._threads)
        runner = infer.get_signature_runner("infer")
        token = np.array([NUM_SPECIAL], np.int32)
        state = self._model.size.start_state()
        return lambda: runner(token=token, **state)

    @staticmethod
    def _gemm(runs: int) -> float:
        """Returns FLOP/s of NumPy's matrix product."""
        square = _square()
        return _gemm_flops(lambda: square @ square, runs)


class _Tensorflow:
    """The same step in TensorFlow: `plain`, which TensorFlow differentiates, and `own`, the model's own gradient."""

    def __init__(self, bundle: Path, manifest: Manifest, threads: int):
        import tensorflow as tf

        from models.model import load_model
        from models.next_word import sgd_step
        from models.plain_loss import plain_loss

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self._model, clip_norm = manifest.model, manifest.plan.clip_norm
        model = load_model(manifest.model.size)
        inner = [model.size.names.index(name) for name in model.size.architecture.inner]
        self._start = TrainableModel(read_file(bundle, manifest, TRAIN_FILE), model.size.names).get_weights()
        self._weights = [tf.Variable(w) for w in self._start]
        rate = tf.constant(LEARNING_RATE)

        def plain(tokens: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = plain_loss(model.size, self._weights, tokens, targets)
            gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, self._weights)]
            scale = rate
            if clip_norm > 0:
                scale *= clip_norm / tf.maximum(tf.linalg.global_norm([gradients[i] for i in inner]), clip_norm)
            for variable, gradient in zip(self._weights, gradients):
                variable.assign_sub(scale * gradient)
            return loss

        def own(tokens: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
            weights = [variable.read_value() for variable in self._weights]
            after, loss_sum, num_tokens = sgd_step(model, weights, tokens, targets, mask, rate, clip_norm)
            for variable, value in zip(self._weights, after):
                variable.assign(value)
            return loss_sum / num_tokens

        self._steps = {name: tf.function(step, autograph=False) for name, step in (("plain", plain), ("own", own))}

    def answer(self, request: Request) -> Answer:
        """Returns what the request asks for; key strokes and loads are LiteRT's only."""
        if request.do == "train":
            return Answer(times_ms=self._train(request.batch, request.runs, request.step))
        if request.do == "loss":
            return Answer(value=self._loss(request.batch, request.step))
        return Answer(value=self._gemm(request.runs))

    def _train(self, batch: int, runs: int, step: str) -> list[float]:
        """Milliseconds of train steps."""
        data = self._data(batch)
        return timed(lambda: self._steps[step](*data).numpy(), runs)

    def _loss(self, batch: int, step: str) -> float:
        """Loss of the first step at this batch size."""
        for variable, value in zip(self._weights, self._start):
            variable.assign(value)
        return float(self._steps[step](*self._data(batch)))

    @staticmethod
    def _gemm(runs: int) -> float:
        """Returns FLOP/s of TensorFlow's matrix product."""
        import tensorflow as tf

        square = tf.constant(_square())
        return _gemm_flops(lambda: tf.matmul(square, square).numpy(), runs)

    def _data(self, batch: int) -> tuple[tf.Tensor, ...]:
        import tensorflow as tf

        arrays = dense_batch(self._model.vocabulary_size, self._model.max_words, batch)
        return tuple(tf.constant(array) for array in arrays)


def peak_rss_mib() -> float:
    """Returns the most memory that this process has had resident.

    Not getrusage's figure, which begins with what the parent process had when it started this one.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def main(bundle: str, threads: str, kind: str) -> None:
    """Answers requests until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    manifest, _ = read_manifest(Path(bundle))
    builds: dict[str, Callable[[Path, Manifest, int], Union[_Litert, _Tensorflow]]] = {
        "litert": _Litert,
        "tensorflow": _Tensorflow,
    }
    worker = builds[kind](Path(bundle), manifest, int(threads))
    for line in sys.stdin:
        request = msgspec.json.decode(line, type=Request)
        answer = Answer(value=peak_rss_mib()) if request.do == "peak_rss_mib" else worker.answer(request)
        print(msgspec.json.encode(answer).decode(), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
