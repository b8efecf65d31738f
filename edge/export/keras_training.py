"""One step of a Keras model's training and its score, as functions of tensors: in the exported file and in rounds."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from edge.export.keras_network import Network
from models.examples import MASK
from models.local_training import local_sgd

Tensors = Sequence[tf.Tensor]
Batch = Mapping[str, tf.Tensor]  # inputs, targets and mask by the names of the train signature
OfBatches = Mapping[str, tf.Tensor]  # of models.examples.ExampleBatches
TARGETS = "targets"


def sgd_step(
    network: Network, trained: Tensors, frozen: Tensors, batch: Batch, learning_rate: tf.Tensor
) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
    """Returns (the weights after a step of SGD, the mean loss before it, the number of examples) of one batch."""
    num_examples = tf.reduce_sum(batch[MASK])
    with tf.GradientTape() as tape:
        tape.watch(trained)
        terms = network.loss.by_example(apply(network, trained, frozen, batch, logits=True), batch[TARGETS])
        loss = tf.reduce_sum(terms * batch[MASK]) / tf.maximum(num_examples, 1.0)
    gradients = tape.gradient(loss, trained)
    after = tuple(value - learning_rate * gradient for value, gradient in zip(trained, gradients))
    return after, loss, num_examples


def score(network: Network, trained: Tensors, frozen: Tensors, batch: Batch) -> dict[str, tf.Tensor]:
    """Returns sums over a batch's examples: loss_sum, num_examples, and hits or, of a regressor, squared_error."""
    outputs = apply(network, trained, frozen, batch, logits=True)
    mask, loss, targets = batch[MASK], network.loss, batch[TARGETS]
    right = loss.hits if loss.num_classes else loss.squared_error
    return {
        "loss_sum": tf.reduce_sum(loss.by_example(outputs, targets) * mask),
        "num_examples": tf.reduce_sum(mask),
        score_name(loss.num_classes): tf.reduce_sum(right(outputs, targets) * mask),
    }


def score_name(num_classes: int) -> str:
    """Returns what the score of a model is called: that of a classifier, or of a regressor (0 classes)."""
    return "hits" if num_classes else "squared_error"


def apply(network: Network, trained: Tensors, frozen: Tensors, batch: Batch, logits: bool) -> tf.Tensor:
    """Returns the outputs of a batch; see Network.apply."""
    inputs = [batch[place.name] for place in network.inputs]
    return network.apply(network.values(trained, frozen), inputs, logits)


def build_training(network: Network) -> Callable:
    """Returns the function (weights, learning_rate, seed, batches) -> ClientResult, of tensors, that one client runs.

    An example counts as one position: num_tokens is num_examples. The seed has no effect.

    Source: McMahan et al. 2017, algorithm 1, ClientUpdate.
    """
    frozen_arrays = [variable.numpy() for variable in network.frozen]

    @tf.function(autograph=False)
    def train(
        start: Tensors, learning_rate: tf.Tensor, seed: tf.Tensor, batches: OfBatches
    ) -> collections.OrderedDict[str, tf.Tensor]:
        frozen = _constants(frozen_arrays)

        def step(i: tf.Tensor, weights: Tensors) -> tuple[Tensors, tf.Tensor, tf.Tensor]:
            batch = {name: array[i] for name, array in batches.items()}
            after, loss, num_examples = sgd_step(network, weights, frozen, batch, learning_rate)
            return after, loss * num_examples, num_examples

        return local_sgd(step, tuple(start), tf.shape(batches[MASK])[0], tf.reduce_sum(batches[MASK]))

    return train


def build_scoring(network: Network) -> Callable:
    """Returns the function (weights, batches) -> the sums of `score` over all batches, as an ordered dict."""
    frozen_arrays = [variable.numpy() for variable in network.frozen]
    names = ("loss_sum", "num_examples", score_name(network.loss.num_classes))

    @tf.function(autograph=False)
    def score_all(weights: Tensors, batches: OfBatches) -> collections.OrderedDict[str, tf.Tensor]:
        frozen = _constants(frozen_arrays)

        def step(i: tf.Tensor, sums: Tensors) -> tuple[tf.Tensor, Tensors]:
            of_batch = score(network, weights, frozen, {name: array[i] for name, array in batches.items()})
            return i + 1, tuple(total + of_batch[name] for total, name in zip(sums, names))

        zero = tuple(tf.constant(0.0) for _ in names)
        count = tf.shape(batches[MASK])[0]
        _, sums = tf.while_loop(lambda i, _: i < count, step, (0, zero), parallel_iterations=1)
        return collections.OrderedDict(zip(names, sums))

    return score_all


def _constants(arrays: Sequence[np.ndarray]) -> list[tf.Tensor]:
    return [tf.constant(array) for array in arrays]
