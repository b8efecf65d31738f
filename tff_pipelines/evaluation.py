"""Federated evaluation: each client scores the model on its own text; counts leave it, text does not."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Union

import numpy as np
import tensorflow as tf

from models import inference
from models.batches import Batches
from models.local_training import build_local_training
from models.model import load_model
from models.network import Tensors
from models.weights import ModelSize, Shaped
from tff_pipelines.client_work import Data, batches_type, weights_type
from tff_pipelines.framework import tff

Sums = collections.OrderedDict[str, tf.Tensor]  # the fields of models.inference.RecallSums


def _build_scoring(size: ModelSize, vocabulary_size: int) -> Callable[[Tensors, Batches], Sums]:
    """Returns the function that one client runs."""
    model = load_model(size)

    @tf.function(autograph=False)  # its loop is a tf.while_loop; rewriting its source takes longer than tracing
    def score(weights: Tensors, batches: Batches) -> Sums:
        tokens, targets, mask = batches

        def step(i: tf.Tensor, sums: Tensors) -> tuple[tf.Tensor, Tensors]:
            of_batch = inference.recall_sums(model, weights, tokens[i], targets[i], mask[i], vocabulary_size)
            return i + 1, tuple(a + b for a, b in zip(sums, of_batch))

        zero = tuple(tf.constant(0.0) for _ in inference.RecallSums._fields)
        _, sums = tf.while_loop(lambda i, _: i < tf.shape(tokens)[0], step, (0, zero), parallel_iterations=1)
        return collections.OrderedDict(zip(inference.RecallSums._fields, sums))

    return score


def build_evaluation(size: ModelSize, time: int, vocabulary_size: int) -> tff.Computation:
    """Returns the computation (weights@SERVER, batches@CLIENTS) -> sums@CLIENTS.

    Sums is an ordered dict of float32 scalars with the fields of models.inference.RecallSums.

    Args:
      size: the model's size.
      time: positions a sentence.
      vocabulary_size: ids of the vocabulary whose words are scored; the batches' ids are below it.
    """
    return map_scoring(_build_scoring(size, vocabulary_size), size, batches_type(time))


def map_scoring(score: Callable[..., Sums], size: Shaped, data_type: tff.Type) -> tff.Computation:
    """Returns the computation (weights@SERVER, data@CLIENTS) -> sums@CLIENTS.

    Args:
      score: what one client runs, from (weights, data) to an ordered dict of float32 scalars.
      size: of the weights.
      data_type: of one client's data.
    """

    @tff.tensorflow.computation(weights_type(size), data_type)
    def evaluate_client(weights: Tensors, data: Data) -> Sums:
        return score(tuple(weights), data)

    @tff.federated_computation(
        tff.FederatedType(weights_type(size), tff.SERVER), tff.FederatedType(data_type, tff.CLIENTS)
    )
    def evaluation(weights: tff.Value, data: tff.Value) -> tff.Value:
        return tff.federated_map(evaluate_client, (tff.federated_broadcast(weights), data))

    return evaluation


def build_personalisation(
    size: ModelSize,
    time: int,
    vocabulary_size: int,
    clip_norm: float = 0.0,
    steps: Sequence[float] = (1.0,),
) -> tff.Computation:
    """Returns the computation (weights@SERVER, learning_rate@SERVER, data@CLIENTS) -> sums@CLIENTS.

    Each client scores the model on its later text, trains it on its earlier text, and scores it again. `data` is an
    ordered dict of Batches: `history` to train on (ids cut to the model's rows) and `held_out` to score (not cut).
    Sums is an ordered dict `before`, as build_evaluation's, and `after`, one such for each of `steps`: at 1 the trained
    model, below it a point on the way there from the model that it started from.
    """
    score, train = _build_scoring(size, vocabulary_size), build_local_training(size, clip_norm)
    data_type = collections.OrderedDict(history=batches_type(time), held_out=batches_type(time))

    @tff.tensorflow.computation(weights_type(size), np.float32, data_type)
    def personalise_client(
        weights: Tensors, learning_rate: tf.Tensor, data: Mapping[str, Batches]
    ) -> collections.OrderedDict[str, Union[Sums, list[Sums]]]:
        start = tuple(weights)
        delta = train(start, learning_rate, 0, data["history"])["delta"]
        after = [score(tuple(w - step * d for w, d in zip(start, delta)), data["held_out"]) for step in steps]
        return collections.OrderedDict(before=score(start, data["held_out"]), after=after)

    @tff.federated_computation(
        tff.FederatedType(weights_type(size), tff.SERVER),
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(data_type, tff.CLIENTS),
    )
    def personalisation(weights: tff.Value, learning_rate: tff.Value, data: tff.Value) -> tff.Value:
        return tff.federated_map(
            personalise_client,
            (tff.federated_broadcast(weights), tff.federated_broadcast(learning_rate), data),
        )

    return personalisation


def build_word_counts(vocabulary_size: int) -> tff.Computation:
    """Returns the computation ids@CLIENTS -> counts@SERVER: how often each id is a target, summed over the clients.

    Ids is int32 [num_targets], counts int64 [vocabulary_size]. It starts the model's output bias without a look at
    anybody's text.
    """

    @tff.tensorflow.computation(tff.TensorType(np.int32, [None]))
    def count(ids: tf.Tensor) -> tf.Tensor:
        counts = tf.math.bincount(ids, minlength=vocabulary_size, maxlength=vocabulary_size, dtype=tf.int64)
        return tf.ensure_shape(counts, [vocabulary_size])

    @tff.federated_computation(tff.FederatedType(tff.TensorType(np.int32, [None]), tff.CLIENTS))
    def word_counts(ids: tff.Value) -> tff.Value:
        return tff.federated_sum(tff.federated_map(count, ids))

    return word_counts
