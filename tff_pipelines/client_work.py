"""The client half of a federated round: local SGD at CLIENTS, as one TFF computation."""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf

from models.batches import Batches
from models.local_training import build_local_training
from models.network import Tensors
from models.weights import ModelSize
from tff_pipelines.framework import tff


def weights_type(size: ModelSize) -> tff.Type:
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


def build_client_work(
    size: ModelSize, time: int, clip_norm: float = 0.0, proximal: float = 0.0, dropout: float = 0.0
) -> tff.Computation:
    """Returns the computation (weights@SERVER, learning_rate@SERVER, seed@SERVER, batches@CLIENTS) -> results@CLIENTS.

    A result is an ordered dict with the fields of models.client_result.ClientResult.

    Source: McMahan et al. 2017, algorithm 1, ClientUpdate; with proximal Li et al. 2020 (FedProx), equation 2.

    Args:
      size: the model's size.
      time: positions a sentence.
      clip_norm, proximal, dropout: see models.model.Model.sgd_step; 0 switches each off. Without dropout the seed, an
        int32, has no effect.
    """

    train = build_local_training(size, clip_norm, proximal, dropout)

    @tff.tensorflow.computation(weights_type(size), np.float32, np.int32, batches_type(time))
    def train_client(
        weights: Tensors, learning_rate: tf.Tensor, seed: tf.Tensor, batches: Batches
    ) -> collections.OrderedDict[str, tf.Tensor]:
        return train(tuple(weights), learning_rate, seed, batches)

    @tff.federated_computation(
        tff.FederatedType(weights_type(size), tff.SERVER),
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(batches_type(time), tff.CLIENTS),
    )
    def client_work(weights: tff.Value, learning_rate: tff.Value, seed: tff.Value, batches: tff.Value) -> tff.Value:
        return tff.federated_map(
            train_client,
            (
                tff.federated_broadcast(weights),
                tff.federated_broadcast(learning_rate),
                tff.federated_broadcast(seed),
                batches,
            ),
        )

    return client_work
