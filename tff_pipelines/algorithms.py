"""The server's algorithms, as rows: each builds its optimiser from its settings. TFF is loaded by `build` only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tff_pipelines.framework import tff


@dataclass(frozen=True)
class Hyperparameters:
    """What an algorithm's optimiser is built from.

    Attributes:
      momentum: FedAvgM's momentum; beta_1 of FedAdam and FedYogi.
      beta_2: decay of the second moment.
      epsilon: the adaptivity (tau in Reddi et al. 2021).
      learning_rate: of the first round; each round sets its own.
    """

    momentum: float = 0.9
    beta_2: float = 0.99
    epsilon: float = 1e-6
    learning_rate: float = 1.0


Build = Callable[[Hyperparameters], "tff.learning.optimizers.Optimizer"]


@dataclass(frozen=True)
class Algorithm:
    """A server optimiser for a federated algorithm.

    Attributes:
      build: its optimiser, whose `next` takes the step against the mean update.
      source: where it is published.
    """

    build: Build
    source: str


def _optimizers() -> ModuleType:
    from tff_pipelines.framework import tff

    return tff.learning.optimizers


def _fedavg(h: Hyperparameters) -> tff.learning.optimizers.Optimizer:
    return _optimizers().build_sgdm(h.learning_rate)


def _fedavgm(h: Hyperparameters) -> tff.learning.optimizers.Optimizer:
    return _optimizers().build_sgdm(h.learning_rate, h.momentum)


# TFF's Adam and Yogi correct the bias of their moments, which algorithm 2 of Reddi et al. does not: the early steps
# differ, the later ones don't.
def _fedadam(h: Hyperparameters) -> tff.learning.optimizers.Optimizer:
    return _optimizers().build_adam(h.learning_rate, h.momentum, h.beta_2, h.epsilon)


# The initial second moment of Yogi and Adagrad is the square of epsilon.
def _fedyogi(h: Hyperparameters) -> tff.learning.optimizers.Optimizer:
    return _optimizers().build_yogi(h.learning_rate, h.momentum, h.beta_2, h.epsilon, h.epsilon**2)


def _fedadagrad(h: Hyperparameters) -> tff.learning.optimizers.Optimizer:
    return _optimizers().build_adagrad(h.learning_rate, h.epsilon**2, h.epsilon)


_REDDI = 'Reddi et al. 2021, "Adaptive federated optimization", algorithm 2'
ALGORITHMS: dict[str, Algorithm] = {
    "fedadam": Algorithm(_fedadam, _REDDI),
    "fedavg": Algorithm(_fedavg, "McMahan et al. 2017, algorithm 1"),
    "fedavgm": Algorithm(_fedavgm, "Hsu et al. 2019"),
    "fedyogi": Algorithm(_fedyogi, _REDDI),
    "fedadagrad": Algorithm(_fedadagrad, _REDDI),
}
