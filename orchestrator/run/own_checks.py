"""Checks a person's own network before anything is written: each fault is one line that names the layer, if it can.

All on made-up words: what begins, shapes, what depends on what, the loss, the gradient against differences of the loss,
and that the training step and the key stroke convert to TFLite's builtin ops.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Optional, TypeVar

import numpy as np
import tensorflow as tf

from edge.errors import ExportError
from edge.export.tflite import check_network
from models.errors import OwnNetworkError
from models.network import Named
from models.next_word import LossAndGradients
from models.own_model import OwnModel, load_own_model
from models.own_network import short_name
from models.vocabulary import NUM_SPECIAL
from models.weights import ModelSize, Weights
from orchestrator.rounds.build import first_weights, model_size
from orchestrator.settings.run_config import RunConfig

Result = TypeVar("Result")

_ROWS = 2
_SAME = 1e-4  # logits that far apart are equal but for rounding, relative to the largest
_MOVE = 1e-2  # by which each coordinate of a weight moves
_GRADIENT = 0.05  # relative error of a gradient that differences of float32 may show
_NOISE = 2e-3  # nats per unit of a weight that rounding may show
_COORDINATES = 2  # tried by themselves in each weight, beside all together


def check_own_network(config: RunConfig, num_words: int, note: Callable[[str], None]) -> None:
    """Checks the network of a run, which is somebody's own and loaded.

    Args:
      config: of the run.
      num_words: of its vocabulary.
      note: is told that the checks begin.

    Raises:
      OwnNetworkError: what is wrong, in which layer or weight.
      ConfigError: it is too large.
    """
    note(f"checking {short_name(config.model.kind)}")
    size = model_size(config.model, num_words)
    weights = _check_start(config, size)
    checks = _Checks(load_own_model(size), weights, config.data.max_words)
    checks.check_outputs()
    checks.check_causal()
    checks.check_steps()
    checks.check_gradient()
    _check_export(size, weights, config)


def _check_start(config: RunConfig, size: ModelSize) -> Weights:
    """Returns the weights before round 1, which must be the same each time."""
    name = short_name(size.kind)
    if config.model.counts_words and size.architecture.output_bias is None:
        raise OwnNetworkError(
            f"{name}: no output bias could begin at the word counts: set model.start_from_word_counts to false"
        )
    weights, again = (first_weights(config, size, None) for _ in range(2))
    for weight, one, other in zip(size.names, weights, again):
        if not np.isfinite(one).all():
            raise OwnNetworkError(f"{name}: weight {weight} begins with NaN or an infinite value")
        if not np.array_equal(one, other):
            raise OwnNetworkError(
                f"{name}: weight {weight} begins with other values each time: draw it with Keras's initialisers, or "
                "with the generator that `initial` gets"
            )
    return weights


class _Checks:
    """The checks of a network with its weights, on made-up sentences."""

    def __init__(self, model: OwnModel, weights: Weights, time: int):
        self._model, self._name, self._weights = model, short_name(model.size.kind), weights
        self._named: Named = model.named(weights)
        self._rng = np.random.default_rng(0)
        self._tokens = self._sentences(_ROWS, time)
        self._time = time
        targets, mask = np.roll(self._tokens, -1, axis=1), np.ones((_ROWS, time), np.float32)

        @tf.function(autograph=False)  # traced, as training traces it
        def loss(weights: Weights) -> LossAndGradients:
            return model.loss_and_gradients(weights, tf.constant(self._tokens), targets, tf.constant(mask))

        self._loss = loss

    def _sentences(self, count: int, time: int) -> np.ndarray:
        """Returns words of the model, drawn evenly: int32 [count, time]."""
        return self._rng.integers(NUM_SPECIAL, self._model.size.vocabulary_size, (count, time), np.int32)

    def _fault(self, text: str, layer: Optional[str] = None) -> OwnNetworkError:
        return OwnNetworkError(f"{self._name}: {f'layer {layer}: ' if layer else ''}{text}")

    def _logits(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the logits float32 [rows, time, V] of sentences."""
        logits = self._guarded("logits", lambda: self._model.network.logits(self._named, tf.constant(tokens)))
        if not isinstance(logits, tf.Tensor) or logits.dtype != tf.float32:
            found = logits.dtype.name if isinstance(logits, tf.Tensor) else type(logits).__name__
            raise self._fault(f"it gives {found}, and logits are float32")
        wanted = (*tokens.shape, self._model.size.vocabulary_size)
        if tuple(logits.shape) != wanted:
            raise self._fault(
                f"it gives the shape {tuple(logits.shape)} for words {tokens.shape}, and must give {wanted}"
            )
        return logits.numpy()

    def _guarded(self, part: str, run: Callable[[], Result]) -> Result:
        """Runs somebody's functions; whatever they raise becomes one line."""
        try:
            return run()
        except OwnNetworkError:
            raise
        except (Exception, SystemExit) as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise self._fault(f"{part} raised {said[:300]}") from None

    def _layer_where(self, holds: Callable[[np.ndarray, np.ndarray], bool], others: np.ndarray) -> Optional[str]:
        """Returns the first layer whose outputs for the sentences and for others fulfil a condition."""
        layers = self._model.network.layers
        if layers is None:
            return None
        both = (layers(self._named, tf.constant(tokens)) for tokens in (self._tokens, others))
        return next((name for (name, one), (_, other) in zip(*both) if holds(one.numpy(), other.numpy())), None)

    def check_outputs(self) -> None:
        """The logits have the right shape and are finite; a sentence's do not depend on the others in its batch."""
        logits = self._logits(self._tokens)
        if not np.isfinite(logits).all():
            layer = self._layer_where(lambda one, _: not np.isfinite(one).all(), self._tokens)
            raise self._fault("it gives NaN or an infinite value before any training", layer)
        if not _are_same(logits[:1], self._logits(self._tokens[:1])):
            raise self._fault("a sentence's logits depend on the other sentences of its batch")

    def check_causal(self) -> None:
        """A later word changes no earlier position."""
        logits = self._logits(self._tokens)
        for place in sorted({1, self._time // 2, self._time - 1} - {0}):
            others = self._tokens.copy()
            others[:, place:] = self._sentences(_ROWS, self._time - place)
            if _are_same(logits[:, :place], self._logits(others)[:, :place]):
                continue

            def looks_ahead(one: np.ndarray, other: np.ndarray, before: int = place) -> bool:
                has_positions = one.ndim >= 2 and one.shape[1] == self._time
                return not (has_positions and _are_same(one[:, :before], other[:, :before]))

            layer = self._layer_where(looks_ahead, others)
            raise self._fault(
                f"the word at position {place} changes what was predicted before it: it must be causal", layer
            )

    def check_steps(self) -> None:
        """Key strokes, one by one, predict what the network predicts of the whole sentence."""
        whole = self._logits(self._tokens[:1])[0]
        state: Named = {name: tf.constant(value) for name, value in self._model.size.start_state().items()}
        for place in range(self._time):
            token = tf.constant(self._tokens[0, place : place + 1])
            row, state = self._guarded("step", partial(self._model.step, self._named, token, state))
            shapes = {name: tuple(value.shape) for name, value in state.items()}
            if shapes != dict(self._model.size.state):
                raise self._fault(f"step hands on {shapes}, and its state is {dict(self._model.size.state)}")
            if tuple(row.shape) != (1, whole.shape[1]) or not _are_same(whole[place], row.numpy()[0]):
                raise self._fault(f"step predicts something else at position {place} than logits")

    def check_gradient(self) -> None:
        """The loss is finite, and the gradient of each weight is that of differences of the loss."""
        found = self._guarded("the gradient of logits", lambda: self._loss(self._weights))
        count = float(found.num_tokens)
        if not np.isfinite(float(found.loss_sum)):
            raise self._fault(f"the loss is {float(found.loss_sum)} before any training")
        for i, (name, gradient) in enumerate(zip(self._model.size.names, found.gradients)):
            slope = gradient.numpy()
            if slope.shape != self._weights[i].shape or not np.isfinite(slope).all():
                raise self._fault(f"the gradient of {name} is not finite, or of another shape than the weight")
            for direction in self._directions(slope):
                moved = [self._moved(i, sign * direction) for sign in (1.0, -1.0)]
                ahead, behind = (float(self._loss(weights).loss_sum) / count for weights in moved)
                step = float(np.abs(direction).max())
                measured, said = (ahead - behind) / 2.0 / step, float((slope * direction).sum()) / step
                if not abs(measured - said) <= _GRADIENT * abs(measured) + _NOISE:
                    raise self._fault(
                        f"the gradient of {name} is {said:.4g} where differences of the loss give {measured:.4g}: "
                        "correct its custom gradient"
                    )

    def _directions(self, slope: np.ndarray) -> Iterator[np.ndarray]:
        """Yields moves of a weight: all coordinates at random, then single ones, the steepest first."""
        yield (_MOVE * self._rng.choice([-1.0, 1.0], slope.shape)).astype(np.float32)
        for place in np.argsort(-np.abs(slope), axis=None)[:_COORDINATES]:
            one = np.zeros(slope.size, np.float32)
            one[place] = _MOVE
            yield one.reshape(slope.shape)

    def _moved(self, index: int, by: np.ndarray) -> Weights:
        return tuple(w + by if i == index else w for i, w in enumerate(self._weights))


def _are_same(one: np.ndarray, other: np.ndarray) -> bool:
    """True if two arrays are equal but for rounding."""
    return one.shape == other.shape and bool(np.abs(one - other).max() <= _SAME * max(1.0, float(np.abs(one).max())))


@contextlib.contextmanager
def _quiet_converter() -> Iterator[None]:
    """Drops what TensorFlow's converter writes to file descriptor 2: its errors come as exceptions, too."""
    standard_error = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(standard_error, 2)
        os.close(standard_error)


def _check_export(size: ModelSize, weights: Weights, config: RunConfig) -> None:
    """The network, its gradient and its key stroke convert to TFLite's builtin ops."""
    try:
        with _quiet_converter():
            check_network(size, weights, config.data.max_words, config.client.clip_norm, config.client.batch_size)
    except ExportError as error:
        ops = sorted(set(re.findall(r"\b(?:tf\.|Flex)(\w+)", str(error.__cause__ or ""))))
        which = f"TFLite has no builtin for {', '.join(ops)}" if ops else str(error)
        raise OwnNetworkError(f"{short_name(size.kind)}: a phone could not train it: {which}") from None
