"""A next-word model whose network is somebody's own (models.own_network): the same interface as models.model.Model.

TensorFlow differentiates the network. Where it reads a whole sentence to predict the next word, a key stroke's state is
the words since the start of the sentence, and the network reads them anew.

Notation: V words, `time` positions a sentence, N positions of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np
import tensorflow as tf

from models.errors import OwnNetworkError
from models.layouts import Layout, Whole
from models.network import Named, Tensors
from models.next_word import Dropout, LossAndGradients, named_weights, unigram_bias
from models.own_network import LENGTH, PREFIX, PureNetwork, own_network, short_name
from models.weights import ModelSize, Weights


@tf.custom_gradient
def cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Returns the nats float32 [N] of logits [N, V] at the ids targets int32 [N], in TFLite's builtin ops."""
    shifted = logits - tf.reduce_max(logits, 1, keepdims=True)
    powers = tf.exp(shifted)
    total = tf.reduce_sum(powers, 1, keepdims=True)
    wanted = tf.one_hot(targets, logits.shape[1])
    nats = tf.math.log(total[:, 0]) - tf.reduce_sum(shifted * wanted, 1)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return tf.expand_dims(upstream, 1) * (powers / total - wanted), None

    return nats, gradient


@dataclass(frozen=True)
class OwnModel:
    """A network of somebody's own of one size. Its rows are the logits themselves."""

    size: ModelSize
    network: PureNetwork

    def named(self, weights: Tensors) -> dict[str, tf.Tensor]:
        """See NextWordModel."""
        return named_weights(self.size, weights)

    def layout(self, mask: tf.Tensor, padded: bool) -> Layout:
        """See NextWordModel."""
        return Whole(mask)

    def rows(self, weights: Named, tokens: tf.Tensor, layout: Layout) -> tf.Tensor:
        """See NextWordModel."""
        return tf.reshape(self.network.logits(weights, tokens), [-1, self.size.vocabulary_size])

    def logits(self, weights: Named, rows: tf.Tensor, layout: Optional[Layout] = None) -> tf.Tensor:
        """See NextWordModel."""
        return rows

    def step(self, weights: Named, token: tf.Tensor, state: Named) -> tuple[tf.Tensor, Named]:
        """See NextWordModel."""
        if self.network.step is not None:
            return self.network.step(weights, token, state)
        words, place, length = _append(token, state[PREFIX], state[LENGTH])
        logits = self.network.logits(weights, tf.cast(words, tf.int32))
        last = tf.matmul(place, tf.reshape(logits, [-1, self.size.vocabulary_size]))
        return last, {PREFIX: words, LENGTH: length}

    def initial_weights(
        self, seed: int, word_counts: Optional[np.ndarray] = None, embedding_range: float = 0.15
    ) -> Weights:
        """See models.model.Model.initial_weights; the network decides the range."""
        weights = dict(self.network.initial(np.random.default_rng(seed)))
        name = short_name(self.size.kind)
        for weight, shape in self.size.by_name.items():
            value = weights.get(weight)
            if not isinstance(value, np.ndarray) or (value.shape, value.dtype) != (shape, np.float32):
                found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
                raise OwnNetworkError(f"{name}: weight {weight} begins as {found}, and must be float32 {shape}")
        if word_counts is not None:
            bias = self.size.role("output_bias")
            weights[bias] = unigram_bias(self.size, word_counts)
        return tuple(np.array(weights[weight]) for weight in self.size.names)

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
        """See models.model.Model.loss_and_gradients.

        Raises:
          OwnNetworkError: there is dropout, or the loss does not depend on a weight.
          ValueError: sentences are to share rows.
        """
        if shares_rows:
            raise ValueError("a network of somebody's own can't keep sentences apart that share a row")
        if dropout is not None:
            raise OwnNetworkError("client.dropout must be 0 with a network of your own: drop inside of the network")
        named, layout = self.named(weights), self.layout(mask, padded)
        with tf.GradientTape() as tape:
            tape.watch(named)
            nats = cross_entropy(self.rows(named, tokens, layout), layout.flatten(targets))
            loss_sum = tf.reduce_sum(nats * layout.weight[:, 0])
        num_tokens = tf.reduce_sum(mask)
        gradients = tape.gradient(loss_sum, named)
        for name, gradient in gradients.items():
            if gradient is None:
                raise OwnNetworkError(
                    f"{short_name(self.size.kind)}: the loss does not depend on the weight {name}: leave it out"
                )
        share = 1.0 / tf.maximum(num_tokens, 1.0)
        return LossAndGradients(
            loss_sum, num_tokens, tuple(tf.convert_to_tensor(gradients[name]) * share for name in self.size.names)
        )


def _append(token: tf.Tensor, words: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adds a word to a prefix; when it is full, its first word falls out.

    Args:
      token: int32 [1].
      words: float32 [1, time], ids; zeros after the prefix.
      length: float32 [1], of the prefix.

    Returns (the words, float32 [1, time] with a 1 where the new one stands, the length).
    """
    time = words.shape[1]
    is_full = tf.cast(length >= time, tf.float32)
    words = words * (1.0 - is_full) + tf.concat([words[:, 1:], tf.zeros([1, 1])], 1) * is_full
    place = tf.reshape(tf.cast(tf.equal(np.arange(time, dtype=np.float32), length - is_full), tf.float32), [1, time])
    return words + place * tf.cast(token, tf.float32), place, length + 1.0 - is_full


def load_own_model(size: ModelSize) -> OwnModel:
    """Returns the model of a size whose kind is a network of somebody's own.

    Raises:
      OwnNetworkError: this process has not loaded its code.
    """
    return OwnModel(size, own_network(size.kind, size.numbers))
