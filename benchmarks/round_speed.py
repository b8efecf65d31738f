"""How much TFF adds to a round: the same batches through TFF's workers and through plain tf.function loops.

Both sides have two processes of one thread each, the best setting on two cores, and take turns in one run; equal work
is asserted (the same weights come out). Then whole rounds under secure aggregation and with a plain sum, in turns,
which must give the same weights too; the fixed cost of a client; and what a large cohort holds in memory.

    python benchmarks/round_speed.py [--json] [--repeats 7] [--batches 16]
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import msgspec
import numpy as np
import psutil

CLIENTS, BATCH, TIME = 10, 16, 20
CLIP_NORM = 1.0
LEARNING_RATE = 0.5


def client_batches(seed: int, num_batches: int, real_share: float, vocabulary_size: int):
    """One client's random batches; `real_share` of the positions are real, sentence lengths geometric below 1."""
    from models.batches import Batches

    rng = np.random.default_rng(seed)
    shape = (num_batches, BATCH, TIME)
    tokens, targets = (rng.integers(4, vocabulary_size, shape, dtype=np.int32) for _ in range(2))
    lengths = np.full(shape[:2], TIME)
    if real_share < 1:
        # A geometric length, cut to 2..TIME, whose mean is the wanted share.
        candidates = [np.clip(rng.geometric(p, shape[:2]), 2, TIME) for p in np.linspace(0.05, 0.4, 60)]
        lengths = min(candidates, key=lambda c: abs(c.mean() / TIME - real_share)) if num_batches else lengths
    mask = (np.arange(TIME) < lengths[:, :, None]).astype(np.float32)
    return Batches(tokens, targets, mask)


def plain_process(pipe, size) -> None:
    """Trains the clients that it is sent, in a plain tf.function loop of one thread."""
    import tensorflow as tf

    from models.model import load_model
    from models.next_word import sgd_step

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = load_model(size)
    step = tf.function(lambda w, x, y, m: sgd_step(model, w, x, y, m, LEARNING_RATE, CLIP_NORM))
    while True:
        message = pipe.recv()
        if message is None:
            return
        start, clients = message
        start = tuple(map(tf.constant, start))
        clients = [[tuple(map(tf.constant, batch)) for batch in zip(*batches)] for batches in clients]
        pipe.send("ready")
        while pipe.recv() == "go":
            deltas = []
            for batches in clients:
                weights = start
                for batch in batches:
                    weights, _, _ = step(weights, *batch)
                deltas.append([(a - b).numpy() for a, b in zip(start, weights)])
            pipe.send(None)
        pipe.send(deltas)


class PlainLoops:
    """Two processes of one thread each."""

    def __init__(self, size):
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=plain_process, args=(theirs, size), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def load(self, start, clients) -> None:
        half = len(clients) // 2
        for pipe, own in zip(self._pipes, (clients[:half], clients[half:])):
            pipe.send((start, own))
        for pipe in self._pipes:
            pipe.recv()

    def run(self) -> float:
        began = time.perf_counter()
        for pipe in self._pipes:
            pipe.send("go")
        for pipe in self._pipes:
            pipe.recv()
        return time.perf_counter() - began

    def deltas(self):
        for pipe in self._pipes:
            pipe.send("give")
        return [delta for pipe in self._pipes for delta in pipe.recv()]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()


