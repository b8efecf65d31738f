"""Changes the source in small ways, one at a time, and runs the nearest tests: what they let pass is printed.

    make mutants                                   # every mutant of every part: many hours
    make mutants ARGS="--sample 40 --seed 1"       # 40 mutants a part, drawn with that seed
    make mutants ARGS="--part ngram --sample 100"

cosmic-ray makes the mutants, two at a time, each in a copy of the project under build/mutants. A run that was cut off
goes on where it stopped; another sample, or a change of the source or of its tests, is a run of its own. The survivors
are written beside the copies, each as a diff.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkItem, WorkResult

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "mutants"
PYTHON = ROOT / ".venv" / "bin" / "python"
WORKERS = 2
# A mutant that runs forever is killed after this many times what the tests take without it, and at least so long.
TIMEOUT_FACTOR = 5.0
MIN_TIMEOUT_S = 30.0
PYTEST = "-m pytest -q -x -p no:cacheprovider -m 'not slow'"


@dataclass(frozen=True)
class Part:
    """A part of the source, and the tests that should see every mistake in it. Paths from the project's folder."""

    source: str
    tests: str


PARTS = {
    "metrics": Part("models/metrics.py", "tests/unit/test_models_metrics.py"),
    "ngram": Part("models/ngram.py", "tests/unit/test_models_ngram.py"),
    "encoding": Part("orchestrator/encoding.py", "tests/unit/test_orchestrator_encoding.py"),
    "secagg": Part("orchestrator/secagg", "tests/unit/orchestrator_secagg"),
    "split": Part("orchestrator/split", "tests/unit/orchestrator_split"),
    "privacy": Part("orchestrator/privacy", "tests/unit/orchestrator_privacy"),
}


@dataclass(frozen=True)
class Session:
    """The mutants of one part: those of worker k are in the database part-k.sqlite of `folder`."""

    name: str
    part: Part
    folder: Path

    def database(self, worker: int) -> Path:
        """The path of a worker's database."""
        return self.folder / f"{self.name}-{worker}.sqlite"


def python_files(path: Path) -> list[Path]:
    """Returns the file itself, or the Python files under a folder in the order of their names."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def session(name: str, sample: int, seed: int) -> Session:
    """Returns the session of a part. Its folder's name says what was mutated, what tested it, and the sample."""
    part = PARTS[name]
    digest = hashlib.sha256(json.dumps([sample, seed]).encode())
    for path in [*python_files(ROOT / part.source), *python_files(ROOT / part.tests)]:
        digest.update(path.read_bytes())
    return Session(name, part, BUILD / f"{name}-{digest.hexdigest()[:12]}")


def copy_project(worker: int) -> Path:
    """Returns a fresh copy of the project for a worker: an earlier one may have been left with a mutant in it."""
    folder = BUILD / f"copy-{worker}"
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for path in filter(None, listed.split("\0")):
        if (ROOT / path).is_file():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path)
    return folder


def test_command(part: Part) -> str:
    """Returns the command that tests a part from within a copy; -m puts that folder first on Python's path."""
    return f"{PYTHON} {PYTEST} {part.tests}"


