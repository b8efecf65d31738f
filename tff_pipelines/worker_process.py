"""The processes of TFF workers: their command and environment, their start, and one in the foreground.

It finds TFF's `worker_binary` without importing TFF, whose import takes longer than the worker's start.

Mind: the worker listens on all interfaces, without TLS, and runs any graph it is sent (docs/workers.md).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Optional, Union

import portpicker

from tff_pipelines.errors import WorkerError

# Model-sized buffers are allocated and freed for each client. glibc's default returns such buffers to the system each
# time, and faulting the pages in again costs more than the copy itself.
KEEP_BYTES = 2**30


def worker_binary() -> str:
    """Returns the path of TFF's worker program.

    Raises:
      WorkerError: TFF is not installed, or its package lacks the program.
    """
    spec = importlib.util.find_spec("tensorflow_federated")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = os.path.join(folder, "data", "worker_binary")
        if os.access(path, os.X_OK):
            return path
    raise WorkerError("TFF's worker_binary is missing: install tensorflow-federated with `make setup`")


def worker_command(port: int, threads: int = 1) -> list[str]:
    """Returns the command that runs one TFF worker on `port` and ends it when the process that starts it ends.

    Raises:
      WorkerError: `setpriv` is missing, without which a worker outlives a killed parent; or TFF is.
    """
    # As many calls at a time as threads: with one, the clients of a call run one after the other.
    calls = f"--max_concurrent_computation_calls={threads}"
    return ended_with_parent([worker_binary(), f"--port={port}", calls])


def ended_with_parent(command: Sequence[str]) -> list[str]:
    """Returns a command that Linux ends with the thread that starts it, and so with its process, however that ends.

    Raises:
      WorkerError: `setpriv` is missing.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise WorkerError("setpriv is missing, and without it processes outlive a killed run: install util-linux")
    return [setpriv, "--pdeathsig", "KILL", *command]


def worker_environment(threads: int = 1) -> dict[str, str]:
    """Returns this process's environment variables, and those of a worker with this many threads.

    Give a machine as many workers of one thread as it has cores: clients are independent, threads within one are not.
    """
    return {
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "MALLOC_ARENA_MAX": str(threads),
        "MALLOC_MMAP_THRESHOLD_": str(KEEP_BYTES),
        "MALLOC_TRIM_THRESHOLD_": str(KEEP_BYTES),
    }


class WorkerProcess:
    """A TFF worker's process here; it begins to listen some time after its start, and ends with this process."""

    def __init__(self, port: int) -> None:
        """Starts it. Call it from the main thread: Linux ends the worker when the thread that started it ends.

        Raises:
          WorkerError: it can't be started.
        """
        if threading.current_thread() is not threading.main_thread():
            raise WorkerError("start workers from the main thread: a worker ends with the thread that started it")
        self.address = f"localhost:{port}"
        self._process = subprocess.Popen(
            worker_command(port),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=worker_environment(),
            start_new_session=True,
        )
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def exit_code(self, timeout_s: float = 0.0) -> Optional[int]:
        """Returns the code with which it has ended by then, None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        atexit.unregister(self.close)


Place = Union[WorkerProcess, str]  # of a worker: here, or at "host:port"


def start_workers(workers: str) -> list[Place]:
    """Starts the local ones of a run's workers, all at once and without waiting until they listen.

    Args:
      workers: as tff_pipelines.runtime.Runtime takes them.

    Raises:
      WorkerError: a worker can't be started.
      ValueError: `workers` names none.
    """
    places: list[Place] = []
    try:
        addresses = worker_addresses(workers)
        ports = _free_ports(addresses.count(None))
        for address in addresses:
            places.append(WorkerProcess(ports.pop()) if address is None else address)
    except BaseException:
        end_workers(places)
        raise
    return places


def _free_ports(count: int) -> set[int]:
    """Returns different ports: while none of them listens, portpicker might give one twice."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(portpicker.pick_unused_port())
    return ports


def end_workers(places: Sequence[Place]) -> None:
    """Ends the local ones."""
    for place in places:
        if isinstance(place, WorkerProcess):
            place.close()


@contextlib.contextmanager
def starting(workers: str) -> Iterator[Sequence[Place]]:
    """Opens a context in which a run's workers start, beside an import of TFF say; the local ones end with it.

    Raises: as start_workers.
    """
    places = start_workers(workers)
    try:
        yield places
    finally:
        end_workers(places)


def worker_addresses(workers: str) -> Sequence[Optional[str]]:
    """Returns one entry for each worker: None for a local one, or "host:port".

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


def run_worker(port: int, threads: int = 1) -> int:
    """Runs one TFF worker here in the foreground, and returns its exit code.

    It is 128 + the signal's number if a signal ended the worker.

    SIGTERM, SIGINT and SIGHUP end the worker too, and so does the death of this process. Call it from the main
    thread.

    Raises:
      WorkerError: the port is in use or not allowed, or the worker can't be started.
    """
    command = worker_command(port, threads)
    _require_free(port)
    process: Optional[subprocess.Popen] = None
    received: list[int] = []

    def stop(number: int, frame: Optional[FrameType]) -> None:
        received.append(number)
        if process is not None:
            process.kill()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        # A session of its own: Ctrl-C reaches the worker through us, and only so.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=worker_environment(threads),
            start_new_session=True,
        )
        if received:  # a signal came before there was a process to end
            process.kill()
        print(
            f"TFF worker on port {port} of ALL interfaces, no TLS, no password: whoever reaches the port can run "
            "code here. Close it to others (docs/workers.md). Ctrl-C ends it.",
            file=sys.stderr,
            flush=True,
        )
        code = process.wait()
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


def _require_free(port: int) -> None:
    """Refuses a port that is taken. Two gRPC servers would share it (SO_REUSEPORT), each with half of the calls.

    Raises:
      WorkerError: it is in use, or needs rights that this process lacks.
    """
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                # Connections of a worker that has just ended don't count, on Linux; a listening one does.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise WorkerError(f"port {port} is in use: pick another one with --port") from None
            if error.errno == errno.EACCES:
                raise WorkerError(f"port {port} needs root: pick one above 1023 with --port") from None
            if family == socket.AF_INET:  # a machine without IPv6 is fine
                raise WorkerError(f"port {port} can't be used ({error.strerror}): pick another one") from None
