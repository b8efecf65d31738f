"""The baselines that a process counts and scores are those counted here, and the process ends with whoever began it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.client_data import build_client_data
from models.corpus import corpus_of
from models.text_sources import Message
from orchestrator.evaluation.baseline_scores import Job, baselines_beside

WORDS = ["see", "you", "at", "ten", "then", "ok", "fine", "who", "is", "there", "good", "night"]
TIME = 6


def drawn_data():
    rng = np.random.default_rng(4)
    messages = [
        Message(f"p{person}", " ".join(rng.choice(WORDS, rng.integers(1, 9))), None)
        for person in range(20)
        for _ in range(30)
    ]
    return build_client_data(corpus_of("drawn", "drawn", messages), seed=1, vocabulary_size=14)


@pytest.fixture(scope="module")
def data():
    return drawn_data()


def children():
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in own if "baseline_process" in Path(f"/proc/{pid}/cmdline").read_text()]


def assert_same(found, data):
    job = Job.of(data, TIME)
    counted = job.counted()
    expected = job.score(counted.ngrams)
    assert found.counted.order == counted.order
    assert len(found.scores) == len(expected) >= 2
    for own, other in zip(found.scores, expected):
        assert list(own) == list(other)
        for name, scores in own.items():
            for field in ("hit1", "hit3", "nll_nats", "person"):
                np.testing.assert_array_equal(getattr(scores, field), getattr(other[name], field))


needs_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="no process is started on one core")


@needs_cores
def test_a_process_finds_what_is_found_here_and_ends_with_the_block(data, caplog):
    with baselines_beside(data, TIME) as found:
        assert len(children()) == 1
        assert_same(found, data)
    assert not children()
    assert not caplog.records  # which would say that they were counted here


@needs_cores
def test_what_a_killed_process_did_not_say_is_found_here(data, caplog):
    with baselines_beside(data, TIME) as found:
        os.kill(int(children()[0]), signal.SIGKILL)
        assert_same(found, data)
    assert "counting them here" in caplog.text


def test_half_an_answer_is_none(data, monkeypatch):
    def cut_off():
        return pickle.loads(pickle.dumps(Job.of(data, TIME).counted())[:-9])

    from orchestrator.evaluation.baseline_scores import Baselines

    assert_same(Baselines(Job.of(data, TIME), cut_off), data)


@needs_cores
def test_a_process_ends_with_a_killed_parent():
    begin = "import time, test_baseline_scores as t; from orchestrator.evaluation.baseline_scores import *\n"
    wait = "with baselines_beside(t.drawn_data(), t.TIME): print(*t.children(), flush=True); time.sleep(60)"
    folders = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command, environment = [sys.executable, "-c", begin + wait], {**os.environ, "PYTHONPATH": folders}
    for _ in range(20):  # on a busy machine the process may have done its work before anybody looks
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
            child = Path("/proc") / parent.stdout.readline().decode().strip() / "cmdline"
            was_at_work = b"baseline_process" in read_command(child)
            parent.kill()
        if was_at_work:
            break
    assert was_at_work
    deadline = time.monotonic() + 20
    while read_command(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_command(path):
    """What a process was begun with; nothing once it has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
