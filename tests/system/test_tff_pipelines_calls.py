"""What TFF's calls are given, and what comes back."""

from __future__ import annotations

import concurrent.futures as futures

import numpy as np
import pytest

from models.batches import build_batches
from models.local_training import build_trainer
from models.model import load_model
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize
from tff_pipelines.client_work import build_client_work
from tff_pipelines.runtime import Runtime

pytestmark = pytest.mark.slow

SIZE = ModelSize(vocabulary_size=31, embedding_size=4, num_cells=5)
TIME = 6
RATE = 0.5


@pytest.mark.parametrize(
    ("number", "per_call", "expected"),
    [
        (10, 2, [2, 2, 3, 3]),
        (7, 2, [2, 2, 2, 1]),
        (12, 2, [2] * 6),
        (14, 4, [4, 4, 3, 3]),
        (9, 4, [5, 4]),
        (12, 1, [1] * 12),
        (1, 2, [1]),
        (0, 2, []),
    ],
)
def test_the_last_calls_give_each_worker_a_share(number, per_call, expected):
    """Ten clients in five calls of two would give one worker six, and leave the other one without work."""
    sizes = []

    def work(values):
        sizes.append(len(values))
        return values

    workers = [HereAtOnce(), HereAtOnce()]
    runtime = Runtime([])
    runtime.workers.extend(workers)
    values = [np.float32(i) for i in range(number)]
    assert list(runtime.map_clients(work, (), iter(values), per_call)) == values
    assert sizes == expected


class HereAtOnce:
    """A worker that computes a call when it is given it, on this thread."""

    def submit(self, computation, *args):
        result = futures.Future()
        result.set_result(computation(*args))
        return result


def test_a_result_of_one_vector_is_that_of_a_client_without_tff():
    """Small counts are, as bits of a float32, numbers so small that arithmetic would make zeros of them."""
    rng = np.random.default_rng(0)
    clients = [
        [rng.integers(NUM_SPECIAL, SIZE.vocabulary_size, length).astype(np.int32) for length in lengths]
        for lengths in ([3, 5, 1], [2], [4, 4, 4, 4, 6])
    ]
    batches = [build_batches(sentences, batch_size=2, time=TIME) for sentences in clients]
    start, train = load_model(SIZE).initial_weights(2), build_trainer(SIZE, TIME)
    with Runtime("1") as runtime:
        work = build_client_work(SIZE, TIME)
        results = list(runtime.map_clients(work, (start, np.float32(RATE), np.int32(0)), batches, 2))
    for own, result in zip(batches, results):
        expected = train(start, RATE, 0, own)
        assert list(result) == list(expected)
        for name in ("num_tokens", "num_examples", "is_finite"):
            assert result[name] == expected[name] > 0, name
        assert float(result["loss_sum"]) == pytest.approx(float(expected["loss_sum"]), rel=1e-6)
        for mine, theirs in zip(result["delta"], expected["delta"]):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)
        assert len({id(tensor.base) for tensor in result["delta"]}) == 1
