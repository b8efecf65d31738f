"""A server and ten clients as processes, over TLS: one is killed at each stage, and the rounds end without it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import portpicker
import pytest

from models.weights import ModelSize
from orchestrator.run.folder import RunFolder
from orchestrator.run.saved import read_run
from orchestrator.settings.files import read_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FEDKEYS = [sys.executable, "-m", "orchestrator.cli"]
STAGES = ("train", "advertise", "shares", "upload", "consistency", "unmask")
NUM_ROUNDS = len(STAGES) + 30
NAMES = [f"p{i:02}" for i in range(10)]
DOOMED = NAMES[4]

# A client of the product's own parts that kills itself, as kill -9 does, when the server opens the given stage to it
# (never, if there is no such stage).
# Its update is all zeros: what it trains is never asked for, and TensorFlow takes seconds to load.
DOOMED_CLIENT = """
import os, signal, sys
from pathlib import Path
import numpy as np
from orchestrator.network import messages
from orchestrator.network.certificates import read_identity, read_roster
from orchestrator.network.channel import Link, check_server, open_channel
from orchestrator.network.client import Participant
from orchestrator.network.demands import Demands
from orchestrator.network.journal import Journal
from orchestrator.network.pace import Pace
from orchestrator.network.tls import Tls
from orchestrator.rounds.sums import secagg_policy
from orchestrator.settings.sections import AggregationConfig

server, keys, name, doom = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]

def load_trainer(config, size):
    zeros = tuple(np.zeros(shape, np.float32) for shape in size.shapes)
    return lambda weights, rate, seed, batches: {
        "delta": zeros, "is_finite": True, "num_tokens": batches.num_tokens, "num_examples": batches.num_examples
    }

tls, identity = Tls.of_client(keys, name), read_identity(keys, name)
demands = Demands(secagg_policy(AggregationConfig()))
enrolled, journal = frozenset(read_roster(keys).values()), Journal(keys / "state" / f"{name}.json")
client = Participant(name, identity, enrolled, demands, ("see you",), journal, Pace(0.0, print), None, load_trainer)
check_server(server, tls, 60.0)
with open_channel(server, tls) as channel, Link(channel, server, name, identity) as link:
    for message in link:
        found = messages.decode(message, messages.TO_CLIENT)
        stages = {messages.Plan: "train", messages.Step: getattr(found, "stage", "")}
        if doom == stages.get(type(found)):
            os.kill(os.getpid(), signal.SIGKILL)
        answer = client.answer(message)
        if client.goodbye is not None:
            break
        if answer is not None:
            link.send(answer)
