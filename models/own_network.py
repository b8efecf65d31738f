"""A next-word network of somebody's own: what their code gives, and the networks that this process has loaded.

Such a network is known by its kind, `FILE.py:FUNCTION@SHA256`. The digest is of the file, so the name says which code
it is. Code is loaded for whoever asks for it in so many words (orchestrator.run.own_code), never by a name that stands
in somebody's settings or manifest. What is loaded is a fact about the process, as Python's own modules are.

Imports no TensorFlow: models.weights needs it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

import numpy as np

from models.architectures import ARCHITECTURES, Architecture, Shape
from models.errors import OwnNetworkError

if TYPE_CHECKING:
    import tensorflow as tf

    Named = Mapping[str, tf.Tensor]
    Layers = Callable[[Named, tf.Tensor], list[tuple[str, tf.Tensor]]]

_KIND = re.compile(r"(?P<file>[\w.-]+\.py):(?P<function>[A-Za-z_]\w*)@(?P<sha256>[0-9a-f]{64})")
_WEIGHT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ROLES = {"embedding": 2, "output": 2, "output_bias": 1}  # dimensions of each; the first is of the words
PREFIX, LENGTH = "words", "length"  # the state of a network that reads a sentence anew at each key stroke


@dataclass(frozen=True)
class BuildSize:
    """What a build function is given.

    Attributes:
      vocabulary_size: V, ids of words; 0 pads, 1 begins a sentence, 2 ends it, 3 is an unknown word.
      embedding_size: model.embedding_size, to use or not.
      num_cells: model.num_cells, to use or not.
      max_words: positions of a sentence.
    """

    vocabulary_size: int
    embedding_size: int
    num_cells: int
    max_words: int


@dataclass(frozen=True)
class PureNetwork:
    """A network as pure functions of its weights, in ops that TFLite has builtins for.

    TensorFlow differentiates `logits`; where a gradient has no builtin op, wrap that part in tf.custom_gradient.

    Attributes:
      shapes: {weight: shape}, in the order in which the weights travel; all float32, and all train.
      initial: random generator -> {weight: array} before the first round; equal for equal generators.
      logits: ({weight: tensor}, word ids int32 [batch, max_words]) -> logits float32 [batch, max_words, V] of the word
        after each position. Sentences must not depend on one another, nor on words that come later.
      step: ({weight: tensor}, word id int32 [1], {name: state}) -> (logits [1, V], the next state): a key stroke. None
        reads the words since the start of the sentence anew.
      state: {name: shape} of what `step` hands on: float32, zeros at the start of a sentence.
      embedding: the weight [V, D] that turns words into vectors, if there is one; some attacks read it.
      output: the weight [V, D] that turns the last rows into logits, if there is one.
      output_bias: the weight [V] that is added to the logits, if there is one.
      layers: as logits, but -> [(name, tensor)] of each layer's output, in running order: checks name a layer by it.
    """

    shapes: Mapping[str, Shape]
    initial: Callable[[np.random.Generator], Mapping[str, np.ndarray]]
    logits: Callable[[Named, tf.Tensor], tf.Tensor]
    step: Optional[Callable[[Named, tf.Tensor, Named], tuple[tf.Tensor, Named]]] = None
    state: Mapping[str, Shape] = field(default_factory=dict)
    embedding: Optional[str] = None
    output: Optional[str] = None
    output_bias: Optional[str] = None
    layers: Optional[Layers] = None


Build = Callable[[BuildSize], PureNetwork]
Numbers = tuple[int, int, int]  # V, D, U


@dataclass(frozen=True)
class _Loaded:
    """Code that this process has loaded, and the networks that it built."""

    source: bytes
    build: Build
    max_words: int
    networks: dict[Numbers, PureNetwork]


_LOADED: dict[str, _Loaded] = {}  # by kind


def is_own(kind: str) -> bool:
    """True if a name of this form is that of a network of somebody's own.

    >>> is_own("mine.py:build@" + 64 * "0"), is_own("gru"), is_own("mine.py:build")
    (True, False, False)
    """
    return _KIND.fullmatch(kind) is not None


def kind_of_code(file: str, function: str, sha256: str) -> str:
    """Returns the kind of a network: the name of its file, without the folder, its function, and the file's digest."""
    kind = f"{file}:{function}@{sha256}"
    if not is_own(kind):
        raise OwnNetworkError(
            f"--model {file}:{function}: call the file by letters, digits, '_', '-' and '.', as in mine.py:build"
        )
    return kind


def code_of_kind(kind: str) -> tuple[str, str, str]:
    """Returns (file, function, SHA-256 of the file) of a network of somebody's own."""
    match = _KIND.fullmatch(kind)
    assert match is not None
    return match["file"], match["function"], match["sha256"]


def short_name(kind: str) -> str:
    """Returns a kind as people read it: a network of somebody's own without its digest."""
    return kind.partition("@")[0] if is_own(kind) else kind


