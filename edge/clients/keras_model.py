"""A client that trains with an exported Keras model in a TFLite runtime. It needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge.clients.litert import build_interpreter
from models.client_result import ClientResult
from models.examples import MASK, ExampleBatches
from models.weights import Weights, are_finite

Arrays = Mapping[str, np.ndarray]


class KerasModel:
    """train.tflite of a Keras model in a runtime. It holds the weights: a train step changes them."""

    def __init__(self, content: bytes, names: Sequence[str], runtime: str = "litert", num_threads: int = 1):
        """Loads `content`, whose signatures call the weights that train by `names`, in their order."""
        interpreter = build_interpreter(content, runtime, num_threads)
        self._names = tuple(names)
        signatures = ("train", "eval", "infer", "get_weights", "set_weights")
        self._run = {name: interpreter.get_signature_runner(name) for name in signatures}

    def get_weights(self) -> tuple[np.ndarray, ...]:
        """Returns a copy of the weights that train."""
        weights = self._run["get_weights"]()
        return tuple(weights[name] for name in self._names)

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Replaces the weights that train."""
        self._run["set_weights"](**dict(zip(self._names, weights)))

    def train_step(self, batch: Arrays, learning_rate: float) -> float:
        """Takes one step of SGD on a batch (inputs, targets and mask by name); returns the loss before it."""
        return float(self._run["train"](**batch, learning_rate=np.float32(learning_rate))["loss"])

    def evaluate(self, batch: Arrays) -> dict[str, float]:
        """Returns the sums of the eval signature over a batch."""
        return {name: float(value) for name, value in self._run["eval"](**batch).items()}

    def infer(self, inputs: Arrays) -> np.ndarray:
        """Returns the outputs [1, ...] for one example's inputs."""
        return self._run["infer"](**inputs)["outputs"]


def train_on_examples(
    model: KerasModel, weights: Weights, learning_rate: float, batches: ExampleBatches
) -> ClientResult:
    """Trains one client by the exported model, with local SGD; an example counts as one position."""
    model.set_weights(weights)
    loss_sum = 0.0
    for number in range(batches.num_batches):
        batch = {name: array[number] for name, array in batches.arrays.items()}
        loss_sum += model.train_step(batch, learning_rate) * float(batch[MASK].sum())
    delta = tuple(before - after for before, after in zip(weights, model.get_weights()))
    return ClientResult(
        delta=delta,
        loss_sum=loss_sum,
        num_tokens=batches.num_examples,
        num_examples=batches.num_examples,
        is_finite=are_finite(delta),
    )
