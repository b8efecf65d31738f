"""The whole round inside TFF, from tff.learning: the oracle that the split round is compared with.

It shares nothing with the split round but the model's size and the server's optimiser: the loss is written in the
plainest way, padded, and TensorFlow differentiates it.
"""

from __future__ import annotations

import collections

import tensorflow as tf

from models.cifg_lstm import ModelSize, Weights
from models.vocabulary import PAD
from tff_pipelines.framework import tff


def plain_loss(weights, tokens: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean cross-entropy in nats over the positions whose target is not PAD; for autodiff.

    Args:
      weights: as in models.cifg_lstm.
      tokens, targets: int32 [batch, time], `time` static.
    """
    embedding, kernel, bias, projection, output_bias = weights
    batch = tf.shape(tokens)[0]
    hidden = tf.zeros([batch, projection.shape[1]])
    cell = tf.zeros([batch, projection.shape[0]])
    outputs = []
    for step in range(tokens.shape[1]):
        embedded = tf.nn.embedding_lookup(embedding, tokens[:, step])
        gates = tf.matmul(tf.concat([embedded, hidden], 1), kernel) + bias
        forget, output, candidate = tf.split(gates, 3, axis=1)
        forget, output, candidate = tf.sigmoid(forget), tf.sigmoid(output), tf.tanh(candidate)
        cell = forget * cell + (1.0 - forget) * candidate
        hidden = tf.matmul(output * tf.tanh(cell), projection)
        outputs.append(hidden)
    logits = tf.einsum("btd,vd->btv", tf.stack(outputs, 1), embedding) + output_bias
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    mask = tf.cast(tf.not_equal(targets, PAD), tf.float32)
    return tf.reduce_sum(losses * mask) / tf.maximum(tf.reduce_sum(mask), 1.0)


def build_reference_round(
    size: ModelSize,
    time: int,
    start: Weights,
    client_learning_rate: float,
    server_optimizer: tff.learning.optimizers.Optimizer,
    proximal: float = 0.0,
) -> tff.learning.templates.LearningProcess:
    """TFF's own weighted FedAvg (with proximal > 0 its FedProx) over (tokens, targets) datasets.

    Clients are weighted by their number of sentences. There is no gradient clipping in tff.learning: compare with
    clip_norm = 0.

    Mind: TFF 0.87.0 adds proximal * (server's - client's) to the gradient, which pushes the client away from the
    server's weights, where FedProx pulls it back (Li et al. 2020, equation 2: the other sign). Compare with minus
    proximal.
    """
    tokens_spec = tf.TensorSpec([None, time], tf.int32)

    @tf.function
    def predict(model_weights, inputs, training):
        del training
        # The loss needs the weights of each step and tff.learning hands it only predictions: predict the loss.
        tokens, targets = inputs["tokens"], inputs["targets"]
        loss = plain_loss(tuple(model_weights[0]), tokens, targets)
        return tf.fill([tf.shape(tokens)[0]], loss)

    @tf.function
    def loss_fn(predictions, labels, sample_weight=None):
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
