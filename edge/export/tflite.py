"""The model as TFLite files, in builtin ops only: two that go on training on a phone, and a small one that predicts.

    train.tflite            float32, the weights inside as variables: signatures train, train_fixed, train_RxT, eval,
                            infer, get_weights, set_weights; train_fixed is train at the plan's batch size alone, for
                            runtimes that refuse a free one, such as LiteRT.js; train_RxT are the shapes of
                            edge.export.shapes, in which sentences share rows
    train_stateless.tflite  the same without weights inside: they go in and come out of each call, for runtimes that
                            refuse resource variables
    infer.tflite            one key stroke, weights as int8 constants, which the runtime turns into float32 as it loads

All three trace models.model, which TFF trains with. TensorFlow is imported where a file is made, not here: the
tools that only read files must not need it.
"""
# Over 300 lines, since what is traced stands beside the table of signatures that it must fit.

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Optional

import numpy as np

from edge.errors import ExportError
from edge.export.flatbuffer import custom_ops, with_fixed_rows, with_int8_matrices
from edge.export.shapes import TrainShape, shapes_among, train_shapes
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize, Weights

if TYPE_CHECKING:
    import tensorflow as tf

    from models.network import Tensors
    from models.next_word import NextWordModel

    Outputs = dict[str, tf.Tensor]  # by the names of a signature
    Body = Callable[..., Outputs]

TRAIN_FILE = "train.tflite"
STATELESS_FILE = "train_stateless.tflite"
INFER_FILE = "infer.tflite"
FIXED_SIGNATURE = "train_fixed"
NUM_PREDICTIONS = 3


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature. shape: -1 = free, the same for all free ones of a call."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    unit: str


