"""The server half of a federated round: one step of the server's optimiser along the mean update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from models.network import Tensors
from models.weights import ModelSize
from tff_pipelines.algorithms import ALGORITHMS, Hyperparameters
from tff_pipelines.client_work import weights_type
from tff_pipelines.framework import tff

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

ServerOptimizer: TypeAlias = tff.learning.optimizers.Optimizer
State = Mapping[str, object]  # of TFF's optimiser: its settings and its moments


class ServerUpdate(NamedTuple):
    """The server half: two TFF computations."""

    initialize: tff.Computation  # () -> state@SERVER
    next: tff.Computation  # (state, weights, mean delta, learning_rate, all @SERVER) -> (state, weights)@SERVER


def build_server_optimizer(
    algorithm: str,
    momentum: float = 0.9,
    beta_2: float = 0.99,
    epsilon: float = 1e-6,
    learning_rate: float = 1.0,
) -> ServerOptimizer:
    """Returns TFF's optimiser for a federated algorithm; see tff_pipelines.algorithms.

    Raises:
      ValueError: nobody knows the algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got algorithm={algorithm!r}")
    return ALGORITHMS[algorithm].build(Hyperparameters(momentum, beta_2, epsilon, learning_rate))


def build_server_update(size: ModelSize, optimizer: ServerOptimizer) -> ServerUpdate:
    """Returns the server half for models of this size."""
    specs = tuple(tf.TensorSpec(shape, tf.float32) for shape in size.shapes)
    model_type = weights_type(size)

    @tff.tensorflow.computation
    def initial_state() -> State:
        return optimizer.initialize(specs)

    state_type = initial_state.type_signature.result

    @tff.tensorflow.computation(state_type, model_type, model_type, np.float32)
    def step(
        state: State, weights: Tensors, mean_delta: Tensors, learning_rate: tf.Tensor
    ) -> tuple[State, tuple[tf.Tensor, ...]]:
        state = optimizer.set_hparams(state, {"learning_rate": learning_rate})
        return optimizer.next(state, tuple(weights), tuple(mean_delta))

    @tff.federated_computation
    def initialize() -> tff.Value:
        return tff.federated_eval(initial_state, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER),
        tff.FederatedType(model_type, tff.SERVER),
        tff.FederatedType(model_type, tff.SERVER),
        tff.FederatedType(np.float32, tff.SERVER),
    )
    def next_fn(state: tff.Value, weights: tff.Value, mean_delta: tff.Value, learning_rate: tff.Value) -> tff.Value:
        return tff.federated_map(step, (state, weights, mean_delta, learning_rate))

    return ServerUpdate(initialize, next_fn)
