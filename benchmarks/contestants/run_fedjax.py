"""FedJAX in the race: its federated_averaging with its jit backend, in one process of as many threads as cores.

The model is models/cifg_lstm.py in JAX. XLA takes no shape that depends on values: the recurrence computes the padding,
and the output layer, where most of the time goes, only the real positions of a batch, filled up to a multiple of 32.
Each number of positions is compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
from fedjax.algorithms.fed_avg import federated_averaging
from work import CLIENT_LEARNING_RATE, SERVER_LEARNING_RATE, SERVER_MOMENTUM, ClientWork, Progress, arguments, read_work

MULTIPLE = 32  # of positions

jax.tree_map = jax.tree_util.tree_map  # FedJAX 0.0.17 calls it by its old name


def batch_of(tokens: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what the gradient needs of a batch: time-major tokens, and its real positions, filled up."""
    (positions,) = np.nonzero(mask.T.reshape(-1))
    num_filled = -(-len(positions) // MULTIPLE) * MULTIPLE
    share = np.zeros(num_filled, np.float32)
    share[: len(positions)] = 1.0 / len(positions)
    filled = np.resize(positions, num_filled)
    return {"tokens": tokens.T, "positions": filled, "targets": targets.T.reshape(-1)[filled], "share": share}


class Prepared:
    """A client's batches of one round, in place of fedjax.ClientDataset, which would shuffle them."""

    def __init__(self, client: ClientWork):
        self._client = client

    def __len__(self) -> int:
        return self._client.num_examples

    def shuffle_repeat_batch(self, hparams: None) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batches in their order."""
        return (batch_of(*batch) for batch in zip(*self._client))


def loss(params, batch):
    """Returns the mean cross-entropy over the real positions."""
    embedding, kernel, bias, projection, output_bias = params
    num_cells, width = projection.shape
    from_input = embedding[batch["tokens"]] @ kernel[:width] + bias  # [time, batch, 3 num_cells]
    hidden, cell, after = jnp.zeros((from_input.shape[1], width)), 0.0, []
    for step, gates in enumerate(from_input):
        if step:
            gates = gates + hidden @ kernel[width:]
        forget, output = jax.nn.sigmoid(gates[:, :num_cells]), jax.nn.sigmoid(gates[:, num_cells : 2 * num_cells])
        candidate = jnp.tanh(gates[:, 2 * num_cells :])
        cell = candidate + forget * (cell - candidate)
        hidden = (output * jnp.tanh(cell)) @ projection
        after.append(hidden)
    rows = jnp.concatenate(after)[batch["positions"]]
    log_probability = jax.nn.log_softmax(rows @ embedding.T + output_bias)
    picked = jnp.take_along_axis(log_probability, batch["targets"][:, None], 1)[:, 0]
    return -(picked * batch["share"]).sum()


def main() -> None:
    """Runs the rounds."""
    path, address, _ = arguments()
    work, progress = read_work(path), Progress(address)
    gradient = jax.grad(loss)
    algorithm = federated_averaging(
        lambda params, batch, rng: gradient(params, batch),
        fedjax.optimizers.sgd(CLIENT_LEARNING_RATE),
        fedjax.optimizers.sgd(SERVER_LEARNING_RATE, momentum=SERVER_MOMENTUM),
        None,
    )
    state = algorithm.init(tuple(map(jnp.asarray, work.start)))
    rng = jax.random.PRNGKey(0)  # nothing draws from it
    progress.begin()
    for clients in work.rounds:
        state, _ = algorithm.apply(state, [(str(i), Prepared(client), rng) for i, client in enumerate(clients)])
        jax.block_until_ready(state.params)
        progress.round_done()
    progress.end(work.start, list(map(np.asarray, state.params)))


if __name__ == "__main__":
    main()
