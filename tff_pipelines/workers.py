"""One TFF worker: a process that is ours and ends with us, its execution context, and whose death we notice.

TFF's own default context starts a worker lazily, leaves it behind when Python is killed (the worker then holds
standard output open, so that a pipe never ends), and retries for ever when a worker is gone. Here a worker is a process
of TFF's `worker_binary`, local or remote, with its own context in its own thread.

Mind: TFF's worker listens on all interfaces, without TLS, and runs any graph it is sent. Keep its port behind a
firewall; reach a remote one through a tunnel (docs/workers.md).
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import ctypes
import time
from collections.abc import MutableMapping
from typing import Callable, Optional, TypeVar

import grpc
import numpy as np
import tree
from google.protobuf.message import Message  # type: ignore[import-untyped]
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation

from tff_pipelines.errors import WorkerDied, WorkerError
from tff_pipelines.framework import tff
from tff_pipelines.worker_process import KEEP_BYTES, Place, WorkerProcess

Result = TypeVar("Result")


_START_TIMEOUT_S = 60.0
_CONNECT_TIMEOUT_S = 10.0
_GONE_TIMEOUT_S = 5.0  # how long an unreachable worker may take to answer before it counts as dead
_MAX_MESSAGE_BYTES = 2_000_000_000  # gRPC's and protobuf's limit is 2 GiB
_CHANNEL_OPTIONS = [
    ("grpc.max_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    # A worker listens some tenths of a second after its start; gRPC's default asks again after a whole one only.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    # A frozen worker or a dead tunnel is noticed within these. gRPC's servers refuse pings more often than every 5 min.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


def keep_large_buffers() -> None:
    """Tells this process's allocator to keep freed model-sized buffers, in one arena; does nothing without glibc."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8
    libc.mallopt(m_arena_max, 1)
    libc.mallopt(m_mmap_threshold, KEEP_BYTES)
    libc.mallopt(m_trim_threshold, KEEP_BYTES)


class Worker:
    """One TFF worker process: its channel, its thread and, if it is ours, its process."""

    def __init__(self, place: Place):
        """Waits until the worker of a process here answers, or the one at "host:port".

        Raises:
          WorkerError: it does not in time.
        """
        self._process = place if isinstance(place, WorkerProcess) else None
        self.address = place.address if isinstance(place, WorkerProcess) else place
        self._channel = grpc.insecure_channel(self.address, _CHANNEL_OPTIONS)
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
            if self._process is not None and (code := self._process.exit_code()) is not None:
                raise WorkerError(f"a TFF worker ended at its start with code {code}: run `fedkeys doctor`")
        ready.cancel()
        if self._process is not None:
            raise WorkerError(f"a TFF worker did not answer in {_START_TIMEOUT_S:.0f} s: run `fedkeys doctor`")
        raise WorkerError(f"no TFF worker answers at {self.address}: start one there with `fedkeys worker`")

    @property
    def pid(self) -> Optional[int]:
        """Process id of a local worker, None for a remote one."""
        return self._process.pid if self._process else None

    def submit(self, computation: Callable[..., Result], *args: object) -> futures.Future[Result]:
        """Returns a future of computation(*args) on this worker."""
        return self._thread.submit(computation, *args)

    def is_gone(self) -> bool:
        """True if the worker can't be reached any more; asked after a call has failed."""
        # The connection breaks a moment before the process can be reaped.
        if self._process is not None and self._process.exit_code(timeout_s=0.5) is not None:
            return True
        try:
            grpc.channel_ready_future(self._channel).result(timeout=_GONE_TIMEOUT_S)
        except (grpc.FutureTimeoutError, ValueError):
            return True
        return False

    def close(self) -> None:
        """Ends a local worker; lets go of a remote one."""
        if self._process is not None:
            self._process.close()
        # Closing cancels the calls that a remote worker still has; a local one's have ended with it. gRPC's thread that
        # watches the connection complains of a channel closed under it, so a local one's is left to be collected.
        if self._process is None:
            self._channel.close()
        if hasattr(self, "_thread"):
            self._thread.shutdown(wait=False, cancel_futures=True)


class _StrictStub(tff.framework.RemoteExecutorStub):
    """A stub that raises WorkerDied where TFF would retry for ever."""

    def __init__(self, stub: tff.framework.RemoteExecutorStub, worker: Worker):
        self._stub, self._worker = stub, worker

    @property
    def is_ready(self) -> bool:
        return self._stub.is_ready

    def _call(self, method: str, request: Message) -> Message:
        try:
            return getattr(self._stub, method)(request)
        except Exception as error:
            if not isinstance(error, WorkerDied) and self._worker.is_gone():
                raise WorkerDied(f"the TFF worker at {self._worker.address} is gone") from error
            raise

    def get_executor(self, request: Message) -> Message:
        return self._call("get_executor", request)

    def create_value(self, request: Message) -> Message:
        return self._call("create_value", request)

    def create_struct(self, request: Message) -> Message:
        return self._call("create_struct", request)

    def create_call(self, request: Message) -> Message:
        return self._call("create_call", request)

    def create_selection(self, request: Message) -> Message:
        return self._call("create_selection", request)

    def compute(self, request: Message) -> Message:
        return self._call("compute", request)

    def dispose(self, request: Message) -> None:
        with contextlib.suppress(WorkerDied):  # what it held is gone with it
            self._call("dispose", request)

    def dispose_executor(self, request: Message) -> None:
        with contextlib.suppress(WorkerDied):
            self._call("dispose_executor", request)


class _RememberingExecutor(tff.framework.RemoteExecutor):
    """An executor that sends a computation once, and the server's arrays once as long as they stay the same.

    TFF sends both anew with each call, through some six copies in Python: at Gboard's size that costs more than a
    client's batch. Only read-only arrays are remembered (what TFF returns is read-only), since others may change.
    """

    def __init__(self, stub: tff.framework.RemoteExecutorStub):
        super().__init__(stub)
        self._computations: dict[int, tuple[tff.Computation, object]] = {}  # by id, which the computation keeps
        self._broadcasts: dict[str, tuple[list[object], object]] = {}  # type -> the latest leaves, sent

    async def create_value(self, value: object, type_spec: Optional[tff.Type] = None) -> object:
        if isinstance(value, tff.framework.ConcreteComputation):
            if id(value) not in self._computations:
                self._computations[id(value)] = (value, await super().create_value(value, type_spec))
            return self._computations[id(value)][1]
        if isinstance(type_spec, tff.FederatedType) and type_spec.placement is tff.SERVER:
            leaves = tree.flatten(value)
            if all(map(_is_fixed, leaves)):
                name = type_spec.compact_representation()
                known, remote = self._broadcasts.get(name, ([], None))
                if len(known) != len(leaves) or any(a is not b for a, b in zip(known, leaves)):
                    remote = await super().create_value(value, type_spec)
                    self._broadcasts[name] = (leaves, remote)
                return remote
        return await super().create_value(value, type_spec)


def _is_fixed(leaf: object) -> bool:
    """True if nothing can change the array any more, nor the array that it is a view of."""
    if not isinstance(leaf, np.ndarray) or leaf.flags.writeable:
        return False
    return not isinstance(leaf.base, np.ndarray) or _is_fixed(leaf.base)


def _build_context(stub: tff.framework.RemoteExecutorStub) -> tff.framework.SyncExecutionContext:
    def build_executor(cardinalities: MutableMapping[object, int]) -> tff.framework.RemoteExecutor:
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
