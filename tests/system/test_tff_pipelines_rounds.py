"""The split round against TFF's own, and what becomes of workers."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import portpicker
import psutil
import pytest
import tensorflow as tf

from models.batches import build_batches
from models.model import load_model
from models.plain_loss import plain_loss
from models.vocabulary import NUM_SPECIAL, PAD
from models.weights import ModelSize
from orchestrator.aggregator import Cohort, PlainSum
from orchestrator.encoding import Encoder
from orchestrator.rounds.round import weights_digest
from tff_pipelines import reference
from tff_pipelines import runtime as runtime_module
from tff_pipelines.client_work import build_client_work
from tff_pipelines.errors import WorkerError
from tff_pipelines.evaluation import build_evaluation, build_word_counts
from tff_pipelines.runtime import Runtime
from tff_pipelines.server_update import ALGORITHMS, build_server_optimizer, build_server_update

pytestmark = pytest.mark.slow

SIZE = ModelSize(vocabulary_size=31, embedding_size=4, num_cells=5)
TIME = 6
BATCH = 4
RATE = 0.5


@pytest.fixture(scope="module")
def runtime():
    with Runtime("2") as two:
        yield two


@pytest.fixture(scope="module")
def start():
    return load_model(SIZE).initial_weights(2)


@pytest.fixture(scope="module")
def clients():
    """Seven clients of unequal size, their sentences of unequal length."""
    rng = np.random.default_rng(0)
    return [
        [rng.integers(NUM_SPECIAL, SIZE.vocabulary_size, rng.integers(1, 9)) for _ in range(3 + 4 * i)]
        for i in range(7)
    ]


def batches_of(sentences):
    return build_batches(sentences, batch_size=BATCH, time=TIME)


def dataset_of(sentences):
    """The same batches for tff.learning, without filling rows, which it would count as examples."""
    batches = batches_of(sentences)
    rows = batches.targets.reshape(-1, TIME)
    real = rows[:, 0] != PAD
    tokens, targets = batches.tokens.reshape(-1, TIME)[real], rows[real]
    features = collections.OrderedDict(tokens=tokens, targets=targets)
    return tf.data.Dataset.from_tensor_slices((features, targets[:, 0])).batch(BATCH)


def split_round(runtime, work, server, state, weights, clients, server_rate, encode=False):
    results = list(runtime.map_clients(work, (weights, np.float32(RATE), np.int32(0)), map(batches_of, clients), 2))
    examples = [int(r["num_examples"]) for r in results]
    if encode:
        encoder = Encoder(clip_norm=10.0, num_clients=len(clients), max_weight=100, shapes=SIZE.shapes)
        names = [str(i) for i in range(len(clients))]
        vectors = (
            (n, encoder.encode(r["delta"], e, np.random.default_rng(0))) for n, r, e in zip(names, results, examples)
        )
        total = PlainSum().sum(vectors, Cohort(1, tuple(names)), {}).total
        mean, _ = encoder.decode(total, len(clients))
    else:
        mean = tuple(
            np.float32(sum(e * d.astype(np.float64) for e, d in zip(examples, deltas)) / sum(examples))
            for deltas in zip(*(r["delta"] for r in results))
        )
    return runtime.invoke(server.next, state, weights, mean, np.float32(server_rate))


@pytest.mark.parametrize(
    ("algorithm", "server_rate", "proximal"),
    [("fedavg", 1.0, 0.0), ("fedavgm", 1.0, 0.0), ("fedadam", 0.01, 0.0), ("fedyogi", 0.01, 0.0),
     ("fedadagrad", 0.01, 0.0), ("fedavg", 1.0, 0.3)],
)  # fmt: skip
def test_split_round_equals_tffs_own(runtime, start, clients, algorithm, server_rate, proximal):
    def optimizer():
        return build_server_optimizer(algorithm, epsilon=1e-3, learning_rate=server_rate)

    whole = reference.build_reference_round(SIZE, TIME, start, RATE, optimizer(), proximal)
    state = runtime.invoke(whole.initialize)
    datasets = [dataset_of(c) for c in clients]
    for _ in range(5):
        state = runtime.invoke(whole.next, state, datasets).state
    expected = state.global_model_weights.trainable

    # TFF 0.87.0 has FedProx's term with the wrong sign (reference.py); test_models_cifg_lstm.py tests ours.
    work = build_client_work(SIZE, TIME, clip_norm=0.0, proximal=-proximal)
    server = build_server_update(SIZE, optimizer())
    weights, server_state = start, runtime.invoke(server.initialize)
    for _ in range(5):
        server_state, weights = split_round(runtime, work, server, server_state, weights, clients, server_rate)
    assert any(np.abs(a - b).max() > 0.01 for a, b in zip(expected, start)), "nothing was learned: proves nothing"
    for mine, theirs in zip(weights, expected):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_every_algorithm_is_compared():
    compared = {mark.args[1][i][0] for mark in test_split_round_equals_tffs_own.pytestmark if mark.name == "parametrize"
                for i in range(len(mark.args[1]))}  # fmt: skip
    assert compared == set(ALGORITHMS)


def test_the_encoded_sum_gives_the_same_round(runtime, start, clients):
    work, server = build_client_work(SIZE, TIME), build_server_update(SIZE, build_server_optimizer("fedavg"))
    state = runtime.invoke(server.initialize)
    _, exact = split_round(runtime, work, server, state, start, clients, 1.0)
    _, encoded = split_round(runtime, work, server, state, start, clients, 1.0, encode=True)
    for a, b in zip(exact, encoded):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_one_client_with_one_step_is_sgd(runtime, start, clients):
    sentences = clients[0][:BATCH]
    work, server = build_client_work(SIZE, TIME), build_server_update(SIZE, build_server_optimizer("fedavg"))
    _, weights = split_round(runtime, work, server, runtime.invoke(server.initialize), start, [sentences], 1.0)
    batch = batches_of(sentences)
    variables = [tf.Variable(w) for w in start]
    with tf.GradientTape() as tape:
        loss = plain_loss(SIZE, variables, tf.constant(batch.tokens[0]), tf.constant(batch.targets[0]))
    for before, gradient, after in zip(start, tape.gradient(loss, variables), weights):
        np.testing.assert_allclose(after, before - RATE * tf.convert_to_tensor(gradient), atol=1e-5)


def test_two_workers_equal_one_bit_for_bit(runtime, start, clients):
    work = build_client_work(SIZE, TIME, clip_norm=0.5)
    args = (start, np.float32(RATE), np.int32(0))
    two = list(runtime.map_clients(work, args, map(batches_of, clients), 3))
    with Runtime("1") as one:
        alone = list(one.map_clients(work, args, map(batches_of, clients), 1))
    assert [weights_digest(r["delta"]) for r in two] == [weights_digest(r["delta"]) for r in alone]


def test_a_diverged_client_says_so(runtime, start, clients):
    work = build_client_work(SIZE, TIME)
    data = [batches_of(c) for c in clients[:2]]
    sane = [r["is_finite"] for r in runtime.map_clients(work, (start, np.float32(0.1), np.int32(0)), data, 2)]
    wild = [r["is_finite"] for r in runtime.map_clients(work, (start, np.float32(np.inf), np.int32(0)), data, 2)]
    assert sane == [True, True]
    assert wild == [False, False]


def test_federated_evaluation_equals_a_plain_loop(runtime, start, clients):
    from models.inference import recall_sums
    from models.model import load_model

    evaluation = build_evaluation(SIZE, TIME, 40)
    results = list(runtime.map_clients(evaluation, (start,), map(batches_of, clients), 3))
    for sentences, got in zip(clients, results):
        parts = [recall_sums(load_model(SIZE), start, *batch, 40) for batch in zip(*batches_of(sentences))]
        for name in ("hits1", "hits3", "nll_sum", "positions", "oov"):
            assert float(got[name]) == pytest.approx(sum(float(getattr(p, name)) for p in parts), rel=1e-5), name


def test_federated_word_counts_are_exact(runtime):
    ids = [np.array([4, 4, 7], np.int32), np.array([7, 2], np.int32), np.array([], np.int32)]
    counts = runtime.invoke(build_word_counts(9), ids)
    assert counts.tolist() == [0, 0, 1, 0, 2, 0, 0, 2, 0]


def test_clients_of_a_killed_worker_run_on_the_other(start, clients, monkeypatch):
    monkeypatch.setattr(runtime_module, "_SMALL_BYTES", 1)  # else a quick machine has trained all before the kill
    work = build_client_work(SIZE, TIME)
    args = (start, np.float32(RATE), np.int32(0))
    many = [batches_of(clients[i % 7]) for i in range(30)]
    with Runtime("2") as pair:
        expected = [weights_digest(r["delta"]) for r in pair.map_clients(work, args, many, 2)]
        got = []
        for number, result in enumerate(pair.map_clients(work, args, many, 2)):
            if number == 5:
                os.kill(pair.workers[0].pid, signal.SIGKILL)
            got.append(weights_digest(result["delta"]))
        assert got == expected
        assert len(pair.workers) == 1
        os.kill(pair.workers[0].pid, signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(WorkerError, match="no TFF worker is left"):
            list(pair.map_clients(work, args, many, 2))
        with pytest.raises(WorkerError, match="no TFF worker is left"):
            pair.invoke(build_word_counts(5), [np.array([4], np.int32)])
        with pytest.raises(WorkerError, match="no TFF worker is left"):  # and no empty cohort
            list(pair.map_clients(work, args, many, 2))
        assert time.monotonic() - began < 60


@pytest.mark.parametrize(("small_bytes", "expected"), [(1, 15), (32 << 20, 30)])
def test_calls_with_small_results_are_given_out_before_anybody_asks(
    runtime, start, clients, monkeypatch, small_bytes, expected
):
    """Workers train on while a sum is at its first vector; large results wait, four calls at a time for two workers.

    Beyond these, as many clients are looked at as the last calls may have, and one more.
    """
    monkeypatch.setattr(runtime_module, "_SMALL_BYTES", small_bytes)
    taken = []

    def values():
        for number in range(30):
            taken.append(number)
            yield batches_of(clients[number % 7])

    results = runtime.map_clients(
        build_client_work(SIZE, TIME), (start, np.float32(RATE), np.int32(0)), values(), clients_per_call=2
    )
    next(results)
    assert len(taken) == expected
    assert len(list(results)) == 29


def test_nobody_at_the_address_is_a_clear_error():
    port = portpicker.pick_unused_port()
    with pytest.raises(WorkerError, match=f"no TFF worker answers at localhost:{port}"):
        Runtime(f"localhost:{port}")


CHILD = """
    import os, signal, sys, time
    from tff_pipelines.runtime import Runtime
    from tff_pipelines.evaluation import build_word_counts
    import numpy as np
    runtime = Runtime("2")
    runtime.invoke(build_word_counts(5), [np.array([4], np.int32)])
    print(" ".join(str(w.pid) for w in runtime.workers), flush=True)
    if sys.argv[1] == "exception":
        raise RuntimeError("on purpose")
    if sys.argv[1] == "wait":
        time.sleep(120)
