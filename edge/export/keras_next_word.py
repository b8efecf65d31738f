"""A Keras model of somebody's own as a next-word network: pure functions of its weights, in TFLite's builtin ops.

The model takes int32 word ids [batch, max_words] and gives, for each position, the logits or the softmax of the word
that follows. Its layers are computed as edge.export.keras_network computes them for a phone, in training, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Optional

import numpy as np
import tensorflow as tf

from edge.errors import ExportError
from edge.export.keras_layers import Values, refusal
from edge.export.keras_network import Network, build_network
from edge.export.keras_reading import rebuild
from edge.export.names import tensor_name
from models.own_network import BuildSize, PureNetwork

Named = Mapping[str, tf.Tensor]
_LOSS = {"class_name": "sparse_categorical_crossentropy", "config": {"from_logits": True}}


def next_word_network(build: Callable[[], tf.keras.Model], size: BuildSize) -> PureNetwork:
    """Returns the network of the Keras model that `build` makes.

    Args:
      build: makes the model anew, with fresh weights; called with Keras's and NumPy's seeds set.
      size: that it is for.

    Raises:
      ExportError: its inputs or outputs are others, it has weights that don't train, or a layer can't be exported.
    """
    own = build_seeded(build, 0)
    _check_ends(own, size)
    for layer in own.layers:
        if layer.non_trainable_weights:
            raise refusal(layer, f"{_names(layer.non_trainable_weights)} would not train: let all of its weights train")
    model = rebuild(own)
    network = build_network(model, _LOSS, batch_size=2)
    if network.inputs[0].num_ids < size.vocabulary_size:
        raise refusal(
            model.inputs[0].node.layer.outbound_nodes[0].layer,
            f"it reads ids below {network.inputs[0].num_ids}, and there are {size.vocabulary_size}: begin with an "
            "Embedding of size.vocabulary_size",
        )
    names = [weight.tensor for weight in network.trainable]
    model.set_weights(own.get_weights())
    _check_same(own, model)

    def values(weights: Named) -> Values:
        return network.values([weights[name] for name in names], ())

    def logits(weights: Named, tokens: tf.Tensor) -> tf.Tensor:
        return network.apply(values(weights), [tokens], logits=True)

    def layers(weights: Named, tokens: tf.Tensor) -> list[tuple[str, tf.Tensor]]:
        seen: list[tuple[str, tf.Tensor]] = []
        network.apply(values(weights), [tokens], True, lambda layer, output: seen.append((layer, output)))
        return seen

    def initial(rng: np.random.Generator) -> dict[str, np.ndarray]:
        fresh = build_seeded(build, int(rng.integers(2**31)))
        return {tensor_name(v.name.rsplit(":", 1)[0]): v.numpy() for v in fresh.trainable_weights}

    return PureNetwork(
        shapes={weight.tensor: weight.start.shape for weight in network.trainable},
        initial=initial,
        logits=logits,
        embedding=_embedding(network, size.vocabulary_size),
        output_bias=_output_bias(network, size.vocabulary_size),
        layers=layers,
    )


def build_seeded(build: Callable[[], tf.keras.Model], seed: int) -> tf.keras.Model:
    """Returns what `build` makes with the seeds of Keras, NumPy and Python set; layers are named from 1 on.

    NumPy's and Python's generators go on afterwards as if nothing had been drawn.
    """
    before = random.getstate(), np.random.get_state()
    tf.keras.utils.set_random_seed(seed)
    tf.keras.backend.reset_uids()
    try:
        return build()
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _check_ends(model: tf.keras.Model, size: BuildSize) -> None:
    """Refuses a model that does not go from words to words."""
    if not getattr(model, "_is_graph_network", False):
        raise ExportError(
            f"{type(model).__name__} is neither a functional nor a Sequential model: build it from an Input and layers"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ExportError(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs: give it one each"
        )
    taken, given = model.inputs[0], model.outputs[0]
    if tuple(taken.shape) != (None, size.max_words):
        raise ExportError(
            f"layer {taken.node.layer.name} takes {tuple(taken.shape)}, and words are [batch, {size.max_words}]: "
            "begin with Input((size.max_words,), dtype='int32')"
        )
    if not taken.dtype.is_integer:
        raise ExportError(
            f"layer {taken.node.layer.name} takes {taken.dtype.name}, and word ids are int32: give Input dtype='int32'"
        )
    wanted = (None, size.max_words, size.vocabulary_size)
    if tuple(given.shape) != wanted or given.dtype != tf.float32:
        raise ExportError(
            f"layer {given.node.layer.name} gives {given.dtype.name} {tuple(given.shape)}, and the next words are "
            f"float32 {wanted}: end with Dense(size.vocabulary_size) at each position"
        )
    for variable in model.weights:
        if variable.dtype != tf.float32:
            raise ExportError(f"the weight {variable.name[:-2]} is {variable.dtype.name}: build it in float32")


def _check_same(own: tf.keras.Model, rebuilt: tf.keras.Model) -> None:
    """Refuses a model with a layer that is called as one of Keras's, and computes something else."""
    for layer, known in zip(own.layers, rebuilt.layers):
        if type(layer) is not type(known):
            raise refusal(layer, "it is not Keras's own layer of this name")
    words = np.arange(np.prod(own.input_shape[1:]), dtype=np.int32)[np.newaxis] % own.output_shape[-1]
    mine, theirs = own(words).numpy(), rebuilt(words).numpy()
    if not np.allclose(mine, theirs, rtol=1e-4, atol=1e-4, equal_nan=True):
        raise ExportError("one of its layers computes something else than Keras's own of the same name")


def _names(variables: list[tf.Variable]) -> str:
    return ", ".join(variable.name.rsplit(":", 1)[0] for variable in variables)


def _embedding(network: Network, num_words: int) -> Optional[str]:
    """Returns the weight that turns words into vectors, if one layer alone reads them; None if that can't be told."""
    readers = [node.layer for node in network.model.inputs[0].node.layer.outbound_nodes]
    if len(readers) != 1 or readers[0].input_dim != num_words:
        return None
    return _tensor_of(network, readers[0].embeddings)


def _output_bias(network: Network, num_words: int) -> Optional[str]:
    """Returns the bias that is added to the logits; None if the last layer with weights has none."""
    last = network.model.outputs[0].node.layer
    while type(last).__name__ in ("Softmax", "Activation"):
        last = last.inbound_nodes[0].inbound_layers
    dense = last.layer if type(last).__name__ == "TimeDistributed" else last
    is_output = type(dense).__name__ == "Dense" and dense.use_bias and dense.units == num_words
    return _tensor_of(network, dense.bias) if is_output else None


def _tensor_of(network: Network, variable: tf.Variable) -> str:
    return next(weight.tensor for weight in network.trainable if weight.variable is variable)
