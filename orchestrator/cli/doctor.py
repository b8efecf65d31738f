"""Is this machine ready? One check at a time, each with what to do if it fails. `fedkeys doctor` prints them.

Nothing here imports TensorFlow, and a check imports what it needs when it runs: the doctor must work where nothing
else does.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from models.files import cache_folder

_MIN_MEMORY_GIB = 4.0
_MIN_DISK_GIB = 2.0
_PROBE_TIMEOUT_S = 120.0  # a slow machine may take a minute to import TFF
_INSTALLERS = {"pip", "wheel"}  # pinned for the set-up; newer ones do no harm afterwards
_HOME = Path(__file__).resolve().parents[2]  # where the four packages are


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. detail: what was found and, if it is not ok, what to do."""

    name: str
    ok: bool
    detail: str


def run_checks() -> Iterator[Check]:
    """Every check in turn, each run when it is asked for."""
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "Python": check_python,
        "packages": check_packages,
        "setpriv": check_setpriv,
        "port": check_port,
        "memory": check_memory,
        "disk": check_disk,
        "text": check_text,
        "TFF worker": check_worker,
    }
    for name, check in checks.items():
        try:
            ok, detail = check()
        except Exception as error:  # a doctor that falls ill says so and goes on to the next check
            ok, detail = False, f"{type(error).__name__}: {error}".replace("\n", " ")
        yield Check(name, ok, detail)


def check_python() -> tuple[bool, str]:
    """TFF 0.87 has builds for Python 3.9-3.11 on Linux x86-64 only."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if not (3, 9) <= sys.version_info[:2] <= (3, 11):
        return False, f"{found}; TFF needs 3.9-3.11: make setup PYTHON=/path/to/python3.11"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return False, f"{found}; TFF needs Linux on x86-64: use such a machine, virtual machine or container"
    return True, found


def check_packages() -> tuple[bool, str]:
    """Every package has the version that the lock file of this Python pins."""
    lock = _HOME / "requirements" / f"py3.{sys.version_info.minor}.lock"
    if not lock.exists():
        versions = f"tensorflow-federated {importlib.metadata.version('tensorflow-federated')}"
        return True, f"{versions}; no lock file beside an installed fedkeys, so nothing to compare with"
    pinned = read_lock(lock.read_text(encoding="utf-8"))
    wrong = []
    for package, version in pinned.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{package} is missing")
            continue
        if found != version and package not in _INSTALLERS:
            wrong.append(f"{package} is {found}, locked is {version}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return False, f"{'; '.join(wrong[:3])}{more}: rm -rf .venv, then make setup"
    return True, f"{len(pinned)} as {lock.name} pins them"


def read_lock(text: str) -> dict[str, str]:
    r"""The pinned version of each package in a lock file.

    >>> read_lock("# a comment\nclick==8.1.8 \\\n    --hash=sha256:00\nnumpy==1.25.2\n")
    {'click': '8.1.8', 'numpy': '1.25.2'}
    """
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE))


def check_setpriv() -> tuple[bool, str]:
    """Without setpriv, TFF's workers outlive a killed run."""
    path = shutil.which("setpriv")
    return path is not None, path or "missing: install util-linux, whose setpriv ends workers with a killed run"


def check_port() -> tuple[bool, str]:
    """A free port can be had and is reached by the name localhost, as workers are."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            port = listener.getsockname()[1]
            with socket.create_connection(("localhost", port), timeout=2.0):
                return True, f"localhost:{port} can be listened on and reached"
    except OSError as error:
        return False, f"no local connection ({error}): give localhost its line 127.0.0.1 in /etc/hosts, and bring lo up"


def check_memory() -> tuple[bool, str]:
    """Enough memory for Python, TensorFlow and a worker a core."""
    import psutil

    available = psutil.virtual_memory().available
    limit = _container_limit_bytes()
    gib = min(available, limit) / 2**30
    where = " of this container" if limit < available else ""
    if gib < _MIN_MEMORY_GIB:
        return False, f"{gib:.1f} GiB available{where}, {_MIN_MEMORY_GIB:.0f} needed: end other programs or add memory"
    return True, f"{gib:.1f} GiB available{where}"


def _container_limit_bytes() -> float:
    """What a container's limit leaves (cgroup version 2), infinite without one: psutil sees the whole machine."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else max(0.0, float(limit) - float(used))


def check_disk() -> tuple[bool, str]:
    """Room for runs in the current folder and for the cleaned text in the cache folder."""
    found = []
    for folder in (Path.cwd(), cache_folder()):
        gib = shutil.disk_usage(_nearest_existing(folder)).free / 2**30
        if gib < _MIN_DISK_GIB:
            return False, f"{gib:.1f} GiB free for {folder}, {_MIN_DISK_GIB:.0f} needed: free some, or use another disk"
        found.append(f"{gib:.0f} GiB free for {folder}")
    return True, ", ".join(found)


def check_text() -> tuple[bool, str]:
    """The built-in text is installed, and its cleaned copy can be kept."""
    from models.chitchat import read_chitchat_bytes
    from models.errors import CorpusError

    try:
        mib = len(read_chitchat_bytes()) / 2**20
    except CorpusError as error:
        return False, str(error)
    folder = cache_folder()
    try:
        with tempfile.TemporaryFile(dir=_nearest_existing(folder)):
            pass
    except OSError as error:
        return False, f"{folder} can't be written ({error.strerror}): set FEDKEYS_CACHE_DIR to a folder that can"
    return True, f"chitchat-dataset, {mib:.0f} MiB; its cleaned copy goes to {folder}"


def _nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there: where it would be made."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def check_worker() -> tuple[bool, str]:
    """A TFF worker starts, computes a sum and is gone afterwards."""
    import psutil

    command = [sys.executable, "-m", "tff_pipelines.probe"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        # In the packages' own folder, where no stranger's folder called models/ can stand in for ours.
        done = subprocess.run(
            command, cwd=_HOME, env=environment, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer in {_PROBE_TIMEOUT_S:.0f} s: try again on a quiet machine, then see docs/install.md"
    if done.returncode != 0:
        return False, f"{_why(done)}: rm -rf .venv, then make setup; docs/install.md has more"
    answer, pid = json.loads(done.stdout)
    if answer != 6:
        return False, f"it says that 1 + 2 + 3 = {answer}: rm -rf .venv, then make setup"
    if psutil.pid_exists(pid):
        return False, f"it answered, but process {pid} is still there: end it with kill {pid}, and report this"
    return True, "it started, summed three clients' numbers and is gone again"


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """Why the probe ended badly, in one line."""
    if done.returncode == -signal.SIGILL:
        return "this processor lacks the instructions (AVX) that TensorFlow is built for"
    ended = f"ended by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else "failed"
    return ": ".join([ended, *done.stderr.strip().splitlines()[-1:]])
