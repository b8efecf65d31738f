"""Who takes part in the race, in which environment; and a contestant at work, in a fresh process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import psutil

SCRIPTS = Path(__file__).resolve().parent
ENVIRONMENTS = SCRIPTS.parents[1] / "build" / "race"

_SAMPLE_S = 0.1  # between two readings of the memory
_SILENCE_S = 600.0  # after which a contestant counts as stuck
_VERSIONS = """
import json, sys
from importlib import metadata
found = {str(d.metadata["Name"]).lower().replace("_", "-"): d.version for d in metadata.distributions()}
print(json.dumps({name: found.get(name) for name in sys.argv[1:]}))
"""


@dataclass(frozen=True)
class Contestant:
    """One who runs the rounds.

    Attributes:
      name: in the table.
      script: in this folder.
      distributions: what its environment must hold.
      environment: a folder in build/race; empty for this Python.
      arguments: of the script, beside the work's file and the race's address; {folder} is the work's.
      tolerance: by how much its weight changes may differ from another's, as a share of the change's norm.
      is_peer: another framework, whose rounds fedkeys' are compared with.
    """

    name: str
    script: str
    distributions: tuple[str, ...]
    environment: str = ""
    arguments: tuple[str, ...] = ()
    tolerance: float = 1e-5
    is_peer: bool = False

    @property
    def python(self) -> Path:
        """The Python that runs it."""
        return ENVIRONMENTS / self.environment / "bin" / "python" if self.environment else Path(sys.executable)

    def versions(self) -> dict[str, Optional[str]]:
        """Returns the version of each distribution, None for one that its environment lacks."""
        if not self.python.exists():
            return dict.fromkeys(self.distributions)
        command = [str(self.python), "-c", _VERSIONS, *self.distributions]
        return json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True, env=self.variables()).stdout
        )

    def variables(self) -> dict[str, str]:
        """Returns the environment variables of its process: another environment must not see this one's packages."""
        return {k: v for k, v in os.environ.items() if not (self.environment and k == "PYTHONPATH")}


_FEDKEYS = ("tensorflow-federated", "tensorflow")
_ENCODED = 1e-4  # a clip norm of 10 and 28 bits leave steps of 7e-8, and rounding is random


def _fedkeys(name: str, aggregator: str) -> Contestant:
    arguments = ("{folder}/config.toml", aggregator)
    return Contestant(name, "run_fedkeys.py", _FEDKEYS, arguments=arguments, tolerance=_ENCODED)


FEDKEYS_SECAGG = _fedkeys("fedkeys, secagg", "secagg")
LOOPS = Contestant("plain TensorFlow loops", "run_tf_loops.py", ("tensorflow",))
CONTESTANTS = (
    FEDKEYS_SECAGG,
    _fedkeys("fedkeys, plain sum", "plain"),
    LOOPS,
    Contestant("FedJAX", "run_fedjax.py", ("fedjax", "jax"), "fedjax", is_peer=True),
    Contestant("pfl-research", "run_pfl.py", ("pfl", "torch"), "pfl", is_peer=True),
    Contestant("Flower", "run_flower.py", ("flwr", "ray", "torch"), "flower", is_peer=True),
)


class Stopped(Exception):
    """A contestant ended before the race, or said nothing for too long."""


@dataclass
class Laps:
    """What a contestant did."""

    start_up_s: float = 0.0
    rounds_s: list[float] = field(default_factory=list)
    rounds_cpu_s: list[float] = field(default_factory=list)  # of all its processes
    norms: list[float] = field(default_factory=list)
    peak_bytes: int = 0


class AtWork:
    """A contestant's fresh process, which does a round when it is told to."""

    def __init__(self, contestant: Contestant, work: Path):
        self._name, self.laps = contestant.name, Laps()
        self._open = contextlib.ExitStack()
        folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="race-")))
        self._log = self._open.enter_context((folder / "log").open("w+"))
        own = [argument.format(folder=work.parent) for argument in contestant.arguments]
        address = str(folder / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
            began = time.perf_counter()
            self._process = psutil.Popen(
                [str(contestant.python), str(SCRIPTS / contestant.script), str(work), address, *own],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=contestant.variables(),
                cwd=folder,
            )
            self._seen = {self._process.pid: self._process}  # all of its processes so far
            try:
                self._await(listener)
                self._connection = self._open.enter_context(listener.accept()[0])
                self._lines = self._open.enter_context(self._connection.makefile("rw"))
                self.laps.start_up_s = float(self._next()["at_s"]) - began
            except BaseException:
                self.close()
                raise

    def do_round(self, *, counts_memory: bool = False) -> None:
        """Lets it do its next round."""
        cpu_s = self._cpu_s()
        self._go()
        self.laps.rounds_s.append(float(self._next(counts_memory)["round_s"]))
        self.laps.rounds_cpu_s.append(self._cpu_s() - cpu_s)

    def finish(self) -> None:
        """Takes how far its weights went, and lets it end."""
        self._go()
        self.laps.norms = list(self._next()["norms"])

    def close(self) -> None:
        """Ends its processes, and only those."""
        self._note_processes()
        with contextlib.suppress(psutil.TimeoutExpired):
            self._process.wait(timeout=20 if self.laps.norms else 0)
        left = [process for process in self._seen.values() if process.is_running()]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        for process in psutil.wait_procs(left, timeout=10)[1]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()
        self._open.close()

    def _go(self) -> None:
        print("go", file=self._lines, flush=True)

    def _next(self, counts_memory: bool = True) -> dict:
        self._await(self._connection, counts_memory)
        line = self._lines.readline()
        if not line:
            raise Stopped(f"{self._name} ended early: {self._last_words()}")
        return json.loads(line)

    def _await(self, source: socket.socket, counts_memory: bool = True) -> None:
        """Waits until there is something to read; meanwhile reads the memory, if that may disturb."""
        deadline = time.monotonic() + _SILENCE_S
        while True:
            if counts_memory:  # once at least, however short the round is
                self.laps.peak_bytes = max(self.laps.peak_bytes, sum(map(_share_of_memory, self._note_processes())))
            if select.select([source], [], [], _SAMPLE_S)[0]:
                return
            if self._process.poll() is not None:
                raise Stopped(f"{self._name} ended early: {self._last_words()}")
            if time.monotonic() > deadline:
                raise Stopped(f"{self._name} said nothing for {_SILENCE_S:.0f} s: {self._last_words()}")

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._note_processes())

    def _note_processes(self) -> list[psutil.Process]:
        """Returns its living processes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._process, *self._process.children(recursive=True)):
                self._seen[process.pid] = process
        return [process for process in self._seen.values() if process.is_running()]

    def _last_words(self) -> str:
        self._log.seek(0)
        return "".join(self._log.readlines()[-15:]).strip() or "it printed nothing"


def _share_of_memory(process: psutil.Process) -> int:
    """Returns a process's resident bytes, those that it shares divided among the sharers (PSS)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0
