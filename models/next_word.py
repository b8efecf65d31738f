"""What every next-word model has, whatever its network: its interface, the step of SGD, the first output bias."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Optional, Protocol, Union

import numpy as np
import tensorflow as tf

from models.layouts import Layout
from models.network import Named, Tensors
from models.weights import ModelSize, Weights


class LossAndGradients(NamedTuple):
    """What one batch gives: scalars float32, gradients in the order and shapes of the weights."""

    loss_sum: tf.Tensor  # nats, summed over the real positions
    num_tokens: tf.Tensor  # float32, real positions
    gradients: tuple[tf.Tensor, ...]  # of loss_sum / max(num_tokens, 1)


class Dropout(NamedTuple):
    """Dropout of what enters and leaves the network, not of what recurs. Source: Zaremba et al. 2014."""

    rate: float  # the share that is dropped
    seed: tf.Tensor  # int32 [2]

    def factors(self, num_rows: tf.Tensor, width: int) -> tf.Tensor:
        """Returns factors [num_rows, width]: 0 with probability `rate`, else 1 / (1 - rate); equal for equal seeds."""
        uniform = tf.random.stateless_uniform([num_rows, width], self.seed)
        return tf.cast(uniform >= self.rate, tf.float32) / (1.0 - self.rate)


class Pull(NamedTuple):
    """FedProx's term mu * (weights - anchor). Source: Li et al. 2020, equation 2."""

    mu: float
    anchor: Tensors  # the weights of the server


class NextWordModel(Protocol):
    """A network of one kind and size, as pure functions over its weights."""

    @property
    def size(self) -> ModelSize:
        """Its kind and size."""

    def named(self, weights: Tensors) -> dict[str, tf.Tensor]:
        """Returns {name: tensor} of the weights, whether they are arrays, variables or tensors."""

    def layout(self, mask: tf.Tensor, padded: bool) -> Layout:
        """Returns the layout of a batch with this mask, float32 [batch, time]; padded if the kind can't pack."""

    def rows(self, weights: Named, tokens: tf.Tensor, layout: Layout) -> tf.Tensor:
        """Returns the rows [N, width] that enter the output layer, of the words int32 [batch, time] of a batch."""

    def step(self, weights: Named, token: tf.Tensor, state: Named) -> tuple[tf.Tensor, Named]:
        """Returns (the rows [batch, width] of one word each, int32 [batch], the next state) in TFLite's builtin ops."""

    def logits(self, weights: Named, rows: tf.Tensor, layout: Optional[Layout] = None) -> tf.Tensor:
        """Returns the output layer's logits [N, V] of rows [N, width]."""

    def initial_weights(
        self, seed: int, word_counts: Optional[np.ndarray] = None, embedding_range: float = 0.15
    ) -> Weights:
        """See models.model.Model.initial_weights."""

    def loss_and_gradients(
        self,
        weights: Tensors,
        tokens: tf.Tensor,
        targets: tf.Tensor,
        mask: tf.Tensor,
        dropout: Optional[Dropout] = None,
        padded: bool = False,
        shares_rows: bool = False,
    ) -> LossAndGradients:
        """See models.model.Model.loss_and_gradients."""


def named_weights(size: ModelSize, weights: Tensors) -> dict[str, tf.Tensor]:
    """Returns {name: tensor} of a model's weights, whether they are arrays, variables or tensors."""
    return {name: tf.convert_to_tensor(w) for name, w in zip(size.names, weights)}


def sgd_step(
    model: NextWordModel,
    weights: Tensors,
    tokens: tf.Tensor,
    targets: tf.Tensor,
    mask: tf.Tensor,
    learning_rate: Union[float, tf.Tensor],
    clip_norm: float = 0.0,
    pull: Optional[Pull] = None,
    dropout: Optional[Dropout] = None,
    padded: bool = False,
    shares_rows: bool = False,
    frozen: Collection[str] = (),
) -> tuple[tuple[tf.Tensor, ...], tf.Tensor, tf.Tensor]:
    """Returns (weights after one step of SGD, the batch's loss_sum, its num_tokens).

    Args:
      model: whose weights they are.
      weights, tokens, targets, mask, dropout, padded, shares_rows: as in models.model.Model.loss_and_gradients.
      learning_rate: float32 scalar.
      clip_norm: if the gradients of the inner weights together are longer than this (L2), the whole step is scaled
        down by the same factor: the recurrent part is what explodes (Pascanu et al. 2013). 0 switches it off.
      pull: FedProx's pull towards the server's weights; None pulls nowhere.
      frozen: names of weights that stay as they are. Source: Sidahmed et al. 2021, https://arxiv.org/abs/2110.03450.
    """
    loss_sum, num_tokens, gradients = model.loss_and_gradients(
        weights, tokens, targets, mask, dropout, padded, shares_rows
    )
    if pull is not None:
        gradients = tuple(g + pull.mu * (w - a) for g, w, a in zip(gradients, weights, pull.anchor))
    rate, size = learning_rate, model.size
    moves = [name not in frozen for name in size.names]
    inner = [g for name, g, moved in zip(size.names, gradients, moves) if moved and name in size.architecture.inner]
    if clip_norm > 0 and inner:
        norm = tf.sqrt(tf.add_n([tf.reduce_sum(g * g) for g in inner]))
        rate = learning_rate * (clip_norm / tf.maximum(norm, clip_norm))
    after = tuple(w - rate * g if moved else w for w, g, moved in zip(weights, gradients, moves))
    return after, loss_sum, num_tokens


def unigram_bias(size: ModelSize, word_counts: np.ndarray) -> np.ndarray:
    """Returns the output bias float32 [V] that gives an untrained model the unigram's accuracy.

    Args:
      size: of the model.
      word_counts: float [V], how often each id is a target.

    Raises:
      ValueError: there are other counts than V.
    """
    if word_counts.shape != (size.vocabulary_size,):
        raise ValueError(
            f"word_counts must have shape ({size.vocabulary_size},), got word_counts.shape={word_counts.shape}"
        )
    log_share = np.log((word_counts + 0.5) / (word_counts + 0.5).sum())
    return (log_share - log_share.mean()).astype(np.float32)
