"""What one client does in a round: SGD on its own batches, as a TensorFlow function. TFF traces the very same one."""

from __future__ import annotations

import collections
from collections.abc import Collection
from typing import Callable

import numpy as np
import tensorflow as tf

from models.batches import Batches
from models.client_result import ClientResult
from models.model import load_model
from models.network import Tensors
from models.next_word import Dropout, Pull, sgd_step
from models.weights import ModelSize, Weights

Trainer = Callable[[Weights, float, int, Batches], ClientResult]


def build_local_training(
    size: ModelSize,
    clip_norm: float = 0.0,
    proximal: float = 0.0,
    dropout: float = 0.0,
    frozen: Collection[str] = (),
) -> tf.function:
    """Returns the function (weights, learning_rate, seed, batches) -> ClientResult, of tensors, that one client runs.

    Source: McMahan et al. 2017, algorithm 1, ClientUpdate; with proximal Li et al. 2020 (FedProx), equation 2.

    Args:
      size: the model's size.
      clip_norm, proximal, dropout: see models.next_word.sgd_step; 0 switches each off. Without dropout the seed, an
        int32, has no effect.
      frozen: names of weights that no step changes, whose delta is zero.
    """
    model = load_model(size)

    @tf.function(autograph=False)  # its loop is a tf.while_loop; rewriting its source takes longer than tracing
    def train(
        start: Tensors, learning_rate: tf.Tensor, seed: tf.Tensor, batches: Batches
    ) -> collections.OrderedDict[str, tf.Tensor]:
        tokens, targets, mask = batches
        # Clients of a round share its seed: their own words make each one's dropout its own.
        client_seed = seed + tf.reduce_sum(tokens)

        def step(i: tf.Tensor, weights: Tensors) -> tuple[Tensors, tf.Tensor, tf.Tensor]:
            return sgd_step(
                model,
                weights,
                tokens[i],
                targets[i],
                mask[i],
                learning_rate,
                clip_norm,
                Pull(proximal, start) if proximal else None,
                Dropout(dropout, tf.stack([client_seed, 2 * i])) if dropout else None,
                frozen=frozen,
            )

        return local_sgd(step, start, tf.shape(tokens)[0], tf.reduce_sum(mask[:, :, 0]))

    return train


def local_sgd(
    step: Callable[[tf.Tensor, Tensors], tuple[Tensors, tf.Tensor, tf.Tensor]],
    start: Tensors,
    num_batches: tf.Tensor,
    num_examples: tf.Tensor,
) -> collections.OrderedDict[str, tf.Tensor]:
    """Returns a client's result, of tensors, after a step on each of its batches.

    Args:
      step: from (number of the batch, weights) to (weights after it, its loss summed over its positions, their number).
      start: the weights to begin at.
      num_batches: int32.
      num_examples: float32, of all batches.
    """

    def next_batch(
        i: tf.Tensor, weights: Tensors, loss_sum: tf.Tensor, num_tokens: tf.Tensor
    ) -> tuple[tf.Tensor, Tensors, tf.Tensor, tf.Tensor]:
        weights, loss, tokens_of_batch = step(i, weights)
        return i + 1, weights, loss_sum + loss, num_tokens + tokens_of_batch

    _, end, loss_sum, num_tokens = tf.while_loop(
        lambda i, *_: i < num_batches, next_batch, (0, start, 0.0, 0.0), parallel_iterations=1
    )
    delta = tuple(before - after for before, after in zip(start, end))
    finite = [tf.reduce_all(tf.math.is_finite(d)) for d in delta]
    return collections.OrderedDict(
        delta=delta,
        loss_sum=loss_sum,
        num_tokens=tf.cast(num_tokens, tf.int32),
        num_examples=tf.cast(num_examples, tf.int32),
        is_finite=tf.reduce_all(finite),
    )


def build_trainer(
    size: ModelSize,
    time: int,
    clip_norm: float = 0.0,
    proximal: float = 0.0,
    dropout: float = 0.0,
    frozen: Collection[str] = (),
) -> Trainer:
    """Returns build_local_training's function for arrays, without TFF.

    It is traced once, for any number of batches of any size.
    """
    scalar, ids = tf.TensorSpec([], tf.float32), tf.TensorSpec([None, None, time], tf.int32)
    train = build_local_training(size, clip_norm, proximal, dropout, frozen).get_concrete_function(
        tuple(tf.TensorSpec(shape, tf.float32) for shape in size.shapes),
        scalar,
        tf.TensorSpec([], tf.int32),
        Batches(ids, ids, tf.TensorSpec([None, None, time], tf.float32)),
    )

    def trainer(weights: Weights, learning_rate: float, seed: int, batches: Batches) -> ClientResult:
        result = train(
            tuple(map(tf.constant, weights)),
            tf.constant(np.float32(learning_rate)),
            tf.constant(np.int32(seed)),
            Batches(*map(tf.constant, batches)),
        )
        return tf.nest.map_structure(lambda tensor: tensor.numpy(), result)

    return trainer
