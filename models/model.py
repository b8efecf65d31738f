"""A next-word model: its weights at the start, its loss and gradients.

A model is an embedding, a network of some kind (models.network) and an output layer. The forward pass and the gradient
stand here once for all kinds, over a layout of the batch's positions (models.layouts): TFF trains with Packed, which
leaves the padding out, and the TFLite export traces Padded, whose every op lowers to a TFLite builtin.

Notation: V words, D embedding size, `time` positions a sentence, N positions of the layout.

    p(word) = softmax(rows O^T + e)     O is the output layer [V, D]: the embedding itself, if the two are tied
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from models import cifg_lstm, gru, lstm, transformer
from models.architectures import CIFG, GRU, LSTM, TRANSFORMER
from models.layouts import Layout, build_layout
from models.network import Named, Network, Tensors
from models.next_word import Dropout, LossAndGradients, NextWordModel, named_weights, unigram_bias
from models.own_model import load_own_model
from models.vocabulary import BOS
from models.weights import ModelSize, Weights

NETWORKS: Mapping[str, Network] = {  # by the keys of ARCHITECTURES
    CIFG: cifg_lstm.NETWORK,
    GRU: gru.NETWORK,
    LSTM: lstm.NETWORK,
    TRANSFORMER: transformer.NETWORK,
}

_SMALLEST_PROBABILITY = 1e-30  # keeps log() finite where float32 softmax underflows


@dataclass(frozen=True)
class Model:
    """A network of a built-in kind, of one size; the same interface as NextWordModel."""

    size: ModelSize
    network: Network

    def named(self, weights: Tensors) -> dict[str, tf.Tensor]:
        """See NextWordModel."""
        return named_weights(self.size, weights)

    def layout(self, mask: tf.Tensor, padded: bool, starts: Optional[tf.Tensor] = None) -> Layout:
        """See NextWordModel."""
        return build_layout(mask, padded or not self.network.packs, starts)

    def embed(self, weights: Named, ids: tf.Tensor) -> tf.Tensor:
        """Returns the embedded rows [N, D] of ids, int32 [N]."""
        return tf.gather(weights[self.size.role("embedding")], ids)

    def rows(self, weights: Named, tokens: tf.Tensor, layout: Layout) -> tf.Tensor:
        """See NextWordModel."""
        return self.network.rows(weights, self.embed(weights, layout.flatten(tokens)), layout)[0]

    def step(self, weights: Named, token: tf.Tensor, state: Named) -> tuple[tf.Tensor, Named]:
        """See NextWordModel."""
        return self.network.step(weights, self.embed(weights, token), state)

    def logits(self, weights: Named, rows: tf.Tensor, layout: Optional[Layout] = None) -> tf.Tensor:
        """See NextWordModel."""
        output = weights[self.size.role("output")]
        product = layout.times_transposed(rows, output) if layout else tf.matmul(rows, output, transpose_b=True)
        bias = self.size.architecture.output_bias
        return product if bias is None else product + weights[bias]

    def initial_weights(
        self, seed: int, word_counts: Optional[np.ndarray] = None, embedding_range: float = 0.15
    ) -> Weights:
        """Returns random float32 weights; equal for equal arguments.

        Args:
          seed: any int >= 0.
          word_counts: float [V], how often each id is a target; the output bias starts at the log of its smoothed
            share, which gives the untrained model the accuracy of the unigram. None starts it at zero.
          embedding_range: the embedding is uniform in [-embedding_range, embedding_range].

        Raises:
          RoleError: there are word counts, and this kind has no output bias.
        """
        weights = self.network.initial(self.size, np.random.default_rng(seed), embedding_range)
        bias = self.size.architecture.output_bias
        if bias is not None:
            weights[bias] = np.zeros(self.size.vocabulary_size, np.float32)
        if word_counts is not None:
            weights[self.size.role("output_bias")] = unigram_bias(self.size, word_counts)
        return tuple(weights[name] for name in self.size.names)

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
        """Returns the summed cross-entropy of a batch, and the gradient of its mean over the real positions.

        Args:
          weights: all of them.
          tokens: int32 [batch, time], `time` static.
          targets: int32 [batch, time].
          mask: float32 [batch, time] of 0 and 1; in each row the ones come first.
          dropout: None drops nothing.
          padded: compute the padding too and weigh it 0, in TFLite's builtin ops; for export. The figures are the same
            but for rounding.
          shares_rows: several sentences may stand one after the other in a row, each from its <bos> on; only if padded.
        """
        starts = tf.cast(tf.equal(tokens, BOS), tf.float32) if shares_rows else None
        named, layout, width = self.named(weights), self.layout(mask, padded, starts), self.size.embedding_size
        token_ids = layout.flatten(tokens)
        embedded = self.embed(named, token_ids)
        keep_in = keep_out = None
        if dropout is not None:
            keep_in = dropout.factors(layout.num_rows, width)
            keep_out = dropout._replace(seed=dropout.seed + tf.constant([0, 1])).factors(layout.num_rows, width)
            embedded *= keep_in
        rows, pull_back = self.network.rows(named, embedded, layout)
        if keep_out is not None:
            rows *= keep_out
        out = _output_layer(self, named, rows, layout.flatten(targets), layout)
        d_embedded, gradients = pull_back(out.d_rows if keep_out is None else out.d_rows * keep_out)
        if keep_in is not None:
            d_embedded *= keep_in
        gradients.update(_outer_gradients(self.size, named, layout, (token_ids, d_embedded), out))
        return LossAndGradients(out.loss_sum, out.num_tokens, tuple(gradients[name] for name in self.size.names))


class _OutputLayer(NamedTuple):
    """Loss of the softmax, and its gradients: d_output without the targets' part, which is sparse."""

    loss_sum: tf.Tensor
    num_tokens: tf.Tensor
    target_ids: tf.Tensor  # int32 [N]
    rows_share: tf.Tensor  # [N, D], rows times their share of the mean
    d_rows: tf.Tensor  # [N, D]
    d_output: tf.Tensor  # [V, D]
    d_output_bias: tf.Tensor  # [V]


