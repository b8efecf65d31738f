"""The losses that a Keras model may train on, and the sums that score it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from edge.errors import ExportError
from edge.export.keras_gradients import relu

Terms = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # (outputs, targets) -> a number for each position


@dataclass(frozen=True)
class Loss:
    """A loss and what goes into it.

    Attributes:
      name: Keras's.
      targets_dtype: int32 of classes, else float32.
      targets_shape: of one example.
      takes_logits: it takes the outputs before softmax or sigmoid.
      from_logits: the model's outputs are logits, since it ends without softmax or sigmoid.
      num_classes: of a classifier; 0 of a regressor, 1 where two classes have one output.
      terms: what it computes of outputs and targets, all but the batch flattened away by the mean.
    """

    name: str
    targets_dtype: str
    targets_shape: tuple[int, ...]
    takes_logits: bool
    from_logits: bool
    num_classes: int
    terms: Terms

    def by_example(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns each example's loss, float32 [batch]: the mean over its positions."""
        return _mean_by_example(self.terms(outputs, targets))

    def squared_error(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns each example's squared error, float32 [batch]: the mean over its outputs."""
        return _mean_by_example(tf.math.squared_difference(outputs, targets))

    def hits(self, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """Returns the share of each example's positions whose class is the likeliest, float32 [batch]."""
        if self.num_classes == 1:
            right = tf.equal(tf.cast(outputs > 0.0, tf.float32), targets)
        else:
            wanted = targets if self.targets_dtype == "int32" else tf.argmax(targets, -1, tf.int32)
            right = tf.equal(tf.argmax(outputs, -1, tf.int32), wanted)
        return _mean_by_example(tf.cast(right, tf.float32))


def _mean_by_example(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(x, tuple(range(1, len(x.shape)))) if len(x.shape) > 1 else x


@tf.custom_gradient
def softmax_cross_entropy(logits: tf.Tensor, shares: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Returns the cross-entropy in nats of softmax(logits) [..., classes] against shares of the same shape."""
    shifted = logits - tf.reduce_max(logits, -1, keepdims=True)
    powers = tf.exp(shifted)
    total = tf.reduce_sum(powers, -1, keepdims=True)
    weight = tf.reduce_sum(shares, -1, keepdims=True)
    loss = tf.math.log(total) * weight - tf.reduce_sum(shares * shifted, -1, keepdims=True)

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, None]:
        return tf.expand_dims(dy, -1) * (powers / total * weight - shares), None

    return tf.squeeze(loss, -1), gradient


@tf.custom_gradient
def sigmoid_cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Returns the cross-entropy in nats of sigmoid(logits) against targets from 0 to 1, of the same shape."""
    loss = relu(logits) - logits * targets + tf.math.log(1.0 + tf.exp(-tf.abs(logits)))

    def gradient(dy: tf.Tensor) -> tuple[tf.Tensor, None]:
        return dy * (tf.sigmoid(logits) - targets), None

    return loss, gradient


def _sparse(outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return softmax_cross_entropy(outputs, tf.one_hot(targets, outputs.shape[-1]))


def _squared(outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return tf.math.squared_difference(outputs, targets)


def _absolute(outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    return tf.abs(outputs - targets)


TERMS: dict[str, Terms] = {
    "sparse_categorical_crossentropy": _sparse,
    "categorical_crossentropy": softmax_cross_entropy,
    "binary_crossentropy": sigmoid_cross_entropy,
    "mean_squared_error": _squared,
    "mean_absolute_error": _absolute,
}
_ALSO_CALLED = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}
_NEEDS = {"binary_crossentropy": "sigmoid"}  # the others of TERMS that take logits need softmax


def loss_of(described: object, last_activation: str, output_shape: tuple[int, ...]) -> Loss:
    """Returns the loss that Keras describes.

    Args:
      described: what `compile` was given: a name, or a class with its settings; a list of one of them.
      last_activation: that ends the model.
      output_shape: of one example.

    Raises:
      ExportError: there is none, it is not supported, or it takes probabilities that the model does not end with.
    """
    name, settings = _name_and_settings(described)
    if name not in TERMS:
        raise ExportError(f"the loss {name} can't be exported: {', '.join(TERMS)} can; give one of them as --loss")
    for key, value in settings.items():
        if key not in ("from_logits", "reduction", "name", "fn", "axis", "ignore_class") and value:
            raise ExportError(
                f"the loss {name} has {key} = {value}, which can't be exported: compile the model without"
            )
    if settings.get("ignore_class") is not None or settings.get("reduction", "auto") not in (
        "auto",
        "sum_over_batch_size",
    ):
        raise ExportError(
            f"the loss {name} must be the mean of all classes: compile the model without ignore_class, reduction"
        )
    if settings.get("axis", -1) not in (-1, len(output_shape)):
        raise ExportError(f"the loss {name} must be over the last axis: compile the model with axis=-1")
    takes_logits = name.endswith("crossentropy")
    needed = _NEEDS.get(name, "softmax")
    if takes_logits and last_activation != needed and not settings.get("from_logits"):
        raise ExportError(
            f"the loss {name} takes probabilities, and the model does not end with {needed}: end it so, or compile it "
            "with from_logits=True"
        )
    is_sparse = name.startswith("sparse")
    shape = output_shape[:-1] if is_sparse else output_shape
    num_classes = 0 if not takes_logits else output_shape[-1]
    if name == "binary_crossentropy":
        num_classes = 1
    from_logits = takes_logits and last_activation != needed
    return Loss(name, "int32" if is_sparse else "float32", shape, takes_logits, from_logits, num_classes, TERMS[name])


def _name_and_settings(described: object) -> tuple[str, Mapping[str, object]]:
    if isinstance(described, (list, tuple)) and len(described) == 1:
        described = described[0]
    settings: object = {}
    if isinstance(described, dict) and "class_name" in described:
        settings = described.get("config")
        described = described["class_name"]
    if described is None:
        raise ExportError("the model was not compiled with a loss: compile it before it is saved, or give --loss")
    if not isinstance(described, str) or not isinstance(settings, dict):
        raise ExportError(f"the loss {described} can't be exported: {', '.join(TERMS)} can; give one of them as --loss")
    name = re.sub("(?<=[a-z])(?=[A-Z])", "_", described).lower()
    return _ALSO_CALLED.get(name, name), settings
