"""Federated evaluation: people's sentences are scored where they are, and only sums come back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, Optional

import numpy as np

from models.batches import Batches, build_batches
from models.client_data import Sentences
from models.corpus import ClientId
from models.metrics import ClientSums
from models.weights import Weights
from orchestrator.errors import Diverged
from tff_pipelines.runtime import Runtime

_BATCH_SIZE = 32


def evaluation_batches(
    people: Mapping[ClientId, Sentences], time_steps: int, max_sentences: Optional[int] = None
) -> list[Batches]:
    """Returns each person's sentences in their order, batched for scoring.

    The ids are the vocabulary's, not the model's.
    """
    return [
        build_batches(own, batch_size=_BATCH_SIZE, time=time_steps, max_sentences=max_sentences)
        for own in people.values()
    ]


def federated_sums(
    runtime: Runtime, evaluation: Callable, weights: Weights, batches: Iterable[Batches], clients_per_call: int
) -> ClientSums:
    """Returns sums per person, by federated evaluation. A worker's call takes ten times `clients_per_call` people.

    Raises:
      Diverged: the weights are not finite.
    """
    results = list(runtime.map_clients(evaluation, (weights,), batches, 10 * clients_per_call))
    sums = client_sums(results)
    if not np.isfinite(sums.nll_sum_nats).all():
        raise Diverged("the model's weights are no longer finite: lower client.learning_rate or server.learning_rate")
    return sums


def client_sums(results: Sequence[Mapping[str, int | float]]) -> ClientSums:
    """Returns the metric's sums, from what the TFF evaluation gives for each client."""
    return ClientSums(
        hits1=np.array([r["hits1"] for r in results], np.int64),
        hits3=np.array([r["hits3"] for r in results], np.int64),
        nll_sum_nats=np.array([r["nll_sum"] for r in results], np.float64),
        positions=np.array([r["positions"] for r in results], np.int64),
        oov=np.array([r["oov"] for r in results], np.int64),
    )
