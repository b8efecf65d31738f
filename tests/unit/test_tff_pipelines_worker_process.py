"""One TFF worker's process: its command, refused ports, and that it ends with what started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import portpicker
import psutil
import pytest

from tff_pipelines.errors import WorkerError
from tff_pipelines.worker_process import run_worker, starting, worker_addresses, worker_command, worker_environment


def test_threads_set_calls_and_variables(monkeypatch):
    monkeypatch.setenv("KEPT", "yes")
    command, environment = worker_command(8123, threads=3), worker_environment(threads=3)
    assert command[1:3] == ["--pdeathsig", "KILL"]
    assert command[-2:] == ["--port=8123", "--max_concurrent_computation_calls=3"]
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        assert environment[name] == "3"
    assert environment["KEPT"] == "yes"


def test_the_binary_is_found_without_importing_tff():
    script = (
        "import sys; from tff_pipelines.worker_process import worker_command; print(worker_command(1)[3]); "
        "sys.exit('tensorflow_federated' in sys.modules or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert os.access(done.stdout.strip(), os.X_OK)


@pytest.mark.parametrize("spec", ["", "0", "-1", "host", "host:", "host:99999", "a:1,,b:2"])
def test_a_wrong_list_of_workers_is_refused(spec):
    with pytest.raises(ValueError, match="workers must be"):
        worker_addresses(spec)


def test_workers_that_nobody_took_end_with_the_context():
    with starting("2") as places:
        processes = [psutil.Process(place.pid) for place in places]
        assert all(process.is_running() for process in processes)
    assert not any(process.is_running() for process in processes)


def test_a_worker_elsewhere_is_not_started():
    with starting("10.0.0.5:8001") as places:
        assert places == ["10.0.0.5:8001"]


def test_missing_setpriv_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkerError, match="install util-linux"):
        worker_command(8000)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_port_in_use_is_refused(host):
    with socket.socket() as taken:
        # As gRPC servers do, which would otherwise share the port without a word.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind((host, 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(WorkerError, match=rf"port {port} is in use: pick another one with --port"):
            run_worker(port)


def start_worker(port):
    """A process that runs a worker in its foreground, once the worker listens; and the worker's process."""
    script = f"import sys; from tff_pipelines.worker_process import run_worker; sys.exit(run_worker({port}))"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("localhost", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
            continue
        (worker,) = psutil.Process(process.pid).children()
        return process, worker
    process.kill()
    raise AssertionError(f"no worker on port {port}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_the_worker_ends_with_the_process_that_runs_it(number, code):
    process, worker = start_worker(portpicker.pick_unused_port())
    process.send_signal(number)
    # communicate() returns only when nobody holds the pipe any more: neither the process nor its worker.
    _, note = process.communicate(timeout=30)
    assert process.returncode == code
    worker.wait(timeout=30)
    assert "ALL interfaces" in note


@pytest.mark.slow
def test_a_worker_that_dies_gives_its_exit_code():
    process, worker = start_worker(portpicker.pick_unused_port())
    worker.kill()
    process.communicate(timeout=30)
    assert process.returncode == 128 + 9
