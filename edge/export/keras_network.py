"""A Keras model as a pure function of its weights: what the exported file computes, and which weights train."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import tensorflow as tf

from edge.errors import ExportError
from edge.export.keras_images import RULES_OF_IMAGES
from edge.export.keras_layers import RULES, Call, Rule, Values, refusal
from edge.export.keras_losses import Loss, loss_of
from edge.export.keras_reading import read_keras
from edge.export.keras_recurrent import RULES_OF_SEQUENCES
from edge.export.names import tensor_name

_RULES: dict[str, Rule] = {**RULES, **RULES_OF_IMAGES, **RULES_OF_SEQUENCES}
_WITHOUT_ACTIVATION = ("Dense", "Activation", "Softmax", "TimeDistributed")  # layers whose activation the loss may take
_MAX_RANK = 4096
_OWN_NAMES = ("targets", "mask", "learning_rate")  # of what the train signature takes besides the inputs


@dataclass(frozen=True)
class Weight:
    """A weight that trains.

    Attributes:
      name: as Keras has it, such as "dense/kernel"; an adapter's ends in "/lora_left" or "/lora_right".
      tensor: its name in signatures.
      start: float32, where training begins.
      variable: Keras's variable; of an adapter, that of the weight it is added to.
      side: 0 and 1 of an adapter: [rows, rank] and [rank, columns]; None of a whole weight.
    """

    name: str
    tensor: str
    start: np.ndarray
    variable: tf.Variable
    side: Optional[int] = None


@dataclass(frozen=True)
class InputSpec:
    """An input. shape: without the batch; num_ids: rows of the smallest table that reads it, 0 for numbers."""

    name: str
    shape: tuple[int, ...]
    num_ids: int

    @property
    def dtype(self) -> str:
        """int32 for ids, else float32."""
        return "int32" if self.num_ids else "float32"


@dataclass(frozen=True)
class Network:
    """A network that is ready to export.

    Attributes:
      model: Keras's; its weights are where training begins.
      loss: what it trains on.
      inputs: in Keras's order.
      trainable: the weights that train and travel.
      frozen: Keras's variables that stay.
    """

    model: tf.keras.Model
    loss: Loss
    inputs: tuple[InputSpec, ...]
    trainable: tuple[Weight, ...]
    frozen: tuple[tf.Variable, ...]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one example."""
        return tuple(self.model.outputs[0].shape[1:])

    def values(self, trained: Sequence[tf.Tensor], frozen: Sequence[tf.Tensor]) -> Values:
        """Returns the weights for apply: those that train and those that stay, in the order of the attributes."""
        values = {variable.ref(): tensor for variable, tensor in zip(self.frozen, frozen)}
        sides: dict[object, list[tf.Tensor]] = {}
        for weight, tensor in zip(self.trainable, trained):
            if weight.side is None:
                values[weight.variable.ref()] = tensor
            else:
                sides.setdefault(weight.variable.ref(), []).append(tensor)
        return Values(values, {ref: (left, right) for ref, (left, right) in sides.items()})

    def apply(
        self,
        values: Values,
        inputs: Sequence[tf.Tensor],
        logits: bool,
        watch: Callable[[str, tf.Tensor], None] = lambda layer, output: None,
    ) -> tf.Tensor:
        """Returns the output [batch, ...]; with `logits`, what the loss takes: before softmax or sigmoid.

        `watch` is told each layer's name and output, in running order.
        """
        tensors = {str(id(place)): tensor for place, tensor in zip(self.model.inputs, inputs)}
        nodes = self.model._nodes_by_depth
        last = self.model.outputs[0]
        for depth in sorted(nodes, reverse=True):
            for node in nodes[depth]:
                if node.is_input or any(key not in tensors for key in node.flat_input_ids):
                    continue
                is_last = logits and self.loss.takes_logits and str(id(last)) in node.flat_output_ids
                keys = node.flat_input_ids  # a layer may read an input several times, and takes one off at each
                arguments, named = node.map_arguments({key: [tensors[key]] * keys.count(key) for key in keys})
                y = _apply_layer(Call(node.layer, values, is_last), arguments, named)
                watch(node.layer.name, y)
                tensors[node.flat_output_ids[0]] = y
        return tensors[str(id(last))]


