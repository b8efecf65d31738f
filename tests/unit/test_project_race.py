"""The race of whole rounds: what it refuses and computes, and its talk with a contestant. No other framework runs."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest

from models.tokeniser import LATEST

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

RUN = """
import sys
sys.path.insert(0, {scripts!r})
from work import Progress, arguments, read_work
path, address, own = arguments()
work, progress = read_work(path), Progress(address)
assert own == ["hello"] and work.rounds[1][0].tokens[0, 0, 0] == 7
progress.begin()
for clients in work.rounds:
    progress.round_done()
progress.end(work.start, [tensor + 1 for tensor in work.start])
"""


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("race")


@pytest.fixture
def field(race: ModuleType) -> ModuleType:
    return importlib.import_module("contestants.field")


@pytest.fixture
def work(race: ModuleType, tmp_path: Path) -> Path:
    """The file of two rounds of one client with one batch; tokens are 0 in the first and 7 in the second."""
    module = importlib.import_module("contestants.work")
    rounds = []
    for token in (0, 7):
        tokens = np.full((1, 16, 20), token, np.int32)
        rounds.append((module.ClientWork(tokens, tokens, np.ones((1, 16, 20), np.float32)),))
    start = (np.zeros((3, 3), np.float32), np.full(4, 5, np.float32))
    module.Work(start, tuple(rounds)).write(tmp_path / "work.npz")
    return tmp_path / "work.npz"


def script(field: ModuleType, path: Path, body: str) -> object:
    path.write_text(body)
    return field.Contestant("someone", str(path), (), arguments=("hello",))


def norms(embedding: float) -> list[float]:
    return [embedding, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("mine", "others", "differs"),
    [
        (norms(1.00009), norms(1.0), ""),  # a secure sum rounds by a ten-thousandth
        (norms(1.00011), norms(1.0), "fedkeys, secagg did other work than plain TensorFlow loops: its embedding"),
        (norms(1.0), norms(1.000011), "FedJAX did other work than plain TensorFlow loops: its embedding"),
        (norms(1.0), norms(1.000009), ""),
        (norms(1.0), [1.0, 1.0, 1.0, 1.0, 0.9], "its output bias changed by 0.9, not by 1"),
        (norms(1.0), norms(math.nan), "FedJAX did other work"),
    ],
)
def test_other_work_is_refused(
    race: ModuleType, field: ModuleType, mine: Sequence[float], others: Sequence[float], differs: str
) -> None:
    fedjax = next(c for c in field.CONTESTANTS if c.name == "FedJAX")
    done = {field.FEDKEYS_SECAGG: mine, field.LOOPS: norms(1.0), fedjax: others}
    if differs:
        with pytest.raises(race.UnequalWork, match=differs):
            race.require_equal_work(done)
    else:
        race.require_equal_work(done)


def test_the_first_and_the_last_round_do_not_count(race: ModuleType, field: ModuleType) -> None:
    laps = field.Laps(
        start_up_s=2.0,
        rounds_s=[9.0, 1.0, 3.0, 2.0, 50.0],
        rounds_cpu_s=[9.0, 2.0, 6.0, 4.0, 50.0],
        norms=norms(1.0),
        peak_bytes=3 * 2**20,
    )
    figures = race.figures_of(laps)
    assert (figures.round_s, figures.round_min_s, figures.round_max_s) == (2.0, 1.0, 3.0)
    assert figures.round_cpu_s == 4.0
    assert (figures.first_round_s, figures.start_up_s, figures.peak_mib) == (9.0, 2.0, 3.0)


def test_ratios_are_to_the_loops_and_to_the_fastest_peer(race: ModuleType, field: ModuleType) -> None:
    seconds = {"fedkeys, secagg": 3.0, "plain TensorFlow loops": 2.0, "FedJAX": 6.0, "Flower": 8.0}
    by_name = {c.name: c for c in field.CONTESTANTS}
    rows = {
        by_name[n]: race.figures_of(field.Laps(rounds_s=[9.0, s, 9.0], rounds_cpu_s=[0.0] * 3, norms=norms(1.0)))
        for n, s in seconds.items()
    }
    found = race.compared(rows)
    assert {name: f.over_loops for name, f in found.items()} == {name: s / 2.0 for name, s in seconds.items()}
    assert {name: f.over_fastest_peer for name, f in found.items()} == {name: s / 6.0 for name, s in seconds.items()}
    alone = race.compared({field.FEDKEYS_SECAGG: rows[field.FEDKEYS_SECAGG]})["fedkeys, secagg"]
    assert (alone.over_loops, alone.over_fastest_peer) == (None, None)
    lines = list(race.table("dense", found))
    assert lines[2].startswith("| fedkeys, secagg | 3.000 (3.000 to 3.000) | 1.50 | 0.50 |")
    assert len({line.count("|") for line in lines if line}) == 1


def test_a_missing_environment_is_left_out_by_name(race: ModuleType, field: ModuleType) -> None:
    here = field.Contestant("here", "", ("numpy", "Fedkeys_No-Such-Package"))
    away = field.Contestant("away", "", ("jax",), environment="no-such-environment")
    whole = field.Contestant("whole", "", ("numpy",))
    found = race.left_out([here, away, whole])
    assert set(found) == {"here", "away"}
    assert "lacks Fedkeys_No-Such-Package;" in found["here"]
    assert "build/race/no-such-environment lacks jax; `make bench-race` installs it" in found["away"]


def test_contestants_and_works_are_chosen_by_how_they_begin(race: ModuleType) -> None:
    names = ["dense, 10 x 4", "dense, 10 x 16", "small model"]
    assert race.chosen((), names) == names
    assert race.chosen(("small", "Dense, 10 x 1"), names) == names[1:]
    with pytest.raises(click.BadParameter, match="tense: nothing is called so; there are dense, 10 x 4; "):
        race.chosen(("small", "tense"), names)


def test_a_contestant_does_its_rounds_in_its_turns(field: ModuleType, work: Path, tmp_path: Path) -> None:
    one = field.AtWork(script(field, tmp_path / "run.py", RUN.format(scripts=str(field.SCRIPTS))), work)
    try:
        for _ in range(2):
            one.do_round(counts_memory=True)
        one.finish()
    finally:
        one.close()
    assert one.laps.start_up_s > 0
    assert len(one.laps.rounds_s) == len(one.laps.rounds_cpu_s) == 2
    # Each weight moved by 1: nine of them, and four.
    assert one.laps.norms == [3.0, 2.0]
    assert one.laps.peak_bytes > 2**20


def test_a_contestant_that_fails_is_told_with_its_last_words(field: ModuleType, work: Path, tmp_path: Path) -> None:
    with pytest.raises(field.Stopped, match="(?s)someone ended early: .*no wheels"):
        field.AtWork(script(field, tmp_path / "run.py", "raise SystemExit('no wheels')"), work)


def test_the_words_of_the_race_are_words(race: ModuleType) -> None:
    """A word that the tokeniser changed would be unknown, and the others would train on other batches."""
    tasks = importlib.import_module("contestants.tasks")
    words = list(tasks.TASKS[0]._words())
    assert len(set(words)) == len(words) == 10_000 - 4
    assert [word for word in words if LATEST.words(word) != [word]] == []
