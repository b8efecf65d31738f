"""What a kind of next-word network brings: the part between the embedding and the output layer.

Everything else (embedding, dropout, output layer, SGD, metrics, key stroke) is the same for all kinds and stands in
models.model and models.inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from models.layouts import Layout
from models.weights import ModelSize

Tensors = Sequence[tf.Tensor]  # all weights in the order of ModelSize.names: tensors, variables or arrays
Named = Mapping[str, tf.Tensor]

# d loss / d rows [N, D] -> (d loss / d embedded rows [N, D], {weight: d loss / d weight} of the inner weights).
PullBack = Callable[[tf.Tensor], tuple[tf.Tensor, dict[str, tf.Tensor]]]


@dataclass(frozen=True)
class Network:
    """One kind of network, as pure functions over its weights by name.

    Attributes:
      initial: (size, rng, range of the embedding) -> random float32 weights by name, without the output bias.
      rows: (weights, embedded rows [N, D], layout) -> (the rows [N, D] that enter the output layer, their gradient).
        Both in TFLite's builtin ops where the layout is Padded.
      step: (weights, embedded rows [batch, D], state) -> (rows [batch, D], the next state), in TFLite's builtin ops.
      packs: whether `rows` takes the Packed layout; if not, training computes the padding, too.
    """

    initial: Callable[[ModelSize, np.random.Generator, float], dict[str, np.ndarray]]
    rows: Callable[[Named, tf.Tensor, Layout], tuple[tf.Tensor, PullBack]]
    step: Callable[[Named, tf.Tensor, Named], tuple[tf.Tensor, dict[str, tf.Tensor]]]
    packs: bool = True