def _apply_layer(call: Call, arguments: Sequence[object], named: Mapping[str, object]) -> tf.Tensor:
    flat = arguments[0] if len(arguments) == 1 and isinstance(arguments[0], (list, tuple)) else arguments
    kept = {key: value for key, value in named.items() if value is not None and (key, value) != ("training", False)}
    try:
        return _RULES[type(call.layer).__name__](call, *flat, **kept)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise call.refuse(f"it is called with {', '.join(kept)}, which can't be exported") from None


def build_network(
    model: tf.keras.Model,
    loss: object,
    trainable: Sequence[str] = (),
    lora_rank: int = 0,
    batch_size: int = 1,
) -> Network:
    """Returns the network of a Keras model.

    Args:
      model: functional or Sequential, built.
      loss: Keras's name or description of it.
      trainable: shell patterns of weights' names; the others are frozen. None trains all that Keras would train.
      lora_rank: of adapters to the Dense and Embedding weights among them, which then train in place of them; 0 = none.
      batch_size: of the shapes that are tried out.

    Raises:
      ExportError: a layer, a shape or the loss can't be exported, or nothing trains.
    """
    if len(model.outputs) != 1:
        raise ExportError(f"the model has {len(model.outputs)} outputs, one can be exported: export one output's model")
    for layer in model.layers:
        if type(layer).__name__ not in _RULES and type(layer).__name__ != "InputLayer":
            raise refusal(layer, "it is not one of the layers in docs/keras.md")
    inputs = tuple(_input_spec(model, place, name) for place, name in zip(model.inputs, model.input_names))
    loss_row = loss_of(loss, _last_activation(model), tuple(model.outputs[0].shape[1:]))
    chosen = _choose(model, trainable)
    weights = _with_adapters(model, chosen, lora_rank) if lora_rank else tuple(_whole(v) for v in chosen)
    _check_names([*_OWN_NAMES, *(weight.tensor for weight in weights), *(place.name for place in inputs)])
    trained = {weight.variable.ref() for weight in weights if weight.side is None}
    frozen = tuple(variable for variable in model.weights if variable.ref() not in trained)
    network = Network(model, loss_row, inputs, weights, frozen)
    _try_out(network, batch_size)
    return network


def read_network(
    source: Path,
    loss: Optional[str] = None,
    trainable: Sequence[str] = (),
    lora_rank: int = 0,
    batch_size: int = 1,
) -> Network:
    """Returns the network of a Keras model's file.

    Args:
      source: as edge.export.keras_reading.read_keras takes it.
      loss: Keras's name of it; None takes what the model was compiled with.
      trainable, lora_rank, batch_size: as build_network.

    Raises:
      ExportError: as read_keras and build_network.
    """
    model, compiled = read_keras(source)
    return build_network(model, compiled if loss is None else loss, trainable, lora_rank, batch_size)


def _input_spec(model: tf.keras.Model, place: tf.Tensor, name: str) -> InputSpec:
    shape = tuple(place.shape[1:])
    if None in shape:
        raise ExportError(f"the input {name} has the shape {shape}: give each dimension but the batch's a size")
    readers = [
        node.layer
        for nodes in model._nodes_by_depth.values()
        for node in nodes
        if not node.is_input and str(id(place)) in node.flat_input_ids
    ]
    if all(type(layer).__name__ == "Embedding" for layer in readers):
        return InputSpec(tensor_name(name), shape, min(layer.input_dim for layer in readers))
    return InputSpec(tensor_name(name), shape, 0)


