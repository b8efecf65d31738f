"""Takes the server's step in this process: sending the model to a worker and back would take ten times as long."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from models.weights import Shaped, Weights
from orchestrator.settings.sections import ServerConfig

if TYPE_CHECKING:
    from tff_pipelines.server_update import ServerOptimizer

Optimizer = tuple[
    Callable[[], Any],  # the first state
    Callable[[Any, Weights, Weights, float], tuple[Any, Weights]],  # as in orchestrator.rounds.types.RoundFunctions
]


def build_optimizer(server: ServerConfig) -> ServerOptimizer:
    """Returns the server's optimiser that the settings name, from TFF."""
    from tff_pipelines.server_update import build_server_optimizer

    return build_server_optimizer(server.algorithm, server.momentum, server.beta_2, server.epsilon)


def tff_optimizer(server: ServerConfig, size: Shaped) -> Optimizer:
    """Returns the first state and the step of the optimiser that the settings name."""
    return steps_of(build_optimizer(server), size)


def steps_of(optimizer: ServerOptimizer, size: Shaped) -> Optimizer:
    """Returns the first state and the step of a TFF optimiser, run in this process.

    tff_pipelines.server_update.build_server_update is the same step as a TFF computation; a test compares the two. The
    arrays that the step returns are read-only, so a worker to which they were sent can keep them.
    """
    import tensorflow as tf

    def to_array(leaf: Any) -> np.ndarray:
        array = tf.convert_to_tensor(leaf).numpy()  # floats as float32
        if isinstance(array, np.ndarray):
            array.setflags(write=False)
        return array

    def first_state() -> Any:
        specs = tuple(tf.TensorSpec(shape, tf.float32) for shape in size.shapes)
        return tf.nest.map_structure(to_array, optimizer.initialize(specs))

    # TFF's own optimisers branch on no tensor. To rewrite their source as if they did takes a second.
    @tf.function(autograph=not type(optimizer).__module__.startswith("tensorflow_federated."))
    def step(state: Any, weights: Any, mean_delta: Any, learning_rate: Any) -> Any:
        return optimizer.next(optimizer.set_hparams(state, {"learning_rate": learning_rate}), weights, mean_delta)

    def update(state: Any, weights: Weights, mean_delta: Weights, learning_rate: float) -> tuple[Any, Weights]:
        arguments = tf.nest.map_structure(tf.constant, (state, tuple(weights), tuple(mean_delta)))
        return tf.nest.map_structure(to_array, step(*arguments, tf.constant(np.float32(learning_rate))))

    return first_state, update