def compare(runtime, plain, work, start, clients, repeats: int) -> dict[str, float]:
    """Median ms a client-batch on both sides, alternately timed, and their ratio."""
    args = (start, np.float32(LEARNING_RATE), np.int32(0))

    def tff_round():
        began = time.perf_counter()
        results = list(runtime.map_clients(work, args, clients, CLIENTS // 2))
        return time.perf_counter() - began, results

    plain.load(start, clients)
    for _ in range(2):
        plain.run()
        _, results = tff_round()
    times = {"tff": [], "plain": []}
    for _ in range(repeats):
        times["tff"].append(tff_round()[0])
        times["plain"].append(plain.run())
    for mine, theirs in zip(results, plain.deltas()):
        for a, b in zip(mine["delta"], theirs):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg="the two sides did not do equal work")
    num_batches = sum(len(c.tokens) for c in clients)
    per_batch = {side: 1e3 * statistics.median(t) / num_batches for side, t in times.items()}
    return {
        "tff_ms_per_client_batch": round(per_batch["tff"], 3),
        "plain_ms_per_client_batch": round(per_batch["plain"], 3),
        "ratio": round(per_batch["tff"] / per_batch["plain"], 3),
        "tff_client_batches_per_s": round(1e3 / per_batch["tff"], 1),
        "tff_p90_over_median": round(float(np.percentile(times["tff"], 90)) / statistics.median(times["tff"]), 3),
        "real_share": round(float(np.mean([c.mask.mean() for c in clients])), 3),
        "repeats": repeats,
    }


def compare_sums(runtime, work, start, clients, repeats: int) -> dict[str, float]:
    """Median wall seconds of a whole round, from training to the new weights, by aggregator, alternately timed."""
    from models.corpus import ClientId
    from models.weights import ModelSize
    from orchestrator.aggregator import Cohort
    from orchestrator.rounds.build import NoStopwatch, build_aggregator, build_encoder, client_weight
    from orchestrator.rounds.round import run_round
    from orchestrator.rounds.types import RoundFunctions, ServerState
    from orchestrator.settings.files import read_config

    members = tuple(ClientId(f"client {i}") for i in range(len(clients)))
    batches = dict(zip(members, clients))

    def one_round(name: str) -> tuple[float, str]:
        most = max(own.tokens.shape[0] for own in clients) * BATCH
        config = read_config(
            preset="gboard", overrides={"rounds.cohort_size": len(clients), "client.max_sentences": most}
        )

        def train(weights, learning_rate, seed, own):
            return runtime.map_clients(work, (weights, np.float32(learning_rate), np.int32(seed)), own, CLIENTS // 2)

        functions = RoundFunctions(
            batches_of=lambda member, rng: batches[member],
            train_clients=train,
            weight_of=lambda update: client_weight(config.client, update.num_tokens, update.num_examples),
            encoder=build_encoder(config, ModelSize.of(start)),
            aggregator=aggregators[name],
            update_server=lambda state, weights, delta, rate: (state, tuple(w - d for w, d in zip(weights, delta))),
        )
        began = time.perf_counter()
        _, report = run_round(
            ServerState(0, start, ()),
            Cohort(1, members, 2),
            functions,
            seed=0,
            client_learning_rate=LEARNING_RATE,
            server_learning_rate=1.0,
            stopwatch=NoStopwatch(),
        )
        assert report.outcome == "completed", report.reason
        return time.perf_counter() - began, report.weights_sha256

    aggregation = read_config(preset="gboard").aggregation
    aggregators = {
        name: build_aggregator(msgspec.structs.replace(aggregation, aggregator=name)) for name in ("plain", "secagg")
    }
    digests = {one_round(name)[1] for name in aggregators}
    assert len(digests) == 1, "the two sums did not give the same weights"
    times: dict[str, list[float]] = {name: [] for name in aggregators}
    for _ in range(repeats):
        for name in aggregators:
            times[name].append(one_round(name)[0])
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "plain_s": round(median["plain"], 3),
        "secagg_s": round(median["secagg"], 3),
        "secagg_over_plain": round(median["secagg"] / median["plain"], 3),
        "repeats": repeats,
    }


def cohort_cost(runtime, work, start, num_clients: int) -> dict[str, float]:
    """CPU ms a client without batches, all processes together, and their peak memory."""
    processes = [psutil.Process(), *(psutil.Process(worker.pid) for worker in runtime.workers)]
    args = (start, np.float32(LEARNING_RATE), np.int32(0))
    nothing = client_batches(0, 0, 1.0, 100)
    list(runtime.map_clients(work, args, [nothing] * 10, 5))
    cpu_s = sum(sum(p.cpu_times()[:2]) for p in processes)
    peak = 0
    for number, _ in enumerate(runtime.map_clients(work, args, (nothing for _ in range(num_clients)), 5)):
        if number % 10 == 0:
            peak = max(peak, sum(p.memory_info().rss for p in processes))
    cpu_s = sum(sum(p.cpu_times()[:2]) for p in processes) - cpu_s
    return {
        "clients": num_clients,
        "fixed_ms_per_client": round(1e3 * cpu_s / num_clients, 2),
        "peak_rss_mib": round(peak / 2**20),
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--repeats", default=7, show_default=True)
@click.option("--batches", "num_batches", default=16, show_default=True, help="Batches a client.")
def main(as_json: bool, repeats: int, num_batches: int) -> None:
    """Time TFF rounds against plain loops."""
    from importlib import metadata

    import tensorflow as tf

    from models.model import load_model
    from models.weights import ModelSize
    from tff_pipelines.client_work import build_client_work
    from tff_pipelines.runtime import Runtime

    size = ModelSize(vocabulary_size=10_000, embedding_size=96, num_cells=670)
    start = load_model(size).initial_weights(0)
    figures: dict = {"clients": CLIENTS, "batches": num_batches, "sentences": BATCH, "time": TIME}
    with Runtime("2") as runtime:
        plain = PlainLoops(size)
        work = build_client_work(size, TIME, CLIP_NORM)
        for name, share in (("dense", 1.0), ("ragged", 0.4)):
            clients = [client_batches(i, num_batches, share, size.vocabulary_size) for i in range(CLIENTS)]
            figures[name] = compare(runtime, plain, work, start, clients, repeats)
            click.echo(f"{name}: {figures[name]}", err=True)
            figures[name]["round"] = compare_sums(runtime, work, start, clients, repeats)
            click.echo(f"{name}, whole rounds: {figures[name]['round']}", err=True)
        plain.close()
        figures["cohorts"] = [cohort_cost(runtime, work, start, n) for n in (10, 100, 1000)]
        figures["fixed_ms_per_client"] = figures["cohorts"][-1]["fixed_ms_per_client"]
    figures["machine"] = {"cores": os.cpu_count(), "python": platform.python_version(), "tensorflow": tf.__version__,
                          "tensorflow_federated": metadata.version("tensorflow-federated")}  # fmt: skip
    if as_json:
        click.echo(msgspec.json.encode(figures).decode())
        return
    for row in figures["cohorts"]:
        click.echo(row)


if __name__ == "__main__":
    main()
