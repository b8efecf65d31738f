"""The two files that pass between a server and a device: token batches in, a model update out. All little-endian.

Token batches                                    Update
    "FKBATCH1"                                       "FKUPDAT1"
    int32 num_batches, batch, time, vocabulary_size  uint32 crc32 of the weights that the training started from
    then for each batch                              int32 num_weights, num_examples, num_tokens
        int32 tokens [batch, time]                   float64 loss_sum (nats)
        int32 targets [batch, time]                  float32 [num_weights]: weights before minus weights after, in the
        float32 mask [batch, time]                       manifest's order
                                                     then, unless it is left out
                                                     16 random bytes, a tag

In an update of a Keras model each example counts as one token. The C client (edge/clients/c) reads the one file and
writes the other; the CRC tells an update of another model by mistake, not by malice: an attacker on the device writes
what it likes. The tag tells two devices on which the same was typed from one file that was given twice; updates without
one (the C client by itself writes none) are told apart by the rest.
"""

from __future__ import annotations

import math
import secrets
import struct
import zlib
from pathlib import Path

import numpy as np

from edge.errors import DeviceDataError
from models.batches import Batches
from models.client_result import ClientResult
from models.files import write_atomically
from models.weights import Weights, are_finite, in_shapes, weights_to_bytes

BATCHES_MAGIC = b"FKBATCH1"
UPDATE_MAGIC = b"FKUPDAT1"
_BATCHES_HEADER = struct.Struct("<8s4i")
_TAG_BYTES = 16
_UPDATE_HEADER = struct.Struct("<8sI3id")


def batches_to_bytes(batches: Batches, vocabulary_size: int) -> bytes:
    """Returns the content of a file of token batches.

    >>> one = Batches(np.full((1, 1, 2), 5, np.int32), np.full((1, 1, 2), 6, np.int32), np.ones((1, 1, 2), np.float32))
    >>> len(batches_to_bytes(one, 7))
    48
    """
    num_batches, batch, time = batches.tokens.shape
    parts = [_BATCHES_HEADER.pack(BATCHES_MAGIC, num_batches, batch, time, vocabulary_size)]
    for tokens, targets, mask in zip(*batches):
        parts += [array.astype(kind).tobytes() for array, kind in ((tokens, "<i4"), (targets, "<i4"), (mask, "<f4"))]
    return b"".join(parts)


def batches_from_bytes(raw: bytes, vocabulary_size: int, time: int, path: str) -> Batches:
    """Returns the token batches in a file's content, checked against the model that is to train on them.

    Args:
      raw: the content.
      vocabulary_size, time: of the model.
      path: what to call the file in an error.

    Raises:
      DeviceDataError: it is cut off, is of another model, or holds an id or mask out of range.
    """
    if len(raw) < _BATCHES_HEADER.size or not raw.startswith(BATCHES_MAGIC):
        raise DeviceDataError(f"{path} holds no token batches: it must begin with {BATCHES_MAGIC.decode()}")
    _, num_batches, batch, its_time, its_vocabulary = _BATCHES_HEADER.unpack_from(raw)
    if num_batches < 1 or batch < 1:
        raise DeviceDataError(f"{path} holds {num_batches} batches of {batch} sentences: each must be at least 1")
    if (its_time, its_vocabulary) != (time, vocabulary_size):
        raise DeviceDataError(
            f"{path} was made for {its_time} positions and {its_vocabulary} words, the model has {time} and "
            f"{vocabulary_size}: make it again with this bundle"
        )
    shape = (num_batches, batch, time)
    expected = _BATCHES_HEADER.size + num_batches * batch * time * 12
    if len(raw) != expected:
        fault = "is cut off" if len(raw) < expected else "goes on after its last batch"
        raise DeviceDataError(
            f"{path} {fault}: {len(raw)} bytes, {num_batches} batches take {expected}; write it again"
        )
    body = np.frombuffer(raw, "<i4", offset=_BATCHES_HEADER.size).reshape(num_batches, 3, batch, time)
    tokens, targets = body[:, 0].astype(np.int32), body[:, 1].astype(np.int32)
    mask = np.ascontiguousarray(body[:, 2]).view("<f4").astype(np.float32).reshape(shape)
    batches = Batches(tokens, targets, mask)
    _check_batches(path, batches, vocabulary_size)
    return batches


