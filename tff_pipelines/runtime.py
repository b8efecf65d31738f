"""Execution contexts for TFF: worker processes that we own, that end with us, and whose death we notice.

TFF's own default context starts a worker lazily, leaves it behind when Python is killed (the worker then holds
standard output open, so that a pipe never ends), and retries for ever when a worker is gone. Here each worker is one
process of TFF's `worker_binary`, local or remote, with its own context in its own thread.

Mind: TFF's worker listens on all interfaces, without TLS, and runs any graph it is sent. Keep its port behind a
firewall; reach a remote one through a tunnel (docs/workers.md).
"""

from __future__ import annotations

import atexit
import collections
import concurrent.futures as futures
import contextlib
import ctypes
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Callable, Optional

import grpc
import numpy as np
import portpicker
import tree
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation

from tff_pipelines.errors import WorkerDied, WorkerError
from tff_pipelines.framework import tff
from tff_pipelines.worker_process import KEEP_BYTES, worker_command, worker_environment

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10.0
_GONE_TIMEOUT_S = 5.0  # how long an unreachable worker may take to answer before it counts as dead
_MAX_MESSAGE_BYTES = 2_000_000_000  # gRPC's and protobuf's limit is 2 GiB
_CHANNEL_OPTIONS = [
    ("grpc.max_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    # A frozen worker or a dead tunnel is noticed within these. gRPC's servers refuse pings more often than every 5 min.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


def keep_large_buffers() -> None:
    """Tells this process's allocator to keep freed model-sized buffers; a no-op where there is no glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc.mallopt(m_mmap_threshold, KEEP_BYTES)
    libc.mallopt(m_trim_threshold, KEEP_BYTES)


class Worker:
    """One TFF worker process: its channel, its thread and, if it is ours, its process."""

    def __init__(self, address: Optional[str] = None):
        """Starts a worker here (address None), or connects to the one at "host:port".

        Call it from the main thread: Linux ends the worker when the thread that started it ends.

        Raises:
          WorkerError: it does not start or answer in time.
        """
        self._process: Optional[subprocess.Popen] = None
        if address is None:
            if threading.current_thread() is not threading.main_thread():
                raise WorkerError("start workers from the main thread: a worker ends with the thread that started it")
            port = portpicker.pick_unused_port()
            self._process = subprocess.Popen(
                worker_command(port),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=worker_environment(),
                start_new_session=True,
            )
            atexit.register(self.close)
            address = f"localhost:{port}"
        self.address = address
        self._channel = grpc.insecure_channel(address, _CHANNEL_OPTIONS)
        try:
            self._wait_until_ready()
        except WorkerError:
            self.close()
            raise
        context = _build_context(_StrictStub(tff.framework.RemoteExecutorGrpcStub(self._channel), self))
        # TFF's context stack is thread-local: the worker's thread is the one place where its context is installed.
        self._thread = futures.ThreadPoolExecutor(1, initializer=tff.framework.set_default_context, initargs=(context,))

    def _wait_until_ready(self) -> None:
        ready = grpc.channel_ready_future(self._channel)
        deadline = time.monotonic() + (_START_TIMEOUT_S if self._process else _CONNECT_TIMEOUT_S)
        while time.monotonic() < deadline:
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.2)
                return
            if self._process is not None and self._process.poll() is not None:
                code = self._process.returncode
                raise WorkerError(f"a TFF worker ended at its start with code {code}: run `fedkeys doctor`")
        ready.cancel()
        if self._process is not None:
            raise WorkerError(f"a TFF worker did not answer in {_START_TIMEOUT_S:.0f} s: run `fedkeys doctor`")
        raise WorkerError(f"no TFF worker answers at {self.address}: start one there with `fedkeys worker`")

    @property
    def pid(self) -> Optional[int]:
        """Process id of a local worker, None for a remote one."""
        return self._process.pid if self._process else None

    def submit(self, computation: Callable, *args) -> futures.Future:
        """A future of computation(*args) on this worker."""
        return self._thread.submit(computation, *args)

    def is_gone(self) -> bool:
        """True if the worker can't be reached any more; asked after a call has failed."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)  # the connection breaks a moment before the process can be reaped
            if self._process.poll() is not None:
                return True
        try:
            grpc.channel_ready_future(self._channel).result(timeout=_GONE_TIMEOUT_S)
        except (grpc.FutureTimeoutError, ValueError):
            return True
        return False

    def close(self) -> None:
        """Ends a local worker; lets go of a remote one."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if hasattr(self, "_channel"):
            self._channel.close()
        if hasattr(self, "_thread"):
            self._thread.shutdown(wait=False, cancel_futures=True)
        atexit.unregister(self.close)


class _StrictStub(tff.framework.RemoteExecutorStub):
    """A stub that raises WorkerDied where TFF would retry for ever."""

    def __init__(self, stub, worker: Worker):
        self._stub, self._worker = stub, worker

    @property
    def is_ready(self):
        return self._stub.is_ready

    def _call(self, method: str, request):
        try:
            return getattr(self._stub, method)(request)
        except Exception as error:
            if not isinstance(error, WorkerDied) and self._worker.is_gone():
                raise WorkerDied(f"the TFF worker at {self._worker.address} is gone") from error
            raise

    def get_executor(self, request):
        return self._call("get_executor", request)

    def create_value(self, request):
        return self._call("create_value", request)

    def create_struct(self, request):
        return self._call("create_struct", request)

    def create_call(self, request):
        return self._call("create_call", request)

    def create_selection(self, request):
        return self._call("create_selection", request)

    def compute(self, request):
        return self._call("compute", request)

    def dispose(self, request):
        with contextlib.suppress(WorkerDied):  # what it held is gone with it
            self._call("dispose", request)

    def dispose_executor(self, request):
        with contextlib.suppress(WorkerDied):
            self._call("dispose_executor", request)


class _RememberingExecutor(tff.framework.RemoteExecutor):
    """An executor that sends a computation once, and the server's arrays once as long as they stay the same.

    TFF sends both anew with each call, through some six copies in Python: at Gboard's size that costs more than a
    client's batch. Only read-only arrays are remembered (what TFF returns is read-only), since others may change.
    """

    def __init__(self, stub):
        super().__init__(stub)
        self._computations: dict[int, tuple] = {}  # id -> (computation, its remote value)
        self._broadcasts: dict[str, tuple] = {}  # type -> (leaves, their remote value): the latest only

    async def create_value(self, value, type_spec=None):
        if isinstance(value, tff.framework.ConcreteComputation):
            if id(value) not in self._computations:
                self._computations[id(value)] = (value, await super().create_value(value, type_spec))
            return self._computations[id(value)][1]
        if isinstance(type_spec, tff.FederatedType) and type_spec.placement is tff.SERVER:
            leaves = tree.flatten(value)
            if all(map(_is_fixed, leaves)):
                name = type_spec.compact_representation()
                known, remote = self._broadcasts.get(name, ((), None))
                if len(known) != len(leaves) or any(a is not b for a, b in zip(known, leaves)):
                    remote = await super().create_value(value, type_spec)
                    self._broadcasts[name] = (leaves, remote)
                return remote
        return await super().create_value(value, type_spec)


def _is_fixed(leaf) -> bool:
    """True if nothing can change the array any more, nor the array that it is a view of."""
    if not isinstance(leaf, np.ndarray) or leaf.flags.writeable:
        return False
    return not isinstance(leaf.base, np.ndarray) or _is_fixed(leaf.base)


def _build_context(stub) -> tff.framework.SyncExecutionContext:
    def build_executor(cardinalities):
        cardinalities.setdefault(tff.CLIENTS, 0)
        executor = _RememberingExecutor(stub)
        executor.set_cardinalities(cardinalities)
        return executor

    return tff.framework.SyncExecutionContext(
        tff.framework.ResourceManagingExecutorFactory(build_executor),
        tff.backends.native.desugar_and_transform_to_native,
        transform_args=tensorflow_computation.transform_args,
        transform_result=tensorflow_computation.transform_result,
    )


class Runtime:
    """The workers of a run. Use as a context manager; the workers end with it, or with the process, however it ends."""

    def __init__(self, workers: str = "auto"):
        """Starts or connects the workers.

        Args:
          workers: "auto" (one single-threaded worker a core), a number of local workers, or "host:port,host:port".

        Raises:
          WorkerError: a worker does not start or answer.
          ValueError: `workers` is none of these.
        """
        keep_large_buffers()
        self.workers: list[Worker] = []
        try:
            for address in worker_addresses(workers):
                self.workers.append(Worker(address))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the local workers."""
        for worker in self.workers:
            worker.close()

    def invoke(self, computation: Callable, *args):
        """computation(*args), run on the first worker that lives.

        Raises:
          WorkerError: no worker is left.
        """
        while True:
            worker = self._first()
            try:
                return worker.submit(computation, *args).result()
            except WorkerDied as error:
                self._bury(worker, error)

    def map_clients(
        self, computation: Callable, server_args: tuple, client_values: Iterable, clients_per_call: int
    ) -> Iterator:
        """The members of computation(*server_args, [client values]), in the order of the client values.

        The cohort goes through in calls of `clients_per_call` clients, at most two calls ahead per worker, so that
        memory does not grow with the cohort. The calls of a worker that dies are run again on the others.

        Args:
          computation: a TFF computation whose last parameter is placed at CLIENTS, as is its result.
          server_args: its other arguments.
          client_values: one value a client; may be lazy.
          clients_per_call: clients that one call holds in memory, >= 1.

        Raises:
          WorkerError: no worker is left.
        """
        calls = _chunks(client_values, clients_per_call)
        pending: collections.deque = collections.deque()  # [values, worker, future], oldest first
        exhausted = False
        while True:
            while not exhausted and len(pending) < 2 * len(self.workers):
                values = next(calls, None)
                if values is None:
                    exhausted = True
                else:
                    worker = self._least_busy(pending)
                    pending.append([values, worker, worker.submit(computation, *server_args, values)])
            if not pending:
                return
            values, worker, future = pending[0]
            try:
                results = future.result()
            except (WorkerDied, futures.CancelledError) as error:
                self._bury(worker, error)
                for call in pending:
                    if call[1] is worker:
                        call[1] = self._least_busy(pending)
                        call[2] = call[1].submit(computation, *server_args, call[0])
                continue
            pending.popleft()
            yield from results

    def _first(self) -> Worker:
        if not self.workers:
            raise WorkerError(
                "no TFF worker is left: they ended while they had work; free memory, then go on with --resume"
            )
        return self.workers[0]

    def _least_busy(self, pending) -> Worker:
        self._first()
        load = collections.Counter(id(call[1]) for call in pending if not call[2].done())
        return min(self.workers, key=lambda worker: load[id(worker)])

    def _bury(self, worker: Worker, error: BaseException) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            worker.close()
            _log.warning("%s; its clients go to the %d workers left", error, len(self.workers))


def borrow(runtime: Optional[Runtime], workers: str) -> contextlib.AbstractContextManager[Runtime]:
    """A context with the runtime that is given, which stays open; given None, with workers of its own, which end.

    Args:
      runtime: of whoever calls, or None.
      workers: as Runtime takes them, if it has to start some.
    """
    return Runtime(workers) if runtime is None else contextlib.nullcontext(runtime)


def worker_addresses(workers: str) -> Sequence[Optional[str]]:
    """One entry a worker: None for a local one, or "host:port".

    >>> worker_addresses("2"), worker_addresses("10.0.0.5:8001")
    ([None, None], ['10.0.0.5:8001'])
    """
    if workers == "auto":
        return [None] * max(1, len(os.sched_getaffinity(0)))
    if workers.isdigit() and int(workers) > 0:
        return [None] * int(workers)
    addresses = [part.strip() for part in workers.split(",")]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f'workers must be "auto", a number, or "host:port,host:port", got workers={workers!r}')
    return addresses


def _chunks(values: Iterable, size: int) -> Iterator[list]:
    if size < 1:
        raise ValueError(f"clients_per_call must be at least 1, got clients_per_call={size}")
    chunk = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