def seconds_without_mutant(part: Part, copy: Path) -> float:
    """Returns how long a part's tests take as it stands.

    Raises:
        SystemExit: they fail, so no mutant would tell anything.
    """
    start = time.monotonic()
    done = subprocess.run(["sh", "-c", test_command(part)], cwd=copy, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{part.tests} fails without any mutant:\n{done.stdout.decode()}")
    return time.monotonic() - start


def make_mutants(of: Session, copies: list[Path], sample: int, seed: int) -> None:
    """Writes each worker's database and configuration, unless an earlier run has. sample: 0 for all mutants."""
    if of.folder.exists():
        return
    timeout_s = max(MIN_TIMEOUT_S, TIMEOUT_FACTOR * seconds_without_mutant(of.part, copies[0]))
    unfinished = of.folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "cosmic-ray.toml").write_text(
        f'[cosmic-ray]\nmodule-path = "{of.part.source}"\ntimeout = {timeout_s:.0f}\nexcluded-modules = []\n'
        f'test-command = "{test_command(of.part)}"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    mutants = drawn(all_mutants(of.part, unfinished / "all.sqlite"), sample, seed)
    for worker in range(len(copies)):
        with use_db(str(unfinished / of.database(worker).name)) as database:
            database.add_work_items(mutants[worker :: len(copies)])
    unfinished.rename(of.folder)


def all_mutants(part: Part, path: Path) -> list[WorkItem]:
    """Returns every mutant of a part, in the order of their places. path: where cosmic-ray may write a database."""
    files = [file.relative_to(ROOT) for file in python_files(ROOT / part.source)]
    os.chdir(ROOT)  # what the database calls a module is its path from here, as from each copy
    with use_db(str(path)) as database:
        init(files, database, {})
        mutants = [item for item in database.work_items if item.mutations[0].operator_name != "core/NoOp"]
    path.unlink()
    return sorted(mutants, key=_place)


def _place(item: WorkItem) -> tuple[str, tuple[int, int], str, int]:
    """Where a mutant is: file, line and column, operator, and which of that operator's mutants it is there."""
    mutation = item.mutations[0]
    return str(mutation.module_path), mutation.start_pos, mutation.operator_name, mutation.occurrence


def drawn(mutants: list[WorkItem], sample: int, seed: int) -> list[WorkItem]:
    """Returns `sample` of the mutants, drawn without replacement; all of them for 0 or if there are no more."""
    return random.Random(seed).sample(mutants, sample) if 0 < sample < len(mutants) else mutants


def run_mutants(sessions: list[Session], copy: Path, worker: int) -> None:
    """Runs a worker's share of every session: the mutants that have no result yet."""
    for of in sessions:
        command = [sys.executable, "-m", "cosmic_ray.cli", "exec", of.folder / "cosmic-ray.toml", of.database(worker)]
        subprocess.run(command, cwd=copy, stdin=subprocess.DEVNULL, check=True)


def results(of: Session) -> Iterator[tuple[WorkItem, WorkResult]]:
    """Yields each mutant of a session that has been tested, with what came out, in the order of their places."""
    found = []
    for worker in range(WORKERS):
        with use_db(str(of.database(worker))) as database:
            found += database.completed_work_items
    yield from sorted(found, key=lambda pair: _place(pair[0]))


def report(of: Session) -> str:
    """Returns a line of the table of scores, and writes the survivors of a session into its folder."""
    outcomes: Counter[str] = Counter()
    with (of.folder / "survivors.diff").open("w", encoding="utf-8") as file:
        for item, result in results(of):
            outcome = (result.test_outcome or TestOutcome.INCOMPETENT).value
            outcomes[outcome] += 1
            if outcome == "survived":
                mutation = item.mutations[0]
                file.write(f"# {mutation.operator_name} in {mutation.definition_name}\n{result.diff}\n\n")
    tested = outcomes["killed"] + outcomes["survived"]
    score = f"{100 * outcomes['killed'] / tested:.1f} %" if tested else "-"
    survivors = (of.folder / "survivors.diff").relative_to(ROOT)
    return f"{of.name:10} {tested:8} {outcomes['killed']:7} {outcomes['survived']:9} {score:>8}  {survivors}"


def main() -> None:
    """Makes the mutants, tests them and prints the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="a part, may be given again (default: all)")
    parser.add_argument("--sample", type=int, default=0, help="number of mutants of each part (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="what the sample is drawn with")
    arguments = parser.parse_args()
    copies = [copy_project(worker) for worker in range(WORKERS)]
    sessions = [session(name, arguments.sample, arguments.seed) for name in arguments.part or PARTS]
    for of in sessions:
        make_mutants(of, copies, arguments.sample, arguments.seed)
    with ThreadPoolExecutor(WORKERS) as pool:
        for done in [pool.submit(run_mutants, sessions, copy, worker) for worker, copy in enumerate(copies)]:
            done.result()
    print(f"{'part':10} {'mutants':>8} {'killed':>7} {'survived':>9} {'score':>8}  survivors")
    for of in sessions:
        print(report(of))


if __name__ == "__main__":
    main()