"""


@pytest.mark.parametrize(
    ("end", "number"), [("normal", None), ("exception", None), ("wait", signal.SIGTERM), ("wait", signal.SIGKILL),
                    ("wait", "closed pipe")]
)  # fmt: skip
def test_no_worker_outlives_its_parent(end, number):
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), end], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    pids = [int(pid) for pid in child.stdout.readline().split()]
    assert len(pids) == 2
    if number == "closed pipe":
        child.stdout.close()
        child.send_signal(signal.SIGTERM)
    elif number is not None:
        child.send_signal(number)
    if not child.stdout.closed:
        assert child.stdout.read() == b"", "a worker that holds the pipe open would hang here"
        child.stdout.close()
    child.wait(60)
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(psutil.pid_exists(pid) for pid in pids)


SILENT = """
import gc
import tff_pipelines.probe, tff_pipelines.server_update, tff_pipelines.evaluation
from tff_pipelines.algorithms import ALGORITHMS, Hyperparameters

ALGORITHMS["fedavg"].build(Hyperparameters())
print(tff_pipelines.probe.probe()[0], sum(type(one).__name__ == "ServiceManager" for one in gc.get_objects()))
"""


def test_tffs_own_context_is_gone_and_nothing_is_said_at_exit():
    """Its ServiceManager's destructor would raise at exit, where the order of Python's shutdown decides."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", SILENT], capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout, done.stderr) == ("6 0\n", "")
