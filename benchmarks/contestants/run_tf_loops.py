"""Plain TensorFlow loops in the race: fedkeys' own step of SGD in two processes of one thread, and nothing around it.

Each process trains half of a round's clients and sends back one weighted sum of their changes. The mean and the
server's step are NumPy's. This is what a round costs without TensorFlow Federated, encoding or a secure sum.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from work import (
    CLIENT_LEARNING_RATE,
    SERVER_LEARNING_RATE,
    SERVER_MOMENTUM,
    ClientWork,
    Progress,
    Weights,
    arguments,
    read_work,
)

from models.weights import ModelSize

NUM_PROCESSES = 2


def serve(pipe: Connection, size: ModelSize) -> None:
    """Trains the clients that it is sent until it is sent None; answers with the weighted sum of their changes."""
    import tensorflow as tf

    from models.model import load_model
    from models.next_word import sgd_step

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = load_model(size)
    step = tf.function(lambda weights, *batch: sgd_step(model, weights, *batch, CLIENT_LEARNING_RATE)[0])

    def change(start: Sequence[tf.Tensor], client: ClientWork) -> list[np.ndarray]:
        weights = tuple(start)
        for batch in zip(*client):
            weights = step(weights, *map(tf.constant, batch))
        return [client.num_examples * (before - after).numpy() for before, after in zip(start, weights)]

    pipe.send("ready")
    while (message := pipe.recv()) is not None:
        weights, clients = message
        start = tuple(map(tf.constant, weights))
        pipe.send([sum(parts) for parts in zip(*(change(start, client) for client in clients))])


def one_round(pipes: Sequence[Connection], weights: Weights, clients: Sequence[ClientWork]) -> list[np.ndarray]:
    """Returns the mean change of the clients, weights before minus after."""
    for i, pipe in enumerate(pipes):
        pipe.send((weights, clients[i :: len(pipes)]))
    num_examples = sum(client.num_examples for client in clients)
    return [sum(parts) / np.float32(num_examples) for parts in zip(*(pipe.recv() for pipe in pipes))]


def main() -> None:
    """Runs the rounds."""
    path, address, _ = arguments()
    work, progress = read_work(path), Progress(address)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(NUM_PROCESSES):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, ModelSize.of(work.start))))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    weights, velocity = list(work.start), [np.zeros_like(w) for w in work.start]
    progress.begin()
    for clients in work.rounds:
        mean = one_round(pipes, weights, clients)
        velocity = [SERVER_MOMENTUM * v + d for v, d in zip(velocity, mean)]
        weights = [w - SERVER_LEARNING_RATE * v for w, v in zip(weights, velocity)]
        progress.round_done()
    progress.end(work.start, weights)
    for pipe, process in zip(pipes, processes):
        pipe.send(None)
        process.join()


if __name__ == "__main__":
    main()