def _check_batches(path: str, batches: Batches, vocabulary_size: int) -> None:
    for name, ids in (("token", batches.tokens), ("target", batches.targets)):
        bad = ids[(ids < 0) | (ids >= vocabulary_size)]
        if bad.size:
            raise DeviceDataError(f"{path} holds the {name} id {bad[0]}: ids go from 0 to {vocabulary_size - 1}")
    if not np.isin(batches.mask, (0.0, 1.0)).all():
        raise DeviceDataError(f"{path} holds a mask that is neither 0 nor 1: write it again")
    if (np.diff(batches.mask, axis=2) > 0).any():
        raise DeviceDataError(f"{path} holds a mask with a 1 after a 0: padding comes after the words")


def update_to_bytes(result: ClientResult, base: Weights) -> bytes:
    """Returns the content of an update file without a tag: the result of a training that began at `base`."""
    delta = weights_to_bytes(result["delta"])
    header = _UPDATE_HEADER.pack(
        UPDATE_MAGIC,
        zlib.crc32(weights_to_bytes(base)),
        len(delta) // 4,
        int(result["num_examples"]),
        int(result["num_tokens"]),
        float(result["loss_sum"]),
    )
    return header + delta


def write_update(path: Path, result: ClientResult, base: Weights) -> None:
    """Writes update_to_bytes and a new tag to `path`, whole or not at all.

    Raises: OSError if it can't be written.
    """
    write_atomically(path, update_to_bytes(result, base) + secrets.token_bytes(_TAG_BYTES))


def read_update(path: Path, base: Weights) -> ClientResult:
    """Returns update_from_bytes of a file.

    Raises:
      DeviceDataError: the file can't be read, or update_from_bytes refuses it.
    """
    return update_from_bytes(_read(path), base, str(path))


def most_bytes(base: Weights) -> int:
    """Returns the size of an update's file with a tag."""
    return _UPDATE_HEADER.size + 4 * sum(weight.size for weight in base) + _TAG_BYTES


def update_from_bytes(raw: bytes, base: Weights, path: str) -> ClientResult:
    """Returns a device's update as the result of a client's training.

    Args:
      raw: a file's content.
      base: the weights that the round sent out.
      path: what to call the file in an error.

    Raises:
      DeviceDataError: it is cut off, or is an update of other weights, or its loss is not finite.
    """
    total = sum(weight.size for weight in base)
    if len(raw) < _UPDATE_HEADER.size or not raw.startswith(UPDATE_MAGIC):
        raise DeviceDataError(f"{path} holds no update: it must begin with {UPDATE_MAGIC.decode()}")
    _, crc32, num_weights, num_examples, num_tokens, loss_sum = _UPDATE_HEADER.unpack_from(raw)
    expected = _UPDATE_HEADER.size + 4 * total
    if num_weights != total:
        raise DeviceDataError(f"{path} is an update of {num_weights} weights, the model has {total}")
    if len(raw) not in (expected, expected + _TAG_BYTES):
        raise DeviceDataError(f"{path} has {len(raw)} bytes instead of {expected}: have the device send it again")
    if crc32 != zlib.crc32(weights_to_bytes(base)):
        raise DeviceDataError(
            f"{path} began at other weights than this round's (a bundle's may be an average over rounds): write the "
            "round's with `fedkeys aggregate --run DIR --save-weights FILE`, and let the device train with "
            "`--weights FILE`"
        )
    if num_examples < 0 or num_tokens < 0:
        raise DeviceDataError(
            f"{path} claims {num_examples} examples and {num_tokens} tokens: counts can't be negative"
        )
    delta = in_shapes(raw[_UPDATE_HEADER.size : expected], [weight.shape for weight in base])
    is_finite = are_finite(delta)
    if is_finite and not math.isfinite(loss_sum):  # of one that diverged nothing is summed
        raise DeviceDataError(f"{path} claims a loss of {loss_sum}: have the device train again")
    return ClientResult(
        delta=delta,
        loss_sum=loss_sum,
        num_tokens=num_tokens,
        num_examples=num_examples,
        is_finite=is_finite,
    )


def _read(path: Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DeviceDataError(f"{path}: can't be read: {error.strerror}") from None
