"""The server's step without TFF's workers: what rounds that begin outside of them take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models.weights import ModelSize, Weights
from orchestrator.settings.sections import ServerConfig

Optimizer = tuple[
    Callable[[], Any],  # the first state
    Callable[[Any, Weights, Weights, float], tuple[Any, Weights]],  # as in orchestrator.rounds.types.RoundFunctions
]


def tff_optimizer(server: ServerConfig, size: ModelSize) -> Optimizer:
    """Returns the optimiser that training in TFF uses, in this process: no worker is needed for one step a round."""
    import tensorflow as tf

    from tff_pipelines.server_update import build_server_optimizer

    optimizer = build_server_optimizer(server.algorithm, server.momentum, server.beta_2, server.epsilon)

    def to_arrays(tree: Any) -> Any:
        return tf.nest.map_structure(lambda leaf: tf.convert_to_tensor(leaf).numpy(), tree)  # floats as float32

    def first_state() -> Any:
        specs = tuple(tf.TensorSpec(shape, tf.float32) for shape in size.shapes)
        return to_arrays(optimizer.initialize(specs))

    @tf.function
    def step(state: Any, weights: Any, mean_delta: Any, learning_rate: Any) -> Any:
        return optimizer.next(optimizer.set_hparams(state, {"learning_rate": learning_rate}), weights, mean_delta)

    def update(state: Any, weights: Weights, mean_delta: Weights, learning_rate: float) -> tuple[Any, Weights]:
        arguments = tf.nest.map_structure(tf.constant, (state, tuple(weights), tuple(mean_delta)))
        return to_arrays(step(*arguments, tf.constant(np.float32(learning_rate))))

    return first_state, update
