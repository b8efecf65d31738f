"""The process of one TFF worker: its command and environment, and a worker in the foreground for another machine.

It finds TFF's `worker_binary` without importing TFF, whose import takes longer than the worker's start.

Mind: the worker listens on all interfaces, without TLS, and runs any graph it is sent (docs/workers.md).
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Optional

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