"""


def fedkeys(*args, **kwargs):
    done = subprocess.run([*FEDKEYS, *map(str, args)], capture_output=True, text=True, timeout=300, **kwargs)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Thirty people, for the word list; ten of them are clients."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    lines = [
        {"client_id": f"p{person:02}", "text": f"see you at my {rng.choice(['house', 'class', 'game'])} word{person}"}
        for person in range(30)
        for _ in range(24)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    done = fedkeys("keygen", "--out", folder, *(word for name in NAMES for word in ("--client", name)), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["clients"] == NAMES
    return folder


def start(*args, stderr=subprocess.PIPE):
    return subprocess.Popen([*FEDKEYS, *map(str, args)], stdout=subprocess.PIPE, stderr=stderr, text=True)


def start_client(keys, text, address, name):
    return start(
        "client",
        "--server",
        address,
        "--data",
        text,
        "--client-id",
        name,
        "--keys",
        keys,
        "--wait",
        60,
        "--answer-step",
        0,
    )


def start_doomed(keys, address, stage):
    return subprocess.Popen([sys.executable, "-c", DOOMED_CLIENT, address, str(keys), DOOMED, stage])


def wait_for(condition, server, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert server.poll() is None, server.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_client_killed_at_each_stage_and_one_between_two_rounds(keys, text, tmp_path):
    run, address = tmp_path / "run", f"localhost:{portpicker.pick_unused_port()}"
    config = tmp_path / "config.toml"
    config.write_text(
        "[model]\nvocabulary_size = 40\nembedding_size = 8\nnum_cells = 12\n"
        "[rounds]\ncohort_size = 10\ncheckpoint_every = 10\n[client]\nmax_sentences = 20\n"
    )
    server = start(
        "serve", "--run", run, "--keys", keys, "--data", text, "--config", config, "--rounds", NUM_ROUNDS,
        "--listen", address, "--wait", 10, "--stage-timeout", 20, "--json",
    )  # fmt: skip
    clients = {name: start_client(keys, text, address, name) for name in NAMES if name != DOOMED}
    processes = [server, *clients.values()]
    try:
        rounds = RunFolder(run).rounds
        for stage in STAGES:  # each of them fills the cohort, and is killed in the round that then begins
            doomed = start_doomed(keys, address, stage)
            processes.append(doomed)
            wait_for(lambda doomed=doomed: doomed.poll() is not None, server)
            assert doomed.returncode == -signal.SIGKILL
        processes.append(start_doomed(keys, address, "never"))
        wait_for(lambda: len(rounds()) > len(STAGES), server)
        assert server.poll() is None, "it ended before a client could be killed"
        victim = clients.pop(NAMES[0])
        victim.kill()
        victim.wait(30)
        out, err = server.communicate(timeout=240)
        assert server.returncode == 0, err
        for name, client in clients.items():
            said, complaint = client.communicate(timeout=60)
            assert (client.returncode, said) == (0, f"all {NUM_ROUNDS} rounds are done\n"), (name, complaint)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=30)  # closes its pipes, too

    reports = rounds()
    assert [r.outcome for r in reports] == ["completed"] * NUM_ROUNDS
    for stage, report in zip(STAGES, reports):
        counts = stage in ("consistency", "unmask")  # its vector had arrived
        assert list(report.selected) == NAMES, stage
        assert list(report.survivors) == [name for name in NAMES if counts or name != DOOMED], stage
    for report in reports[len(STAGES) :]:
        assert set(report.survivors) >= set(clients)
    assert list(reports[len(STAGES)].survivors) == NAMES
    assert NAMES[0] not in reports[-1].survivors
    assert json.loads(out) == {"rounds": NUM_ROUNDS, "weights_sha256": reports[-1].weights_sha256}
    assert read_run(RunFolder(run)).newest.round_num == NUM_ROUNDS  # and its weights are those of the last line
    assert read_run(RunFolder(run)).config.aggregation.min_survivors == 3  # what clients of a roster of ten insist on
    predicted = fedkeys("predict", "--run", run, "see you", "--json")
    assert len(json.loads(predicted.stdout)["predictions"]) == 3


def test_mistakes_get_one_line_and_exit_code_2(keys, text, tmp_path):
    address = f"localhost:{portpicker.pick_unused_port()}"
    fedkeys("keygen", "--out", tmp_path / "other", "--client", "stranger")
    cases = {
        ("client", "--server", address, "--client-id", NAMES[0], "--data", text, "--keys", keys, "--wait", 0): (
            "nobody answers at"
        ),
        ("client", "--server", address, "--client-id", "eve", "--data", text, "--keys", keys): "eve.key is missing",
        ("client", "--server", address, "--client-id", NAMES[0], "--data", text, "--keys", tmp_path / "none"): (
            f"or make them with `fedkeys enrol --client-id {NAMES[0]} --keys {tmp_path / 'none'}`"
        ),
        ("serve", "--run", tmp_path / "run", "--keys", tmp_path / "none"): "make it with `fedkeys keygen",
        ("serve", "--run", tmp_path / "run", "--keys", keys, "--resume"): "holds no run",
        ("serve", "--run", tmp_path / "run", "--keys", keys, "--aggregator", "plain"): "over a network the sum is",
        ("keygen", "--out", keys, "--client", NAMES[0]): "is enrolled already",
    }
    for arguments, message in cases.items():
        done = fedkeys(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert message in done.stderr
        said = [line for line in done.stderr.splitlines() if not line.startswith("roster ")]
        assert len(said) == 1, done.stderr
    assert not (tmp_path / "run").exists()


def test_the_server_s_optimiser_is_that_of_training_in_tff():
    """Step for step, and its state has the same form: a run can go on either way."""
    from orchestrator.rounds.server_optimizer import tff_optimizer
    from tff_pipelines.runtime import Runtime
    from tff_pipelines.server_update import ALGORITHMS, build_server_optimizer, build_server_update

    size, rng = ModelSize(7, 2, 3), np.random.default_rng(0)

    def draw():
        return tuple(rng.standard_normal(shape).astype(np.float32) for shape in size.shapes)

    with Runtime("1") as runtime:
        for algorithm in ALGORITHMS:
            server = read_config(overrides={"server.algorithm": algorithm}).server
            optimizer = build_server_optimizer(algorithm, server.momentum, server.beta_2, server.epsilon)
            in_tff = build_server_update(size, optimizer)
            first_state, update = tff_optimizer(read_config(overrides={"server.algorithm": algorithm}).server, size)
            state, here = runtime.invoke(in_tff.initialize), first_state()
            weights = weights_here = draw()
            for rate in (0.1, 0.03):
                delta = draw()
                state, weights = runtime.invoke(in_tff.next, state, weights, delta, np.float32(rate))
                here, weights_here = update(here, weights_here, delta, rate)
                for expected, found in zip(weights, weights_here):
                    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7, err_msg=algorithm)
            assert form(here) == form(state), algorithm


def form(tree):
    """A state without its values: names, order, types, shapes."""
    if hasattr(tree, "items"):
        return {name: form(value) for name, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return [form(value) for value in tree]
    return np.asarray(tree).dtype, np.shape(tree)
