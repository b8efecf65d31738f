"""A client that trains with the exported file in a TFLite runtime: what a phone does, as Python.

Imports no TensorFlow unless that runtime is asked for, so that a process of this client is as small as LiteRT is.
"""

from __future__ import annotations

import collections
import concurrent.futures as futures
import os
import queue
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Union

import numpy as np

from edge.clients.packing import Batch, packed
from edge.export.shapes import shapes_among
from models.batches import Batches
from models.client_result import ClientResult
from models.weights import ModelSize, Weights, are_finite

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter, SignatureRunner

RUNTIMES = ("litert", "tensorflow")
_GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
_first_interpreter, _greeted = threading.Lock(), threading.Event()


def runtime_version(runtime: str) -> str:
    """Returns the installed version of a runtime's package.

    >>> runtime_version("litert").count(".") >= 1
    True
    """
    from importlib import metadata

    return metadata.version({"litert": "ai-edge-litert", "tensorflow": "tensorflow"}[runtime])


def build_interpreter(content: bytes, runtime: str = "litert", num_threads: int = 1) -> Interpreter:
    """Returns an interpreter of a TFLite file's content.

    Args:
      content: the file's bytes.
      runtime: "litert" (ai-edge-litert) or "tensorflow" (the interpreter that comes with TensorFlow).
      num_threads: threads of the kernels.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got runtime={runtime!r}")
    if runtime == "litert":
        from ai_edge_litert.interpreter import Interpreter

        if not _greeted.is_set():
            _silence_greeting(content)
        return Interpreter(model_content=content, num_threads=num_threads)
    import tensorflow as tf

    return tf.lite.Interpreter(model_content=content, num_threads=num_threads)


def _silence_greeting(content: bytes) -> None:
    """Makes LiteRT write its one line of information to standard error now, where nobody sees it.

    LiteRT greets when a process's first interpreter gets its tensors, and Python reaches no setting of its logger. So
    the first one here is made for that alone, while file descriptor 2 leads into a file; what else is written there
    meanwhile is passed on.
    """
    from ai_edge_litert.interpreter import Interpreter

    with _first_interpreter, tempfile.TemporaryFile() as written:
        if _greeted.is_set():
            return
        standard_error = os.dup(2)
        try:
            os.dup2(written.fileno(), 2)
            Interpreter(model_content=content).allocate_tensors()
            _greeted.set()
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            written.seek(0)
            for line in written:
                if line.rstrip() != _GREETING:
                    os.write(2, line)


class TrainableModel:
    """train.tflite in a runtime. It holds the weights: a train step changes them.

    Args:
      content: the file's bytes.
      names: of its weights, in their order.
      runtime, num_threads: as in build_interpreter.
    """

    def __init__(self, content: bytes, names: Sequence[str], runtime: str = "litert", num_threads: int = 1):
        self._names = names
        self._interpreter = build_interpreter(content, runtime, num_threads)
        self._runners: dict[str, SignatureRunner] = {}
        self.shapes = shapes_among(self._interpreter.get_signature_list())  # to train in, beside `train`

    def _run(self, signature: str, **inputs: Union[np.ndarray, np.float32]) -> Mapping[str, np.ndarray]:
        if signature not in self._runners:
            self._runners[signature] = self._interpreter.get_signature_runner(signature)
        return self._runners[signature](**inputs)

    def get_weights(self) -> Weights:
        """Returns a copy of the weights."""
        weights = self._run("get_weights")
        return tuple(weights[name] for name in self._names)

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Replaces the weights."""
        self._run("set_weights", **dict(zip(self._names, weights)))

    def train_step(self, tokens: np.ndarray, targets: np.ndarray, mask: np.ndarray, rate: float) -> tuple[float, float]:
        """Takes one step of SGD on a batch [batch, time], in the smallest shape of the file that holds it.

        Returns (the loss before the step in nats per token, the number of real positions).
        """
        whole = Batch(tokens, targets, mask)
        smaller = packed(whole, self.shapes)
        signature, batch = (smaller[0].signature, smaller[1]) if smaller else ("train", whole)
        got = self._run(signature, **batch._asdict(), learning_rate=np.float32(rate))
        return float(got["loss"]), float(got["num_tokens"])

    def evaluate(self, tokens: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> dict[str, float]:
        """Returns the sums of models.inference.RecallSums over a batch [batch, time]."""
        return {name: float(v) for name, v in self._run("eval", tokens=tokens, targets=targets, mask=mask).items()}


class StatelessModel:
    """train_stateless.tflite behind the interface of TrainableModel: here the app keeps the weights."""

    def __init__(self, content: bytes, names: Sequence[str], runtime: str = "litert", num_threads: int = 1):
        self._names = names
        self._train = build_interpreter(content, runtime, num_threads).get_signature_runner("train")
        self._weights: dict[str, np.ndarray] = {}

    def get_weights(self) -> Weights:
        """Returns the weights."""
        return tuple(self._weights[name] for name in self._names)

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Replaces the weights."""
        self._weights = dict(zip(self._names, weights))

    def train_step(self, tokens: np.ndarray, targets: np.ndarray, mask: np.ndarray, rate: float) -> tuple[float, float]:
        """See TrainableModel.train_step."""
        got = self._train(**self._weights, tokens=tokens, targets=targets, mask=mask, learning_rate=np.float32(rate))
        self._weights = {name: got[f"new_{name}"] for name in self._names}
        return float(got["loss"]), float(got["num_tokens"])


AnyModel = Union[TrainableModel, StatelessModel]


def train_client(model: AnyModel, weights: Weights, learning_rate: float, batches: Batches) -> ClientResult:
    """Trains one client by the exported model, with local SGD."""
    model.set_weights(weights)
    loss_sum = num_tokens = 0.0
    for tokens, targets, mask in zip(*batches):
        loss, count = model.train_step(tokens, targets, mask, learning_rate)
        loss_sum += loss * count
        num_tokens += count
    delta = tuple(before - after for before, after in zip(weights, model.get_weights()))
    return ClientResult(
        delta=delta,
        loss_sum=loss_sum,
        num_tokens=int(num_tokens),
        num_examples=batches.num_examples,
        is_finite=are_finite(delta),
    )


class LiteRtClients:
    """Trains a cohort's clients in LiteRT, in place of the TFF client work: the simulator trains what the phone would.

    Each worker is a thread with an interpreter of its own; LiteRT lets go of Python's lock while it computes.
    """

    def __init__(self, content: bytes, names: Sequence[str], num_workers: int):
        """Loads `content`, that of train.tflite, for `num_workers` clients that train at once, at least 1."""
        if num_workers < 1:
            raise ValueError(f"num_workers must be at least 1, got num_workers={num_workers}")
        self._idle: queue.Queue[TrainableModel] = queue.Queue()
        for _ in range(num_workers):
            self._idle.put(TrainableModel(content, names))
        self._num_workers = num_workers
        self._threads = futures.ThreadPoolExecutor(num_workers)

    def __enter__(self) -> LiteRtClients:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the threads go."""
        self._threads.shutdown(cancel_futures=True)

    def train(
        self, weights: Weights, learning_rate: float, seed: int, batches: Iterable[Batches]
    ) -> Iterator[ClientResult]:
        """Yields train_client of each client's batches, in their order; it runs at most two clients ahead per worker.

        `seed` has no effect: the exported step has no dropout. It is there so that this is a
        orchestrator.rounds.types.RoundFunctions.train_clients.
        """
        weights = tuple(np.ascontiguousarray(w, np.float32) for w in weights)
        pending: collections.deque[futures.Future[ClientResult]] = collections.deque()
        for own in batches:
            pending.append(self._threads.submit(self._train_one, weights, learning_rate, own))
            if len(pending) >= 2 * self._num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _train_one(self, weights: Weights, learning_rate: float, batches: Batches) -> ClientResult:
        model = self._idle.get()
        try:
            return train_client(model, weights, learning_rate, batches)
        finally:
            self._idle.put(model)


def build_clients(size: ModelSize, time: int, clip_norm: float, num_workers: int, batch_size: int) -> LiteRtClients:
    """Clients for a run's rounds, made from its configuration alone: the weights come with each round.

    They train whole rows, as they always did: in other shapes the last digits are others, which a replay compares.
    """
    from edge.export.tflite import TRAIN_FILE, build_files

    zeros = tuple(np.zeros(shape, np.float32) for shape in size.shapes)
    content = build_files(size, zeros, time, clip_norm, batch_size, shapes=())[TRAIN_FILE]
    return LiteRtClients(content, size.names, num_workers)
