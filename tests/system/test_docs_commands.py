"""Every command of README.md and docs/*.md runs, page by page and in order, in one folder and at a small size."""

# Over 300 lines: what each page's commands need stands beside their run.
from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import portpicker
import pytest
from keras_families import family

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
QUIET = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

# What begins so is not run here, for the reason beside it.
NOT_RUN = {
    "make ": "CI runs the targets themselves",
    "source .venv/bin/activate": "the commands are called as the tests call them",
    "python mine.py": "tests/system/test_extending.py writes mine.py from the page and runs these",
    "sqlite3 stackoverflow.sqlite": "needs Stack Overflow's text of gigabytes",
    "podman ": "builds a container",
    "python3.11 -m venv env": "installs for minutes; `make check-dist` installs the wheel",
    **dict.fromkeys(("env/bin/", "pip download", "PIP_NO_INDEX=1"), "the same"),
    "pip install --no-deps icu4py": "changes the environment of the tests",
    "ssh ": "needs a second machine: the port of the tunnel is the worker's here",
    "nft ": "changes the machine's firewall",
    "unshare ": "needs rights that a container lacks",
    "fedkeys serve --run runs/phones": "waits for phones",
    "fedkeys benchmark": "tests/system/edge_bundle/test_benchmark.py runs it, for half a minute",
    **dict.fromkeys(
        (f"fedkeys {command} --run runs/mine" for command in ("train", "evaluate", "export")),
        "tests/system/orchestrator_run/test_own_network.py runs them, with the same file",
    ),
    "fedkeys train --run DIR": "a pattern for several commands, not one",
    "fedkeys train --run runs/words2": "finds nothing in the text of 24 people at epsilon 8",
}
# A stand-in for what a page names and a test has not, or has smaller.
SMALLER = {
    r"--round 200\b": "--round 2",
    r"--round 20\b": "--round 2",
    r"--devices 1000000\b": "--devices 3000",
    r"--preset low-end\b": "--preset low-end --devices 3000",
    r"--no-train\b": "--no-train --devices 3000 --hours 2",
    r"keyboard\.example": "localhost",
}
TINY = {
    "data.vocabulary_size": 120, "model.vocabulary_size": 60, "model.embedding_size": 8, "model.num_cells": 12,
    "rounds.checkpoint_every": 1, "rounds.keep_checkpoints": 3, "evaluation.every": 3,
}  # fmt: skip
ADDED = {
    "train": "--data people.jsonl --rounds 3 --cohort 6 --set data.test_share=0.3 "  # 12 people: figures need ten
    + " ".join(f"--set {key}={value}" for key, value in TINY.items()),
    "pretrain": "--data people.jsonl --epochs 1 --config tiny.toml --set data.vocabulary=public",
    "select-public": "--data people.jsonl --config tiny.toml --set data.vocabulary=public --aggregator plain",
    "serve": "--config tiny.toml --cohort 3 --rounds 2",
    "vocabulary": "--data people.jsonl --k 5 --max-nodes 60",
    "attack": "--sentences 5",
    "client": "--answer-step 0",
}
# Whoever else gives a command on a device or machine of theirs, by what is named on the page.
OTHERS = {"client .*--client-id ann": ("ann", "bob", "eve"), "device-update .*--out a.bin": ("a.bin", "b.bin", "c.bin")}
# Commands that go on until they are ended, and the port at which each listens by default.
PORTS = {"serve": "8443", "decryptor": "8444", "helper": "8445", "worker": "8000"}


def pages() -> list[Path]:
    """README.md, then the pages in the order of its table, then those that it does not name."""
    readme = ROOT / "README.md"
    named = [ROOT / path for path in re.findall(r"\((docs/\w+\.md)", readme.read_text(encoding="utf-8"))]
    return list(dict.fromkeys([readme, *named, *sorted((ROOT / "docs").glob("*.md"))]))


