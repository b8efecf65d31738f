"""FedBuff: the server steps from updates that started at different versions of the weights.

Each client trains from the version that it downloaded, and its update is scaled down by how stale it is before it is
encoded, so that any sum that does not need its cohort beforehand can carry it: plain, split and encrypted. Pairwise
masks can't: they are agreed on within a cohort before anyone trains, and a buffer's members are known only once they
have uploaded.

Source: Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", algorithm 1, with its scaling
1 / sqrt(1 + staleness).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from models.batches import Batches
from models.client_result import ClientResult
from models.weights import Weights
from orchestrator.aggregator import Cohort
from orchestrator.rounds.types import RoundFunctions, ServerState


def staleness_scale(staleness: int, exponent: float) -> float:
    """Returns the factor of an update whose client downloaded the weights `staleness` steps of the server ago.

    >>> staleness_scale(0, 0.5), staleness_scale(3, 0.5)
    (1.0, 0.5)
    """
    return float((1.0 + staleness) ** -exponent)


def buffered_functions(
    functions: RoundFunctions, cohort: Cohort, state: ServerState, exponent: float
) -> RoundFunctions:
    """Returns a round's functions for one buffered step: members train from their versions, and updates are scaled.

    Args:
      functions: the functions of a synchronous round.
      cohort: the buffer, whose members are sorted by staleness, so that those of one version train together.
      state: the server's state, with the weights and the earlier ones.
      exponent: the exponent of the scaling.

    Raises:
      ValueError: a member's version is no longer kept.
    """
    groups = [
        (staleness, len(list(members)))
        for staleness, members in itertools.groupby(cohort.staleness.get(m, 0) for m in cohort.members)
    ]
    versions = (state.weights, *state.earlier)
    oldest = max((staleness for staleness, _ in groups), default=0)
    if oldest >= len(versions):
        raise ValueError(f"staleness must be below the {len(versions)} versions that are kept, got {oldest}")

    def train_clients(
        weights: Weights, learning_rate: float, seed: int, batches: Iterable[Batches]
    ) -> Iterator[ClientResult]:
        remaining = iter(batches)
        for staleness, count in groups:
            scale = np.float32(staleness_scale(staleness, exponent))
            own = itertools.islice(remaining, count)
            for result in functions.train_clients(versions[staleness], learning_rate, seed, own):
                yield {**result, "delta": tuple(scale * np.asarray(d) for d in result["delta"])}

    return replace(functions, train_clients=train_clients)


def remember(after: ServerState, before: ServerState, num_kept: int) -> ServerState:
    """Returns the state after a step, with the earlier versions that phones still work from, newest first."""
    return replace(after, earlier=(before.weights, *before.earlier)[:num_kept])
