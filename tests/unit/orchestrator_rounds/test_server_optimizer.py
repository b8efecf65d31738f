"""The server's step by hand: against the mean update, by the learning rate."""

from __future__ import annotations

import numpy as np
import pytest

from models.weights import ModelSize
from orchestrator.rounds.server_optimizer import tff_optimizer
from orchestrator.settings.sections import ServerConfig
from tff_pipelines.algorithms import ALGORITHMS

pytestmark = pytest.mark.slow  # loads TFF

SIZE = ModelSize(5, 2, 3)
WEIGHTS = tuple(np.ones(shape, np.float32) for shape in SIZE.shapes)


def first_step(algorithm: str, mean: float) -> list[float]:
    """How far each weight moves in the first step of size 0.5, if the mean update is `mean` everywhere."""
    first_state, update = tff_optimizer(ServerConfig(algorithm=algorithm, epsilon=1e-3), SIZE)
    mean_delta = tuple(np.full(shape, mean, np.float32) for shape in SIZE.shapes)
    _, after = update(first_state(), WEIGHTS, mean_delta, 0.5)
    moved = np.concatenate([(new - old).ravel() for new, old in zip(after, WEIGHTS)])
    return [float(moved.min()), float(moved.max())]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_steps_against_the_mean_update(algorithm: str) -> None:
    assert first_step(algorithm, 0.25)[1] < 0 < first_step(algorithm, -0.25)[0]


@pytest.mark.parametrize("algorithm", ["fedavg", "fedavgm"])
def test_averaging_steps_by_the_mean_update_times_the_rate(algorithm: str) -> None:
    assert first_step(algorithm, 0.25) == [-0.125, -0.125]