def _output_layer(model: Model, weights: Named, rows: tf.Tensor, target_ids: tf.Tensor, layout: Layout) -> _OutputLayer:
    """Computes d loss / d logits = (probability - one_hot(target)) * share; the one-hot part stays sparse."""
    output = weights[model.size.role("output")]
    num_tokens = tf.reduce_sum(layout.weight)
    share = layout.weight / tf.maximum(num_tokens, 1.0)  # [N, 1]
    probability = tf.nn.softmax(model.logits(weights, rows, layout))
    of_target = layout.picked(probability, target_ids)
    loss_sum = -tf.reduce_sum(tf.math.log(tf.maximum(of_target, _SMALLEST_PROBABILITY)) * layout.weight[:, 0])
    rows_share = rows * share
    d_rows = tf.matmul(probability, output) * share - tf.gather(output, target_ids) * share
    d_output = tf.matmul(probability, rows_share, transpose_a=True)
    d_output_bias = layout.add_rows(layout.weighted_sum(probability, share), target_ids, -share[:, 0])
    return _OutputLayer(loss_sum, num_tokens, target_ids, rows_share, d_rows, d_output, d_output_bias)


def _outer_gradients(
    size: ModelSize, weights: Named, layout: Layout, read: tuple[tf.Tensor, tf.Tensor], out: _OutputLayer
) -> dict[str, tf.Tensor]:
    """Returns the gradients of embedding, output layer and output bias.

    The output layer's has two parts: of the softmax (dense) and of the targets (sparse). `read` are the words that were
    read, and the gradients of their rows; if the two layers are tied, both sparse parts are added at once.
    """
    embedding, output = size.role("embedding"), size.role("output")
    token_ids, d_embedded = read
    if size.architecture.is_tied:
        ids, rows = tf.concat([token_ids, out.target_ids], 0), tf.concat([d_embedded, -out.rows_share], 0)
        gradients = {embedding: layout.add_rows(out.d_output, ids, rows)}
    else:
        gradients = {
            embedding: layout.add_rows(tf.zeros_like(weights[embedding]), token_ids, d_embedded),
            output: layout.add_rows(out.d_output, out.target_ids, -out.rows_share),
        }
    if size.architecture.output_bias is not None:
        gradients[size.architecture.output_bias] = out.d_output_bias
    return gradients


def load_model(size: ModelSize) -> NextWordModel:
    """Returns the model of a size; its kind is the size's.

    Raises:
      OwnNetworkError: the network is somebody's own, and this process has not loaded its code.
    """
    return Model(size, NETWORKS[size.kind]) if size.kind in NETWORKS else load_own_model(size)
