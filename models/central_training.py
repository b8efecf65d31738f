"""Trains the model on text in one place, which public text allows: Adam over shuffled batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from models.batches import build_batches
from models.inference import recall_sums
from models.model import load_model
from models.next_word import Dropout
from models.weights import ModelSize, Weights

_BATCHES_AT_ONCE = 64  # in memory as padded arrays
_CLIP_NORM = 1.0  # of a step's gradients together


@dataclass(frozen=True)
class CentralSettings:
    """How the training goes. dropout: the rate, 0 for none; the learning rate falls linearly to 0."""

    epochs: int
    batch_size: int = 32
    learning_rate: float = 0.005
    dropout: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class PooledRecall:
    """Recalls and loss over all scored words of some people."""

    top1: float
    top3: float
    loss_nats_per_token: float
    positions: int


def train_centrally(
    size: ModelSize, weights: Weights, sentences: Sequence[np.ndarray], time: int, settings: CentralSettings
) -> Iterator[tuple[Weights, float]]:
    """Yields (the weights, the mean loss in nats per token) after each epoch.

    Args:
      size: of the model.
      weights: to begin with.
      sentences: ids [num_words] each; those beyond the model's rows become UNK.
      time: positions of a sentence that are trained on.
      settings: how.
    """
    model, rng = load_model(size), np.random.default_rng(settings.seed)
    variables = [tf.Variable(w) for w in weights]
    steps = settings.epochs * -(-len(sentences) // settings.batch_size)
    rate = tf.keras.optimizers.schedules.PolynomialDecay(settings.learning_rate, steps, 0.0)
    optimizer = tf.keras.optimizers.Adam(rate, global_clipnorm=_CLIP_NORM, jit_compile=False)
    optimizer.build(variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(tokens: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        dropout = Dropout(settings.dropout, tf.stack([settings.seed, seed])) if settings.dropout else None
        found = model.loss_and_gradients(variables, tokens, targets, mask, dropout)
        optimizer.apply_gradients(zip(found.gradients, variables))
        return found.loss_sum, found.num_tokens

    number = 0
    for _ in range(settings.epochs):
        losses = np.zeros(2)
        order = rng.permutation(len(sentences))
        for some in np.array_split(order, -(-len(order) // (_BATCHES_AT_ONCE * settings.batch_size))):
            own = [sentences[place] for place in some]
            for batch in zip(
                *build_batches(own, batch_size=settings.batch_size, time=time, vocabulary_size=size.vocabulary_size)
            ):
                losses += [float(value) for value in step(*map(tf.constant, batch), tf.constant(number))]
                number += 1
        yield tuple(variable.numpy() for variable in variables), float(losses[0] / losses[1])


def pooled_recall(
    size: ModelSize, weights: Weights, sentences: Sequence[np.ndarray], time: int, vocabulary_size: int
) -> PooledRecall:
    """Returns how well a model predicts these sentences; see models.inference.recall_sums.

    Raises:
      ValueError: no word of them is of the vocabulary.
    """
    model, constants = load_model(size), tuple(map(tf.constant, weights))

    @tf.function(autograph=False, reduce_retracing=True)
    def score(tokens: tf.Tensor, targets: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return recall_sums(model, constants, tokens, targets, mask, vocabulary_size)[:4]

    sums = np.zeros(4)
    for batch in zip(*build_batches(sentences, batch_size=128, time=time)):
        sums += [float(value) for value in score(*map(tf.constant, batch))]
    if not sums[3]:
        raise ValueError("sentences must hold a word of the vocabulary")
    top1, top3, loss = (sums[:3] / sums[3]).tolist()
    return PooledRecall(top1, top3, loss, int(sums[3]))