def is_loaded(kind: str, max_words: int) -> bool:
    """True if this process knows a network, for sentences of so many positions.

    Raises:
      OwnNetworkError: it knows it for sentences of another length.
    """
    known = _LOADED.get(kind)
    if known is not None and known.max_words != max_words:
        raise OwnNetworkError(
            f"{short_name(kind)} is loaded for sentences of {known.max_words} words, and this run's have {max_words}: "
            "open it in another process"
        )
    return known is not None


def register(kind: str, source: bytes, build: Build, max_words: int) -> None:
    """Makes a network known to this process, which does not know it yet.

    Args:
      kind: of the network.
      source: its file's content.
      build: size -> network.
      max_words: positions of a sentence.
    """
    _LOADED[kind] = _Loaded(source, build, max_words, {})


def loaded_source(kind: str) -> Optional[bytes]:
    """Returns the file of a network that this process has loaded; None of any other kind."""
    return _LOADED[kind].source if kind in _LOADED else None


def own_network(kind: str, numbers: Numbers) -> PureNetwork:
    """Returns the network of a kind that this process has loaded, at a size; it is built once.

    Raises:
      OwnNetworkError: its code is not loaded, or gives no such network.
    """
    if kind not in _LOADED:
        if not is_own(kind):
            raise OwnNetworkError(f"model.kind = {kind!r}: must be one of {', '.join(ARCHITECTURES)}")
        raise OwnNetworkError(
            f"the network is code, {short_name(kind)} (SHA-256 {code_of_kind(kind)[2][:12]}), and running it gives it "
            "your rights: read it, then add --trust-model, or --model FILE.py:FUNCTION to begin a run"
        )
    loaded = _LOADED[kind]
    if numbers not in loaded.networks:
        network = loaded.build(BuildSize(*numbers, max_words=loaded.max_words))
        _check(short_name(kind), network, numbers[0])
        loaded.networks[numbers] = network
    return loaded.networks[numbers]


def built_sizes(kind: str) -> list[Numbers]:
    """Returns the sizes at which this process built a network of this kind.

    Raises:
      OwnNetworkError: its code is not loaded.
    """
    if kind not in _LOADED:
        own_network(kind, (0, 0, 0))  # says why
    return list(_LOADED[kind].networks)


def _check(name: str, network: PureNetwork, num_words: int) -> None:
    """Refuses what no run could train."""
    if not network.shapes:
        raise OwnNetworkError(f"{name}: the network has no weights")
    for weight in network.shapes:
        if not _WEIGHT.fullmatch(weight):
            raise OwnNetworkError(
                f"{name}: the weight {weight!r} must be named by letters, digits and _, a letter first"
            )
    for role, rank in _ROLES.items():
        weight = getattr(network, role)
        if weight is None:
            continue
        shape = network.shapes.get(weight)
        if shape is None:
            raise OwnNetworkError(f"{name}: {role} = {weight!r} is none of its weights: {', '.join(network.shapes)}")
        if len(shape) != rank or shape[0] != num_words:
            raise OwnNetworkError(
                f"{name}: {role} = {weight!r} has the shape {tuple(shape)}, and must have {rank} dimensions, the first "
                f"of {num_words} words"
            )
    if (network.step is None) != (not network.state):
        raise OwnNetworkError(f"{name}: step and state belong together: give both, or neither")


def architecture_of(kind: str, numbers: Numbers) -> Architecture:
    """Returns the row of a kind at a size (V, D, U).

    Raises:
      OwnNetworkError: it is somebody's own, and its code is not loaded.
    """
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    network = own_network(kind, numbers)
    return describe(
        kind,
        numbers,
        network.shapes,
        network.state or {PREFIX: (1, _LOADED[kind].max_words), LENGTH: (1,)},
        {role: getattr(network, role) for role in _ROLES},
    )


def describe(
    kind: str,
    numbers: Numbers,
    shapes: Mapping[str, Shape],
    state: Mapping[str, Shape],
    roles: Mapping[str, Optional[str]],
) -> Architecture:
    """Returns what is known of a network of somebody's own without its code, as a row.

    Args:
      kind: of the network.
      numbers: V, D and U, at which alone the row holds.
      shapes: of its weights, in their order.
      state: of a key stroke.
      roles: {"embedding", "output", "output_bias": the weight that has the role, or None}.
    """
    shapes = {name: tuple(map(int, shape)) for name, shape in shapes.items()}
    read_only = roles["embedding"] if roles["embedding"] != roles["output"] else None
    products = sum(math.prod(shape) for name, shape in shapes.items() if len(shape) > 1 and name != read_only)
    return Architecture(
        label=f"{short_name(kind)}, a network of somebody's own",
        shapes=lambda v, d, u: shapes,
        size_of=lambda found: numbers,
        state=lambda d, u: state,
        products=lambda v, d, u: products,
        free_batch=False,
        embedding=roles["embedding"],
        output=roles["output"],
        output_bias=roles["output_bias"],
    )
