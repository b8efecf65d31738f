"""One client's part of a round, done from a bundle as a device does it: text or token batches in, an update out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from edge.bundle.folder import open_bundle, read_file, read_vocabulary
from edge.bundle.golden import GOLDEN_FILES, check_golden
from edge.bundle.manifest import Manifest
from edge.clients.c_client import run_c_client
from edge.clients.c_training import train_in_c
from edge.clients.files import BATCHES_MAGIC, batches_from_bytes, batches_to_bytes, write_update
from edge.clients.litert import TrainableModel, train_client
from edge.errors import DeviceDataError
from edge.export.tflite import TRAIN_FILE
from models.batches import Batches, build_batches
from models.client_result import ClientResult
from models.errors import CorpusError
from models.files import write_atomically
from models.text_sources import read_own_messages
from models.weights import Weights, are_finite, in_shapes


@dataclass(frozen=True)
class DeviceUpdate:
    """What a device's part of a round came to."""

    num_examples: int  # sentences, all epochs
    num_tokens: int
    loss_nats_per_token: float
    update_norm: float  # L2, over all weights
    bytes: int  # of the update's file


def train_on_device(
    bundle: Path,
    data: Path,
    out: Path,
    *,
    client: str = "python",
    learning_rate: Optional[float] = None,
    weights_path: Optional[Path] = None,
    seed: Optional[int] = None,
    save_batches: Optional[Path] = None,
) -> DeviceUpdate:
    """Trains on one device's text, writes the update to `out`, and returns the figures of `fedkeys device-update`.

    Args:
      bundle: a bundle's folder.
      data: UTF-8 text, a message a line, or a file of token batches.
      out: where the update goes.
      client: "python" or "c", what trains.
      learning_rate: of this round; None takes the plan's.
      weights_path: the round's weights; None starts at the bundle's.
      seed: of the choice and order of the sentences; None draws from the operating system.
      save_batches: also write the token batches here.

    Raises:
      BundleError, DeviceDataError, ClientError: nothing is written then.
    """
    manifest, _ = open_bundle(bundle)
    rate = rate_of(manifest.plan.learning_rate, learning_rate)
    size = manifest.model.size
    contents = {name: read_file(bundle, manifest, name) for name in (TRAIN_FILE, *GOLDEN_FILES)}
    check_golden(contents, size, manifest.model.max_words)  # as an app does before its first training
    batches = load_batches(bundle, manifest, data, seed)
    model = TrainableModel(contents[TRAIN_FILE], size.names)
    weights = model.get_weights() if weights_path is None else read_weights(weights_path, size.shapes)
    if save_batches is not None:
        write_atomically(save_batches, batches_to_bytes(batches, size.vocabulary_size))
    if client == "c":
        result, _ = train_in_c(run_c_client, bundle, size, weights, batches, rate)
    else:
        result = train_client(model, weights, rate, batches)
        require_finite(result, data)
    write_update(out, result, weights)
    return DeviceUpdate(
        num_examples=result["num_examples"],
        num_tokens=result["num_tokens"],
        loss_nats_per_token=result["loss_sum"] / max(1, result["num_tokens"]),
        update_norm=norm_of(result["delta"]),
        bytes=out.stat().st_size,
    )


def load_batches(bundle: Path, manifest: Manifest, data: Path, seed: Optional[int]) -> Batches:
    """Returns the batches that a device trains on: those in `data`, or those that the plan makes of its text.

    Raises:
      DeviceDataError: `data` can't be used.
    """
    size, plan = manifest.model.size, manifest.plan
    try:
        raw = Path(data).read_bytes()
    except OSError as error:
        raise DeviceDataError(f"{data}: can't be read: {error.strerror}") from None
    if raw.startswith(BATCHES_MAGIC):
        return batches_from_bytes(raw, size.vocabulary_size, plan.max_words, str(data))
    try:
        messages = read_own_messages(Path(data), raw)
    except CorpusError as error:
        raise DeviceDataError(f"{data} is neither token batches nor text of one person: {error}") from None
    vocabulary, tokeniser = read_vocabulary(bundle, manifest), manifest.text_rules
    sentences = [vocabulary.encode(" ".join(words)) for typed in messages for words in tokeniser.sentences(typed)]
    if not sentences:
        raise DeviceDataError(f"{data} holds no words: give it a message a line")
    return build_batches(
        sentences,
        batch_size=plan.batch_size,
        time=plan.max_words,
        max_sentences=plan.max_sentences,
        epochs=plan.epochs,
        rng=np.random.default_rng(seed),
    )


def rate_of(planned: float, given: Optional[float]) -> float:
    """Returns the learning rate of a round: the plan's unless one is given.

    Raises:
      DeviceDataError: it is not above 0 and finite.
    """
    rate = planned if given is None else given
    if not (math.isfinite(rate) and rate > 0):
        raise DeviceDataError(f"--learning-rate must be above 0 and finite, got {rate}")
    return rate


def require_finite(result: ClientResult, data: Path) -> None:
    """Refuses an update that holds a NaN or an infinity.

    Raises:
      DeviceDataError: it does.
    """
    if not result["is_finite"]:
        raise DeviceDataError(f"training on {data} went to a number that is not finite: lower the learning rate")


def norm_of(delta: Weights) -> float:
    """Returns the L2 norm over all weights of an update."""
    return float(np.sqrt(sum(float(np.vdot(d, d)) for d in delta)))


def read_weights(path: Path, shapes: Sequence[tuple[int, ...]]) -> Weights:
    """Returns a round's weights, which a server wrote as raw float32.

    Raises:
      DeviceDataError: the file can't be read, is of another model, or holds a NaN or an infinity.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DeviceDataError(f"{path}: can't be read: {error.strerror}") from None
    num_bytes = 4 * sum(math.prod(shape) for shape in shapes)
    if len(raw) != num_bytes:
        raise DeviceDataError(f"{path} has {len(raw)} bytes, the model's weights take {num_bytes}")
    weights = in_shapes(raw, shapes)
    if not are_finite(weights):
        raise DeviceDataError(f"{path} holds weights that are not finite: have the server send them again")
    return weights