@dataclass(frozen=True)
class Signature:
    """One entry point of a file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def signatures(
    size: ModelSize, time: int, batch_size: int, shapes: Optional[Sequence[TrainShape]] = None
) -> dict[str, dict[str, Signature]]:
    """Returns {file: {signature: its tensors}}: what the files are built from, and what the manifest says of them.

    `shapes` are those of train.tflite; None is what a bundle with this plan has.

    >>> [spec.name for spec in signatures(ModelSize(9, 2, 3), time=5, batch_size=4)["train.tflite"]["train"].inputs]
    ['tokens', 'targets', 'mask', 'learning_rate']
    """
    # More than 40 lines, since it is one table, to be read from top to bottom.
    rows = -1 if size.architecture.free_batch else batch_size
    batch = (
        TensorSpec("tokens", "int32", (rows, time), "word id; each sentence starts with <bos>, then <pad> fills"),
        TensorSpec("targets", "int32", (rows, time), "word id that follows; <eos> ends a sentence, then <pad> fills"),
        TensorSpec("mask", "float32", (rows, time), "1 = real, 0 = padding; in each row the ones come first"),
    )
    rate = TensorSpec("learning_rate", "float32", (), "step of SGD")
    trained = (
        TensorSpec("loss", "float32", (), "nats per token: mean over the real positions, before the step"),
        TensorSpec("num_tokens", "float32", (), "real positions"),
    )
    scored = (
        TensorSpec("hits1", "float32", (), "positions whose word is the likeliest"),
        TensorSpec("hits3", "float32", (), "positions whose word is among the three likeliest"),
        TensorSpec("nll_sum", "float32", (), "nats, summed over the positions"),
        TensorSpec("positions", "float32", (), "real positions whose target is a word of the vocabulary"),
        TensorSpec("oov", "float32", (), "real positions whose target is <unk>: not scored"),
    )
    state = tuple(
        TensorSpec(name, "float32", shape, "state of the key stroke before; zeros at the start")
        for name, shape in size.state.items()
    )
    stroke_in = (TensorSpec("token", "int32", (1,), "id of the word just typed; <bos> at the start"), *state)
    stroke_out = (
        TensorSpec("ids", "int32", (1, NUM_PREDICTIONS), "likeliest next words, best first; never a special id"),
        TensorSpec("probabilities", "float32", (1, NUM_PREDICTIONS), "probability of each of ids"),
        *(TensorSpec(f"next_{spec.name}", spec.dtype, spec.shape, "state for the next key stroke") for spec in state),
    )
    weights = tuple(TensorSpec(n, "float32", s, "weight") for n, s in size.by_name.items())
    new_weights = tuple(TensorSpec(f"new_{w.name}", w.dtype, w.shape, "weight after the step") for w in weights)
    fixed = tuple(replace(spec, shape=(batch_size, time)) for spec in batch)
    if shapes is None:
        shapes = train_shapes(size, time, batch_size)
    shared = {shape.signature: Signature((*_shared_rows(shape), rate), trained) for shape in shapes}
    done = TensorSpec("ok", "int32", (), "1")
    return {
        TRAIN_FILE: {
            "train": Signature((*batch, rate), trained),
            FIXED_SIGNATURE: Signature((*fixed, rate), trained),
            **shared,
            "eval": Signature(batch, scored),
            "infer": Signature(stroke_in, stroke_out),
            "get_weights": Signature((), weights),
            "set_weights": Signature(weights, (done,)),
        },
        STATELESS_FILE: {
            "train": Signature((*weights, *batch, rate), (*trained, *new_weights)),
            "eval": Signature((*weights, *batch), scored),
            "infer": Signature((*weights, *stroke_in), stroke_out),
        },
        INFER_FILE: {"infer": Signature(stroke_in, stroke_out)},
    }


def _shared_rows(shape: TrainShape) -> tuple[TensorSpec, ...]:
    """Returns a batch in which several sentences may stand in a row."""
    rows = "; sentences stand one after the other"
    return (
        TensorSpec("tokens", "int32", shape, f"word id; a sentence starts with <bos>{rows}, then <pad> fills"),
        TensorSpec("targets", "int32", shape, f"word id that follows; <eos> ends a sentence{rows}, then <pad> fills"),
        TensorSpec("mask", "float32", shape, "1 = real, 0 = padding; in each row the ones come first"),
    )


def build_files(
    size: ModelSize,
    weights: Weights,
    time: int,
    clip_norm: float,
    batch_size: int,
    shapes: Optional[Sequence[TrainShape]] = None,
) -> dict[str, bytes]:
    """Returns {file name: content} of the three TFLite files; the same bytes for the same arguments.

    Args:
      size: of the model.
      weights: float32, all finite.
      time: positions a sentence.
      clip_norm: as in models.next_word.sgd_step; traced into the train signatures.
      batch_size: sentences of a batch of train_fixed; of a kind without a free batch, of every batch.
      shapes: as in signatures.

    Raises:
      ExportError: the weights are not finite or too few to predict with, the converter gives up, or a file needs ops
        that a plain TFLite runtime does not have.
    """
    from models.model import load_model

    _check_weights(size, weights)
    model = load_model(size)
    files = {
        TRAIN_FILE: _build_train_file(model, weights, time, clip_norm, batch_size, shapes),
        STATELESS_FILE: _build_stateless_file(model, time, clip_norm, batch_size),
        INFER_FILE: build_infer_file(size, weights),
    }
    _check_ops(files)
    return files


def check_network(size: ModelSize, weights: Weights, time: int, clip_norm: float, batch_size: int) -> None:
    """Refuses a network that build_files would refuse.

    It leaves out train.tflite, which takes the longest: its functions are those of train_stateless.tflite, with the
    weights in variables.

    Args:
      size, weights, time, clip_norm, batch_size: as in build_files.

    Raises:
      ExportError: as build_files.
    """
    from models.model import load_model

    _check_weights(size, weights)
    _check_ops(
        {
            STATELESS_FILE: _build_stateless_file(load_model(size), time, clip_norm, batch_size),
            INFER_FILE: build_infer_file(size, weights),
        }
    )


def build_infer_file(size: ModelSize, weights: Weights, quantised: bool = True) -> bytes:
    """Returns the one-step model with constant weights: int8 matrices, or float32 to compare them with."""
    import tensorflow as tf

    from models.model import load_model

    model, constants = load_model(size), tuple(tf.constant(w) for w in weights)
    spec = signatures(size, time=1, batch_size=1)[INFER_FILE]["infer"]
    functions = {"infer": traced_function(spec, lambda **inputs: _infer(model, constants, **inputs))}
    content = convert(tf.Module(), functions)
    return with_int8_matrices(content) if quantised else content


def _build_train_file(
    model: NextWordModel,
    weights: Weights,
    time: int,
    clip_norm: float,
    batch_size: int,
    shapes: Optional[Sequence[TrainShape]] = None,
) -> bytes:
    import tensorflow as tf

    module, names = tf.Module(), model.size.names
    module.weights = [tf.Variable(w, name=name) for name, w in zip(names, weights)]

    def read() -> Tensors:
        return tuple(variable.read_value() for variable in module.weights)

    def assign(values: Tensors) -> None:
        for variable, value in zip(module.weights, values):
            variable.assign(value)

    def train(shares_rows: bool = False, **batch: tf.Tensor) -> Outputs:
        after, outputs = _train(model, read(), clip_norm, shares_rows, **batch)
        assign(after)
        return outputs

    def set_weights(**values: tf.Tensor) -> Outputs:
        assign([values[name] for name in names])
        return {"ok": tf.constant(1)}

    bodies: dict[str, Body] = {
        "train": train,
        FIXED_SIGNATURE: train,
        "eval": lambda **batch: _score(model, read(), **batch),
        "infer": lambda **inputs: _infer(model, read(), **inputs),
        "get_weights": lambda: dict(zip(names, read())),
        "set_weights": set_weights,
    }
    specs = signatures(model.size, time, batch_size, shapes)[TRAIN_FILE]
    rows_of: dict[int, dict[str, int]] = {}  # by length of the rows: of each shape, {signature: rows}
    for shape in shapes_among(specs):
        rows_of.setdefault(shape.time, {})[shape.signature] = shape.rows
    functions = {name: traced_function(spec, bodies[name]) for name, spec in specs.items() if name in bodies}
    for length, rows in rows_of.items():
        functions[f"shared_{length}"] = traced_function(
            _with_free_rows(specs[next(iter(rows))]), functools.partial(train, shares_rows=True)
        )
    return with_fixed_rows(convert(module, functions), {f"shared_{length}": rows for length, rows in rows_of.items()})


def _with_free_rows(signature: Signature) -> Signature:
    inputs = (replace(spec, shape=(-1, *spec.shape[1:])) if spec.shape else spec for spec in signature.inputs)
    return replace(signature, inputs=tuple(inputs))


def _build_stateless_file(model: NextWordModel, time: int, clip_norm: float, batch_size: int) -> bytes:
    import tensorflow as tf

    names = model.size.names

    def take_weights(inputs: dict[str, tf.Tensor]) -> Tensors:
        return tuple(inputs.pop(name) for name in names)

    def train(**inputs: tf.Tensor) -> Outputs:
        after, outputs = _train(model, take_weights(inputs), clip_norm, **inputs)
        return {**outputs, **{f"new_{name}": value for name, value in zip(names, after)}}

    bodies: dict[str, Body] = {
        "train": train,
        "eval": lambda **inputs: _score(model, take_weights(inputs), **inputs),
        "infer": lambda **inputs: _infer(model, take_weights(inputs), **inputs),
    }
    specs = signatures(model.size, time, batch_size)[STATELESS_FILE]
    return convert(tf.Module(), {name: traced_function(spec, bodies[name]) for name, spec in specs.items()})


def _train(
    model: NextWordModel, weights: Tensors, clip_norm: float, shares_rows: bool = False, **batch: tf.Tensor
) -> tuple[Tensors, Outputs]:
    import tensorflow as tf

    from models.next_word import sgd_step

    after, loss_sum, num_tokens = sgd_step(
        model, weights, **batch, clip_norm=clip_norm, padded=True, shares_rows=shares_rows
    )
    return after, {"loss": loss_sum / tf.maximum(num_tokens, 1.0), "num_tokens": num_tokens}


def _score(model: NextWordModel, weights: Tensors, **batch: tf.Tensor) -> Outputs:
    from models import inference

    size = model.size
    return inference.recall_sums(model, weights, **batch, vocabulary_size=size.vocabulary_size, padded=True)._asdict()


def _infer(model: NextWordModel, weights: Tensors, token: tf.Tensor, **state: tf.Tensor) -> Outputs:
    from models import inference

    stroke = inference.key_stroke(model, weights, token, state)
    return {
        "ids": stroke.ids,
        "probabilities": stroke.probabilities,
        **{f"next_{name}": value for name, value in stroke.state.items()},
    }


def traced_function(signature: Signature, body: Body) -> tf.types.experimental.ConcreteFunction:
    """Returns the concrete function of `body`, which takes the signature's inputs by name."""
    import tensorflow as tf

    names = [spec.name for spec in signature.inputs]
    specs = [
        tf.TensorSpec([None if n < 0 else n for n in spec.shape], spec.dtype, spec.name) for spec in signature.inputs
    ]

    @tf.function(input_signature=specs, autograph=False)
    def traced(*inputs: tf.Tensor) -> Outputs:
        return body(**dict(zip(names, inputs)))

    return traced.get_concrete_function()


def convert(module: tf.Module, functions: Mapping[str, tf.types.experimental.ConcreteFunction]) -> bytes:
    """Returns one TFLite file with a signature for each function."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(functions))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        converter.experimental_enable_resource_variables = True
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"TensorFlow {tf.__version__} can't convert this model to TFLite: {reason}") from error


def _check_ops(files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        custom = custom_ops(content)
        if custom:
            raise ExportError(f"{name} needs ops that are not TFLite builtins: {', '.join(custom)}")


def _check_weights(size: ModelSize, weights: Weights) -> None:
    if size.vocabulary_size < NUM_SPECIAL + NUM_PREDICTIONS:
        raise ExportError(
            f"the model has {size.vocabulary_size - NUM_SPECIAL} words and a phone shows {NUM_PREDICTIONS}: "
            "train it with a larger model.vocabulary_size"
        )
    for name, weight in zip(size.names, weights):
        bad = int(np.size(weight) - np.count_nonzero(np.isfinite(weight)))
        if bad:
            raise ExportError(
                f"the weights are not finite: {bad} of {np.size(weight)} values of {name} are NaN or infinite; "
                "export an earlier round or train anew with a smaller server.learning_rate"
            )
