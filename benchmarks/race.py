"""A federated round in fedkeys, in plain TensorFlow loops and in other frameworks: seconds, start-up and memory.

    make bench-race [ARGS="--rounds 10 --only FedJAX --json"]

All train Gboard's model on the same batches from the same weights, and end with the same weights: the race refuses to
print a time if the norms of their changes differ. Each contestant is a fresh process in an environment of its own
(`make bench-race` builds them in build/race; one that is missing is left out, and named). A round is what its user
waits for, from one set of weights to the next: for fedkeys all of `fedkeys train`, with record and report.

They start one after the other, and do their first round at once. Then all take turns, round by round, so that
whatever else the machine does hits them alike; only who has its turn computes. The last round is not timed, since
fedkeys evaluates at its end. Memory is counted in the rounds that are not compared, with shared pages divided among the
sharers. The other frameworks have the step that is fastest in them (contestants/run_*.py).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import msgspec
from contestants.field import CONTESTANTS, FEDKEYS_SECAGG, LOOPS, AtWork, Contestant, Laps, Stopped

WEIGHTS = ("embedding", "kernel", "bias", "projection", "output bias")


class UnequalWork(Exception):
    """Two contestants ended with different weights."""


class Figures(msgspec.Struct):
    """A contestant's figures for a work."""

    round_s: float  # median of the rounds 2, 3, ...
    round_min_s: float
    round_max_s: float
    round_cpu_s: float  # median, of all its processes: other load on the machine moves it less
    start_up_s: float
    first_round_s: float
    peak_mib: float
    norms: list[float]
    over_loops: Optional[float] = None  # its rounds by those of the loops; None without them
    over_fastest_peer: Optional[float] = None


def figures_of(laps: Laps) -> Figures:
    """Returns what the table shows of a contestant; the last round is not timed."""
    first, *timed, _ = laps.rounds_s
    _, *timed_cpu, _ = laps.rounds_cpu_s
    return Figures(
        round_s=statistics.median(timed),
        round_min_s=min(timed),
        round_max_s=max(timed),
        round_cpu_s=statistics.median(timed_cpu),
        start_up_s=laps.start_up_s,
        first_round_s=first,
        peak_mib=laps.peak_bytes / 2**20,
        norms=laps.norms,
    )


def require_equal_work(norms: Mapping[Contestant, Sequence[float]]) -> None:
    """Checks that all moved the weights equally far.

    The reference is the first of the contestants with the smallest tolerance, who rounds nothing for a secure sum.

    Raises:
      UnequalWork: a norm differs by more than the contestant's tolerance.
    """
    reference = min(norms, key=lambda contestant: contestant.tolerance)
    for contestant, own in norms.items():
        for name, mine, expected in zip(WEIGHTS, own, norms[reference]):
            if not abs(mine - expected) <= contestant.tolerance * expected:
                raise UnequalWork(
                    f"{contestant.name} did other work than {reference.name}: its {name} changed by {mine:.7g}, "
                    f"not by {expected:.7g} (L2 norm)"
                )


def compared(rows: Mapping[Contestant, Figures]) -> dict[str, Figures]:
    """Returns the figures by name, with their ratios to the loops and to the fastest of the peers."""
    loops = rows[LOOPS].round_s if LOOPS in rows else None
    peers = [figures.round_s for contestant, figures in rows.items() if contestant.is_peer]
    fastest = min(peers) if peers else None
    return {
        contestant.name: msgspec.structs.replace(
            figures,
            over_loops=figures.round_s / loops if loops else None,
            over_fastest_peer=figures.round_s / fastest if fastest else None,
        )
        for contestant, figures in rows.items()
    }


def run_task(contestants: Sequence[Contestant], work: Path, num_timed: int) -> dict[Contestant, Figures]:
    """Runs the rounds of one work, in turns.

    Raises:
      UnequalWork, Stopped: see there.
    """
    with contextlib.ExitStack() as stack:
        at_work = {}
        for contestant in contestants:
            click.echo(f"  {contestant.name} starts", err=True)
            at_work[contestant] = stack.enter_context(contextlib.closing(AtWork(contestant, work)))
            at_work[contestant].do_round(counts_memory=True)
        for number in range(num_timed):
            click.echo(f"  turn {number + 1} of {num_timed}", err=True)
            for one in at_work.values():
                one.do_round()
        for one in at_work.values():
            one.do_round(counts_memory=True)
            one.finish()
        laps = {contestant: one.laps for contestant, one in at_work.items()}
    require_equal_work({contestant: own.norms for contestant, own in laps.items()})
    return {contestant: figures_of(own) for contestant, own in laps.items()}


