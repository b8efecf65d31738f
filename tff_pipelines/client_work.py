"""The client half of a federated round: local SGD at CLIENTS, as one TFF computation."""

from __future__ import annotations

import collections
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Callable, Union

import numpy as np
import tensorflow as tf

from models.batches import Batches
from models.client_result import ClientResult
from models.local_training import build_local_training
from models.network import Tensors
from models.weights import ModelSize, Shaped
from tff_pipelines.framework import tff

Data = Union[Batches, Mapping[str, tf.Tensor]]  # one client's, of tensors
Train = Callable[..., "collections.OrderedDict[str, tf.Tensor]"]  # of one kind of Data
ClientWork = Callable[..., list[ClientResult]]  # of (weights, learning rate, seed, [data of a client])


def weights_type(size: Shaped) -> tff.Type:
    """Returns TFF's type of the model's weights: a tuple of float32 tensors."""
    return tff.types.to_type(tuple((np.float32, shape) for shape in size.shapes))


def batches_type(time: int) -> tff.Type:
    """Returns TFF's type of models.batches.Batches: [num_batches, batch, time], the first two free.

    Batches travel as three tensors, not as a tf.data dataset: a dataset is a graph, which the worker
    would build anew for each client.
    """
    return tff.types.to_type(
        Batches(
            tff.TensorType(np.int32, [None, None, time]),
            tff.TensorType(np.int32, [None, None, time]),
            tff.TensorType(np.float32, [None, None, time]),
        )
    )


def examples_type(arrays: Mapping[str, tuple[type[np.generic], Sequence[int]]]) -> tff.Type:
    """Returns TFF's type of the arrays of models.examples.ExampleBatches: the number of batches is free.

    Args:
      arrays: {name: (type, shape of a batch)}, in their order.
    """
    return tff.types.to_type(
        collections.OrderedDict((name, (dtype, [None, *shape])) for name, (dtype, shape) in arrays.items())
    )


def build_client_work(
    size: ModelSize,
    time: int,
    clip_norm: float = 0.0,
    proximal: float = 0.0,
    dropout: float = 0.0,
    frozen: Collection[str] = (),
) -> ClientWork:
    """Returns the function (weights, learning rate, seed, [batches of a client]) -> [result], which TFF computes.

    Source: McMahan et al. 2017, algorithm 1, ClientUpdate; with proximal Li et al. 2020 (FedProx), equation 2.

    Args:
      size: the model's size.
      time: positions a sentence.
      clip_norm, proximal, dropout: see models.next_word.sgd_step; 0 switches each off. Without dropout the seed, an
        int32, has no effect.
      frozen: names of weights that no client changes.
    """
    train = build_local_training(size, clip_norm, proximal, dropout, frozen)
    return map_training(train, size, batches_type(time))


def map_training(train: Train, size: Shaped, data_type: tff.Type) -> ClientWork:
    """Returns the function (weights, learning rate, seed, [data of a client]) -> [result], which TFF computes.

    A result travels as one vector, since each tensor more costs time and copies. The weights of a result are views of
    that vector, one behind the other, which whoever wants them as one need not copy.

    Args:
      train: what one client runs, from (weights, learning_rate, seed, data) to an ordered dict of tensors with the
        fields of models.client_result.ClientResult.
      size: of the weights.
      data_type: of one client's data.
    """

    @tff.tensorflow.computation(weights_type(size), np.float32, np.int32, data_type)
    def train_client(weights: Tensors, learning_rate: tf.Tensor, seed: tf.Tensor, data: Data) -> tf.Tensor:
        return _packed(train(tuple(weights), learning_rate, seed, data))

    @tff.federated_computation(
        tff.FederatedType(weights_type(size), tff.SERVER),
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(data_type, tff.CLIENTS),
    )
    def client_work(weights: tff.Value, learning_rate: tff.Value, seed: tff.Value, data: tff.Value) -> tff.Value:
        return tff.federated_map(
            train_client,
            (
                tff.federated_broadcast(weights),
                tff.federated_broadcast(learning_rate),
                tff.federated_broadcast(seed),
                data,
            ),
        )

    def train_clients(*args: object) -> list[ClientResult]:
        return [_unpacked(vector, size) for vector in client_work(*args)]

    return train_clients


def _packed(result: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Returns a result as float32 [number of weights + 4]: the numbers are behind the weights, integers bit by bit."""
    counts = [tf.bitcast(result[name], tf.float32) for name in ("num_tokens", "num_examples")]
    numbers = tf.stack([result["loss_sum"], *counts, tf.cast(result["is_finite"], tf.float32)])
    return tf.concat([*(tf.reshape(tensor, [-1]) for tensor in result["delta"]), numbers], axis=0)


def _unpacked(vector: np.ndarray, size: Shaped) -> ClientResult:
    ends = np.cumsum([math.prod(shape) for shape in size.shapes])
    *pieces, numbers = np.split(vector, ends)
    num_tokens, num_examples = numbers[1:3].view(np.int32)
    return ClientResult(
        delta=tuple(piece.reshape(shape) for piece, shape in zip(pieces, size.shapes)),
        loss_sum=numbers[0],
        num_tokens=num_tokens,
        num_examples=num_examples,
        is_finite=bool(numbers[3]),
    )
