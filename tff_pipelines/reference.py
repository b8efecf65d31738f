"""The whole round inside TFF, from tff.learning: the oracle that the split round is compared with.

It shares nothing with the split round but the model's size and the server's optimiser: the loss is
models.plain_loss's, and TensorFlow differentiates it.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Optional

import tensorflow as tf

from models.network import Tensors
from models.plain_loss import plain_loss
from models.weights import ModelSize, Weights
from tff_pipelines.framework import tff


def build_reference_round(
    size: ModelSize,
    time: int,
    start: Weights,
    client_learning_rate: float,
    server_optimizer: tff.learning.optimizers.Optimizer,
    proximal: float = 0.0,
) -> tff.learning.templates.LearningProcess:
    """Returns TFF's own weighted FedAvg (with proximal > 0 its FedProx) over (tokens, targets) datasets.

    Clients are weighted by their number of sentences. There is no gradient clipping in tff.learning: compare with
    clip_norm = 0.

    Mind: TFF 0.87.0 adds proximal * (server's - client's) to the gradient, which pushes the client away from the
    server's weights, where FedProx pulls it back (Li et al. 2020, equation 2: the other sign). Compare with minus
    proximal.
    """
    tokens_spec = tf.TensorSpec([None, time], tf.int32)

    @tf.function
    def predict(model_weights: tuple[Tensors, Tensors], inputs: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        del training
        # The loss needs the weights of each step and tff.learning hands it only predictions: predict the loss.
        tokens, targets = inputs["tokens"], inputs["targets"]
        loss = plain_loss(size, tuple(model_weights[0]), tokens, targets)
        return tf.fill([tf.shape(tokens)[0]], loss)

    @tf.function
    def loss_fn(predictions: tf.Tensor, labels: tf.Tensor, sample_weight: Optional[tf.Tensor] = None) -> tf.Tensor:
        del labels, sample_weight
        return tf.reduce_mean(predictions)

    model = tff.learning.models.FunctionalModel(
        initial_weights=(tuple(start), ()),
        predict_on_batch_fn=predict,
        loss_fn=loss_fn,
        input_spec=(
            collections.OrderedDict(tokens=tokens_spec, targets=tokens_spec),
            tf.TensorSpec([None], tf.int32),
        ),
    )
    client_optimizer = tff.learning.optimizers.build_sgdm(client_learning_rate)
    if proximal > 0:
        return tff.learning.algorithms.build_weighted_fed_prox(model, proximal, client_optimizer, server_optimizer)
    return tff.learning.algorithms.build_weighted_fed_avg(model, client_optimizer, server_optimizer)