def left_out(contestants: Sequence[Contestant]) -> dict[str, str]:
    """Returns {contestant: what its environment lacks}, for those that can't run."""
    found = {}
    for contestant in contestants:
        if missing := [name for name, version in contestant.versions().items() if version is None]:
            place = contestant.python.parents[1] if contestant.environment else "this Python"
            found[contestant.name] = f"{place} lacks {', '.join(missing)}; `make bench-race` installs it"
    return found


def table(name: str, rows: Mapping[str, Figures]) -> Iterator[str]:
    """Yields the lines of a work's table."""

    def ratio(value: Optional[float]) -> str:
        return "-" if value is None else f"{value:.2f}"

    heads = (
        "s a round (min to max)",
        "by loops",
        "by fastest peer",
        "CPU s a round",
        "start-up, s",
        "round 1, s",
        "MiB",
    )
    yield f"| {name} | {' | '.join(heads)} |"
    yield "|---" * (1 + len(heads)) + "|"
    for contestant, f in rows.items():
        cells = (
            f"{f.round_s:.3f} ({f.round_min_s:.3f} to {f.round_max_s:.3f})",
            *map(ratio, (f.over_loops, f.over_fastest_peer)),
            *(f"{value:.2f}" for value in (f.round_cpu_s, f.start_up_s, f.first_round_s)),
            f"{f.peak_mib:.0f}",
        )
        yield f"| {contestant} | {' | '.join(cells)} |"
    yield ""


def machine() -> dict[str, object]:
    """Returns what the figures depend on: date, processor, cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    today = datetime.date.today().isoformat()
    return {"date": today, "processor": processor, "cores": os.cpu_count(), "python": platform.python_version()}


def chosen(beginnings: Sequence[str], names: Sequence[str]) -> list[str]:
    """Returns the names that begin as asked for, in any case of letters; all if nothing is asked for.

    Raises:
      BadParameter: no name begins so.
    """
    for asked in beginnings:
        if not any(name.lower().startswith(asked.lower()) for name in names):
            raise click.BadParameter(f"{asked}: nothing is called so; there are {'; '.join(names)}")
    asked_for = tuple(asked.lower() for asked in beginnings) or ("",)
    return [name for name in names if name.lower().startswith(asked_for)]


@click.command()
@click.option("--rounds", "num_timed", default=7, show_default=True, type=click.IntRange(1), help="Timed rounds.")
@click.option("--only", multiple=True, help="A contestant, by the beginning of its name; may be repeated.")
@click.option("--work", "works", multiple=True, help="A work, by the beginning of its name; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(num_timed: int, only: Sequence[str], works: Sequence[str], as_json: bool) -> None:
    """Race fedkeys with plain TensorFlow loops and other frameworks."""
    from contestants.tasks import TASKS, WORK_FILE

    racing = chosen(only, [contestant.name for contestant in CONTESTANTS])
    wanted = chosen(works, [task.name for task in TASKS])
    contestants = [contestant for contestant in CONTESTANTS if contestant.name in racing]
    absent = left_out(contestants)
    for name, reason in absent.items():
        click.echo(f"left out: {name}: {reason}", err=True)
    present = [contestant for contestant in contestants if contestant.name not in absent]
    results: dict[str, dict[str, Figures]] = {}
    for task in TASKS:
        runners = [c for c in present if c == FEDKEYS_SECAGG or not task.of_secure_sum]
        if task.name not in wanted or not runners:
            continue
        click.echo(f"{task.name}: preparing the work", err=True)
        with tempfile.TemporaryDirectory(prefix="race-") as folder:
            task.prepare(Path(folder), num_timed + 2)
            try:
                rows = run_task(runners, Path(folder) / WORK_FILE, num_timed)
            except (UnequalWork, Stopped) as error:
                sys.exit(f"{task.name}: {error}")
        results[task.name] = compared(rows)
        click.echo("\n".join(table(task.name, results[task.name])), err=as_json)
    versions = {name: version for contestant in present for name, version in contestant.versions().items()}
    facts = {"machine": machine(), "versions": versions, "rounds": num_timed, "left_out": absent}
    if as_json:
        click.echo(msgspec.json.encode({**facts, "works": results}).decode())
    else:
        click.echo(" ".join(f"{name} {value}" for name, value in {**machine(), **versions}.items()))


if __name__ == "__main__":
    main()
