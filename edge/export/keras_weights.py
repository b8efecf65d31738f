"""A network with other weights than its file's: to go on from, and to write back as a .keras file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from edge.errors import ExportError
from edge.export.keras_network import Network
from edge.export.keras_reference import keras_loss


def with_weights(network: Network, weights: Sequence[np.ndarray]) -> Network:
    """Returns the network with these weights as those that training begins at; adapters stay adapters.

    Args:
      network: of the model.
      weights: those that train, in their order.

    Raises:
      ExportError: they have other shapes, or are not finite.
    """
    for weight, value in zip(network.trainable, weights):
        if value.shape != weight.start.shape or not np.isfinite(value).all():
            raise ExportError(f"the weight {weight.name} must be finite and have the shape {weight.start.shape}")
    started = zip(network.trainable, weights)
    return replace(
        network, trainable=tuple(replace(weight, start=value.astype(np.float32)) for weight, value in started)
    )


def write_keras(network: Network, path: Path) -> None:
    """Writes the Keras model with the network's weights, adapters added to what they adapt; whole or not at all.

    Raises:
      ExportError: the name does not end in .keras.
      OSError: it can't be written.
    """
    if path.suffix != ".keras":
        raise ExportError(f"{path} must end in .keras: name another file")
    model, kept = network.model, [variable.numpy() for variable in network.model.weights]
    partial = path.with_name(f".{secrets.token_hex(4)}.partial.keras")
    try:
        _assign(network)
        model.compile("sgd", keras_loss(network, tf.keras.losses.Reduction.AUTO))
        model.save(str(partial))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
        for variable, value in zip(model.weights, kept):
            variable.assign(value)


def _assign(network: Network) -> None:
    left = np.zeros(0)
    for weight in network.trainable:
        if weight.side is None:
            weight.variable.assign(weight.start)
        elif weight.side == 0:
            left = weight.start
        else:
            weight.variable.assign_add(left @ weight.start)
