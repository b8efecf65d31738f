"""A Keras model as one TFLite file that goes on training, in builtin ops only.

    train.tflite    float32, each weight inside once: signatures train and eval on batches of a fixed size, infer on one
                    example, get_weights and set_weights of the weights that train

All shapes are fixed: with a free batch size the gradients need ops that TFLite has no builtin for. A batch that is not
full has a mask of 0 in its last rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from edge.errors import ExportError
from edge.export.flatbuffer import custom_ops
from edge.export.keras_network import Network
from edge.export.keras_training import apply, score, score_name, sgd_step
from edge.export.tflite import Signature, TensorSpec, convert, traced_function

Outputs = dict[str, tf.Tensor]  # by the names of a signature
_OVERHEAD = 4 << 20  # bytes of a file besides its weights: the graphs


def keras_signatures(network: Network, batch_size: int) -> dict[str, Signature]:
    """Returns {signature: its tensors} of the file."""
    loss = network.loss
    inputs = tuple(
        TensorSpec(
            place.name, place.dtype, (batch_size, *place.shape), f"id below {place.num_ids}" if place.num_ids else ""
        )
        for place in network.inputs
    )
    targets = TensorSpec(
        "targets",
        loss.targets_dtype,
        (batch_size, *loss.targets_shape),
        "class" if loss.targets_dtype == "int32" else "",
    )
    mask = TensorSpec("mask", "float32", (batch_size,), "1 = an example, 0 = filling")
    one = tuple(TensorSpec(spec.name, spec.dtype, (1, *spec.shape[1:]), spec.unit) for spec in inputs)
    weights = tuple(TensorSpec(w.tensor, "float32", w.start.shape, "weight") for w in network.trainable)
    rate = TensorSpec("learning_rate", "float32", (), "step of SGD")
    examples = TensorSpec("num_examples", "float32", (), "sum of mask")
    unit = (
        "examples whose class is the likeliest; of many positions, their share"
        if loss.num_classes
        else "summed over the examples: mean of each one's outputs"
    )
    scored = TensorSpec(score_name(loss.num_classes), "float32", (), unit)
    batch = (*inputs, targets, mask)
    return {
        "train": Signature((*batch, rate), (TensorSpec("loss", "float32", (), "mean before the step"), examples)),
        "eval": Signature(batch, (TensorSpec("loss_sum", "float32", (), "summed over the examples"), scored, examples)),
        "infer": Signature(one, (TensorSpec("outputs", "float32", (1, *network.output_shape), "as Keras's predict"),)),
        "get_weights": Signature((), weights),
        "set_weights": Signature(weights, (TensorSpec("ok", "int32", (), "1"),)),
    }


def build_keras_file(network: Network, batch_size: int) -> bytes:
    """Returns train.tflite of a network; the same bytes for the same arguments.

    Raises:
      ExportError: the converter gives up, or the file needs ops that a plain TFLite runtime does not have.
    """
    module = tf.Module()
    module.trained = [tf.Variable(w.start, name=w.tensor) for w in network.trainable]
    module.frozen = [tf.Variable(v.numpy(), name=f"frozen_{i}") for i, v in enumerate(network.frozen)]
    bodies = _bodies(network, module.trained, module.frozen)
    specs = keras_signatures(network, batch_size)
    content = convert(module, {name: traced_function(spec, bodies[name]) for name, spec in specs.items()})
    custom = custom_ops(content)
    if custom:
        raise ExportError(f"this model needs ops that are not TFLite builtins: {', '.join(custom)}")
    num_bytes = 4 * sum(v.shape.num_elements() for v in (*module.trained, *module.frozen))
    if len(content) > num_bytes + _OVERHEAD:
        raise ExportError(
            f"the file would have {len(content):,} bytes for {num_bytes:,} bytes of weights: it holds some twice"
        )
    return content


def _bodies(
    network: Network, trained: Sequence[tf.Variable], frozen: Sequence[tf.Variable]
) -> dict[str, Callable[..., Outputs]]:
    names = [weight.tensor for weight in network.trainable]

    def read(variables: Sequence[tf.Variable]) -> list[tf.Tensor]:
        return [variable.read_value() for variable in variables]

    def train(**batch: tf.Tensor) -> Outputs:
        after, loss, num_examples = sgd_step(network, read(trained), read(frozen), batch, batch["learning_rate"])
        for variable, value in zip(trained, after):
            variable.assign(value)
        return {"loss": loss, "num_examples": num_examples}

    def evaluate(**batch: tf.Tensor) -> Outputs:
        return score(network, read(trained), read(frozen), batch)

    def infer(**example: tf.Tensor) -> Outputs:
        return {"outputs": apply(network, read(trained), read(frozen), example, logits=False)}

    def set_weights(**values: tf.Tensor) -> Outputs:
        for variable, name in zip(trained, names):
            variable.assign(values[name])
        return {"ok": tf.constant(1)}

    return {
        "train": train,
        "eval": evaluate,
        "infer": infer,
        "get_weights": lambda: {name: variable.read_value() for name, variable in zip(names, trained)},
        "set_weights": set_weights,
    }