def _last_activation(model: tf.keras.Model) -> str:
    """Returns the activation that ends the model: "softmax", "sigmoid", or another's name."""
    last = model.outputs[0]
    layer = last.node.layer
    kind = type(layer).__name__
    if kind == "Softmax":
        return "softmax"
    inner = layer.layer if kind == "TimeDistributed" else layer
    function = getattr(inner, "activation", None) if kind in _WITHOUT_ACTIVATION else None
    return "" if function is None else str(tf.keras.activations.serialize(function))


def _choose(model: tf.keras.Model, patterns: Sequence[str]) -> list[tf.Variable]:
    """Returns the variables that train."""
    if not patterns:
        return list(model.trainable_weights)
    names = [_name(variable) for variable in model.trainable_weights]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ExportError(f"--trainable {pattern!r} names no weight: the model has {', '.join(names)}")
    return [v for v, name in zip(model.trainable_weights, names) if any(fnmatch.fnmatch(name, p) for p in patterns)]


def _name(variable: tf.Variable) -> str:
    return variable.name.rsplit(":", 1)[0]


def _whole(variable: tf.Variable) -> Weight:
    name = _name(variable)
    return Weight(name, tensor_name(name), variable.numpy(), variable)


def _with_adapters(model: tf.keras.Model, chosen: Sequence[tf.Variable], rank: int) -> tuple[Weight, ...]:
    """Returns two adapters for each chosen weight of Dense and Embedding: random times zero, so nothing changes yet.

    Source: Hu et al. 2021, "LoRA: low-rank adaptation of large language models", section 4.1.
    """
    layers = [getattr(layer, "layer", layer) for layer in model.layers]
    places = {
        variable.ref()
        for layer in layers
        for variable in (getattr(layer, "kernel", None), getattr(layer, "embeddings", None))
        if variable is not None and type(layer).__name__ in ("Dense", "Embedding")
    }
    rng, weights = np.random.default_rng(0), []
    for variable in chosen:
        if variable.ref() not in places:
            continue
        rows, columns = variable.shape
        most = min(rows, columns, _MAX_RANK)
        if not 1 <= rank <= most:
            raise ExportError(f"--lora {rank}: {_name(variable)} is {rows} by {columns}, take at most {most}")
        left = (rng.standard_normal((rows, rank)) / np.sqrt(rows)).astype(np.float32)
        for side, start in enumerate((left, np.zeros((rank, columns), np.float32))):
            name = f"{_name(variable)}/lora_{('left', 'right')[side]}"
            weights.append(Weight(name, tensor_name(name), start, variable, side))
    if not weights:
        raise ExportError(f"--lora {rank}: no Dense or Embedding layer is among the weights that train")
    return tuple(weights)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ExportError(
                f"the name {name} is taken twice, among weights, inputs, targets, mask, learning_rate: rename a layer"
            )


def _try_out(network: Network, batch_size: int) -> None:
    """Traces the network and its gradient once, so that what can't be traced is said here. Nothing is computed."""
    if not network.trainable:
        raise ExportError("no weight of the model trains: set layer.trainable = True where it should")

    def trace(inputs: list[tf.Tensor], trained: list[tf.Tensor], frozen: list[tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(trained)
            y = tf.reduce_sum(network.apply(network.values(trained, frozen), inputs, logits=True))
        return tape.gradient(y, trained)

    specs = [tf.TensorSpec((batch_size, *place.shape), place.dtype) for place in network.inputs]
    trained = [tf.TensorSpec(weight.start.shape, tf.float32) for weight in network.trainable]
    frozen = [tf.TensorSpec(variable.shape, variable.dtype) for variable in network.frozen]
    gradients = tf.function(trace, autograph=False).get_concrete_function(specs, trained, frozen).structured_outputs
    for weight, gradient in zip(network.trainable, gradients):
        if gradient is None:
            raise ExportError(f"the loss does not depend on {weight.name}: freeze its layer")