def command_lines(page: Path) -> Iterator[str]:
    """The command lines of a page's shell blocks, without comments; a backslash or an open quote continues a line."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in ("", "bash", "sh"):
            continue
        line = ""
        for part in block.splitlines():
            line = f"{line[:-1]} {part.strip()}" if line.endswith("\\") else f"{line}\n{part}" if line else part.strip()
            if line.endswith("\\"):
                continue
            try:
                shlex.split(line, comments=True)
            except ValueError:  # a quote that ends on a later line
                continue
            if line:
                yield re.sub(r" {2,}#.*$", "", line)
            line = ""


def reason_not_to_run(line: str) -> str:
    return next((reason for start, reason in NOT_RUN.items() if line.startswith(start)), "")


def everybodys(line: str) -> list[str]:
    """The line of each who gives it: of the one who is named, and of the others."""
    names = next((names for start, names in OTHERS.items() if re.match(rf"fedkeys {start}\b", line)), None)
    return [line] if names is None else [re.sub(rf"\b{names[0]}\b", name, line) for name in names]


# Each page stands on README's run, which the fixture `reader` trains.
WITH_COMMANDS = [page for page in pages()[1:] if any(not reason_not_to_run(line) for line in command_lines(page))]


def call(words: list[str]) -> None:
    """Runs a command in this process, which loads TensorFlow once for all of them."""
    from orchestrator.cli.commands import cli

    try:
        with cli.make_context("fedkeys", list(words)) as context:
            cli.invoke(context)
    except Exception as error:  # click's Exit, too: `fedkeys fleet --self-check` ends so where a figure is off
        if isinstance(error, click.exceptions.Exit) and error.exit_code == 0:
            return
        raise AssertionError(f"fedkeys {shlex.join(words)}") from error


class Reader:
    """Somebody who types the commands of the pages into a shell, in one folder."""

    def __init__(self, place: Path):
        self.place = place
        self.ports: dict[str, int] = {}
        self.typed: set[str] = set()
        self.servers: list[subprocess.Popen[bytes]] = []
        self.threads = ThreadPoolExecutor()
        self.rounds: list[Future[None]] = []
        program = place / "bin" / "fedkeys"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator.cli "$@"\n')
        program.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    @contextlib.contextmanager
    def own_worker(self) -> Iterator[None]:
        """One worker of TFF for all commands: a training that starts its own spends most of its time on that."""
        command = [self.place / "bin" / "fedkeys", "worker", "--port", str(self._port("worker"))]
        process = subprocess.Popen(command, env=self.environment, **QUIET)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)

    def reads(self, page: Path) -> None:
        """Types the commands of a page, and ends the servers that it started."""
        try:
            for line in command_lines(page):
                if not reason_not_to_run(line):
                    self.types(line)
            assert not self.rounds, "a server whose clients the page does not start"
        finally:
            self.ends()

    def types(self, line: str) -> None:
        """Runs a line that has not run before. A server goes on in the background, rounds until their clients end."""
        if line in self.typed:
            return
        self.typed.add(line)
        line = self._here(line)
        words = shlex.split(line, comments=True)
        command = words[1] if words[0] == "fedkeys" else words[0]
        if command == "serve":
            self.rounds.append(self.threads.submit(call, words[1:]))
        elif command in PORTS:
            self.servers.append(subprocess.Popen(["bash", "-c", f"exec {line}"], env=self.environment, **QUIET))
        elif command == "client":
            self._clients(everybodys(line))
        elif command == "for" and "do fedkeys client" in line:
            self._clients(self._shell(line.replace("do fedkeys", "do echo fedkeys")).splitlines())
        elif words[0] != "fedkeys" or set("|&;$<>") & set(line):
            self._shell(line)
        else:
            for own in everybodys(line):
                call(shlex.split(own, comments=True)[1:])

    def ends(self) -> None:
        """Ends what still runs."""
        while self.servers:
            process = self.servers.pop()
            process.terminate()
            process.wait(timeout=60)

    def left_files(self) -> dict[str, str]:
        """Who may read a file of a run or of keys, where docs/privacy_officer.md says otherwise or does not name it."""
        page = (ROOT / "docs" / "privacy_officer.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| (`.*?) \| .* \| (all|owner) \|$", page, re.MULTILINE)
        readers = {name: who for names, who in rows for name in re.findall(r"`(.+?)`", names)}
        assert len(readers) > 40
        folders = [self.place / name for name in ("keys", "team", "ann", "dora", "hal")]
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        paths += self.place.glob("runs/*/*")
        left = {}
        for path in paths:
            name = f"{path.name}/" if path.is_dir() else path.name
            if path.parent.name in ("clients", "state", "tls"):
                name = re.sub(r"^\w+", f"{path.parent.name}/ID", name)
            name = re.sub(r"^helper-\d", "helper-N", re.sub(r"^\w+(?=\.request)", "ID", name))
            who = "all" if path.stat().st_mode & 0o077 else "owner"
            if readers.get(name) != who and not name.startswith(("officer", "release")):
                left[str(path.relative_to(self.place))] = who
        return left

    def _clients(self, lines: list[str]) -> None:
        """Runs clients until all have ended, and then waits for the server of their rounds."""
        for client in [self.threads.submit(call, shlex.split(line, comments=True)[1:]) for line in lines]:
            client.result(timeout=120)
        while self.rounds:
            self.rounds.pop().result(timeout=120)

    def _here(self, line: str) -> str:
        """The line as it runs here: smaller, on free ports."""
        for pattern, instead in SMALLER.items():
            line = re.sub(pattern, instead, line)
        line = re.sub(r"(?<=[: ])(844[345]|800[01])\b", lambda match: str(self._port(match[1])), line)
        words = shlex.split(line, comments=True)
        command = words[1] if words[0] == "fedkeys" and len(words) > 1 else ""
        if command == "keygen" and words[2:] == ["--out", "keys"]:  # it enrols ten people
            line += " --people 3"
        if command in PORTS and command != "worker" and "--listen" not in words:
            line += f" --listen localhost:{self._port(PORTS[command])}"
        if command == "train" and "--workers" not in words:
            line += f" --workers localhost:{self._port('worker')}"
        return f"{line} {ADDED[command]}" if command in ADDED else line

    def _port(self, number: str) -> int:
        if number not in self.ports:
            self.ports[number] = portpicker.pick_unused_port()
        return self.ports[number]

    def _shell(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", line], env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=150,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout


def _write_texts(place: Path) -> None:
    """What a reader has of their own: texts, messages, groups, arrays and a Keras model; the updates of two phones."""
    family("mlp").save(place / "model.keras")
    np.savez(place / "ann.npz", x=np.random.default_rng(0).standard_normal((30, 20)), y=np.arange(30) % 5)
    rng = random.Random(0)
    words = ["dog", "house", "party", "game", "school", "friend"]
    people = [f"u{number:02}" for number in range(40)]
    rows = (
        {"client_id": who, "text": f"see you at the {rng.choice(words)} {rng.choice(words)}", "timestamp": n}
        for who in people
        for n in range(24)
    )
    (place / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("messages", "ann", "bob", "eve", "public"):
        (place / f"{name}.txt").write_text("".join(f"see you at the {rng.choice(words)}\n" for _ in range(30)))
    groups = "".join(f"{who},{'ios' if n % 2 else 'android'}\n" for n, who in enumerate(people))
    (place / "groups.csv").write_text(f"client_id,system\n{groups}")
    sections: dict[str, list[str]] = {}
    for key, value in TINY.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, []).append(f"{name} = {value}")
    (place / "tiny.toml").write_text(
        "".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items())
    )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    place = tmp_path_factory.mktemp("reader")
    before, before_umask = Path.cwd(), os.umask(0o022)
    _write_texts(place)
    os.chdir(place)
    try:
        reader = Reader(place)
        with reader.own_worker():
            reader.reads(ROOT / "README.md")
            shutil.copytree("runs/first", tmp_path_factory.mktemp("kept") / "first")
            yield reader
    finally:
        os.chdir(before)
        os.umask(before_umask)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(reader: Reader, page: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.rmtree("runs/first")  # whatever another page made of it
    shutil.copytree(next(tmp_path_factory.getbasetemp().glob("kept*/first")), "runs/first")
    reader.reads(page)
    assert reader.left_files() == {}


def test_what_is_not_run_is_on_some_page() -> None:
    lines = [line for page in pages() for line in command_lines(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []
    assert [pattern for pattern in SMALLER if not any(re.search(pattern, line) for line in lines)] == []
