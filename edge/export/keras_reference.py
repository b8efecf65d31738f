"""What TensorFlow itself makes of a Keras model's training: made-up batches, and the weights after steps on them.

The gradient is TensorFlow's, of Keras's own layers and loss; nothing of edge.export.keras_layers is in it. An adapter's
follows by the chain rule from that of the weight it is added to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from edge.export.keras_network import Network, Weight

Batch = Mapping[str, np.ndarray]  # by the names of the train signature, all but learning_rate


def made_up_batches(network: Network, batch_size: int, num_batches: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Returns batches of nobody's data: normal numbers, uniform ids and classes; the last one is half filling."""
    rng = np.random.default_rng(seed)
    batches = []
    for step in range(num_batches):
        batch: dict[str, np.ndarray] = {}
        for place in network.inputs:
            shape = (batch_size, *place.shape)
            if place.num_ids:
                batch[place.name] = rng.integers(0, place.num_ids, shape).astype(np.int32)
            else:
                batch[place.name] = rng.standard_normal(shape).astype(np.float32)
        batch["targets"] = _targets(network, batch_size, rng)
        batch["mask"] = np.ones(batch_size, np.float32)
        if step == num_batches - 1:
            batch["mask"][batch_size - batch_size // 2 :] = 0
        batches.append(batch)
    return batches


def _targets(network: Network, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    loss, shape = network.loss, (batch_size, *network.loss.targets_shape)
    if loss.targets_dtype == "int32":
        return rng.integers(0, loss.num_classes, shape).astype(np.int32)
    if loss.num_classes > 1:
        return np.eye(loss.num_classes, dtype=np.float32)[rng.integers(0, loss.num_classes, shape[:-1])]
    if loss.num_classes == 1:
        return rng.integers(0, 2, shape).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float32)


def train_in_tensorflow(
    network: Network, batches: Sequence[Batch], learning_rate: float, reverse: bool = False
) -> tuple[tuple[np.ndarray, ...], list[float]]:
    """Returns the weights that train, after a step of SGD on each batch, and each step's loss before it.

    Args:
      network: its model's weights are as before afterwards.
      batches: of one size.
      learning_rate: of each step.
      reverse: take each batch's rows in reverse order, which changes nothing but rounding.
    """
    kept = [variable.numpy() for variable in network.model.weights]
    trained = [tf.Variable(weight.start) for weight in network.trainable]
    step = tf.function(build_step(network, trained, np.float32(learning_rate)))
    losses = []
    try:
        for batch in batches:
            rows = {name: tf.constant(value[::-1] if reverse else value) for name, value in batch.items()}
            losses.append(float(step(rows)))
        return tuple(variable.numpy() for variable in trained), losses
    finally:
        for variable, value in zip(network.model.weights, kept):
            variable.assign(value)


def build_step(
    network: Network, trained: Sequence[tf.Variable], learning_rate: np.float32
) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
    sides = _sides(network.trainable, trained)
    places = [_variable_of(network, ref) for ref in sides]
    starts = [tf.constant(variable.numpy()) for variable in places]
    loss_function = keras_loss(network, tf.keras.losses.Reduction.NONE)

    def step(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        for variable, start, parts in zip(places, starts, sides.values()):
            variable.assign(parts[0] if len(parts) == 1 else start + tf.matmul(parts[0], parts[1]))
        inputs = [batch[place.name] for place in network.inputs]
        with tf.GradientTape() as tape:
            outputs = network.model(inputs if len(inputs) > 1 else inputs[0], training=False)
            terms = loss_function(batch["targets"], outputs)
            terms = tf.reduce_mean(terms, list(range(1, len(terms.shape)))) if len(terms.shape) > 1 else terms
            loss = tf.reduce_sum(terms * batch["mask"]) / tf.maximum(tf.reduce_sum(batch["mask"]), 1.0)
        for gradient, parts in zip(map(tf.convert_to_tensor, tape.gradient(loss, places)), sides.values()):
            if len(parts) == 1:
                parts[0].assign_sub(learning_rate * gradient)
                continue
            left, right = parts
            of_left = tf.matmul(gradient, right, transpose_b=True)
            of_right = tf.matmul(left, gradient, transpose_a=True)
            left.assign_sub(learning_rate * of_left)
            right.assign_sub(learning_rate * of_right)
        return loss

    return step


def _sides(weights: Sequence[Weight], trained: Sequence[tf.Variable]) -> dict[object, list[tf.Variable]]:
    sides: dict[object, list[tf.Variable]] = {}
    for weight, variable in zip(weights, trained):
        sides.setdefault(weight.variable.ref(), []).append(variable)
    return sides


def _variable_of(network: Network, ref: object) -> tf.Variable:
    return next(weight.variable for weight in network.trainable if weight.variable.ref() == ref)


def keras_loss(network: Network, reduction: str) -> tf.keras.losses.Loss:
    """Returns Keras's loss; it finds the logits before a last softmax or sigmoid by itself.

    Args:
      network: whose loss.
      reduction: Keras's name of how the loss of each position becomes one number; NONE leaves them.
    """
    build = {
        "sparse_categorical_crossentropy": tf.keras.losses.SparseCategoricalCrossentropy,
        "categorical_crossentropy": tf.keras.losses.CategoricalCrossentropy,
        "binary_crossentropy": tf.keras.losses.BinaryCrossentropy,
        "mean_squared_error": tf.keras.losses.MeanSquaredError,
        "mean_absolute_error": tf.keras.losses.MeanAbsoluteError,
    }[network.loss.name]
    settings = {"from_logits": network.loss.from_logits} if network.loss.takes_logits else {}
    return build(reduction=reduction, **settings)
