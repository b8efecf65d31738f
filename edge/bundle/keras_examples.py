"""A person's arrays, checked against what a Keras model takes, and brought into its types. Imports no TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np

from edge.bundle.keras_golden import batch_entries
from edge.bundle.keras_manifest import KerasManifest
from edge.bundle.manifest import TensorEntry
from edge.errors import BundleError, DeviceDataError
from models.examples import MASK

TARGETS = "targets"
Inputs = Union[np.ndarray, Sequence[np.ndarray], Mapping[str, np.ndarray]]  # one array, or one for each input
_ID_UNIT = re.compile(r"id below (\d+)")


@dataclass(frozen=True)
class ExampleSpec:
    """What a model takes.

    Attributes:
      entries: the inputs, targets and mask of its train signature, in their order.
      num_classes: of a classifier; 1 where two classes have one output, 0 of a regressor.
    """

    entries: tuple[TensorEntry, ...]
    num_classes: int

    @staticmethod
    def of_bundle(manifest: KerasManifest) -> ExampleSpec:
        """Returns what a bundle's model takes.

        Raises:
          BundleError: the manifest describes no train signature.
        """
        return ExampleSpec(tuple(batch_entries(manifest)), manifest.model.num_classes)

    @property
    def inputs(self) -> tuple[TensorEntry, ...]:
        """The inputs alone."""
        return tuple(entry for entry in self.entries if entry.name not in (TARGETS, MASK))

    @property
    def targets(self) -> TensorEntry:
        """The targets alone."""
        return next(entry for entry in self.entries if entry.name == TARGETS)


def check_examples(spec: ExampleSpec, x: Inputs, y: np.ndarray, whose: str) -> dict[str, np.ndarray]:
    """Returns a person's examples by the names of the train signature, in its types, without a mask.

    Args:
      spec: what the model takes.
      x: the inputs, [num_examples, ...] each: an array, a sequence in the model's order, or by their names.
      y: the targets, [num_examples, ...].
      whose: what to call them in an error.

    Raises:
      DeviceDataError: there is none, an array has another shape or type, holds NaN, an infinity or a class or id out of
        range, or they differ in length.
      BundleError: a bundle does not say which ids are in range.
    """
    by_name = _by_name(spec, x, whose)
    examples = {entry.name: _checked(entry, by_name[entry.name], entry.name, whose) for entry in spec.inputs}
    examples[TARGETS] = _checked(spec.targets, y, "y", whose)
    lengths = {name: len(array) for name, array in examples.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} in {'y' if name == TARGETS else name}" for name, length in lengths.items())
        raise DeviceDataError(f"{whose}: the arrays differ in length ({told}): give a row of each for each example")
    if not lengths[TARGETS]:
        raise DeviceDataError(f"{whose}: there is no example: give at least one, or leave this person out")
    _check_ranges(spec, examples, whose)
    return examples


def _by_name(spec: ExampleSpec, x: Inputs, whose: str) -> dict[str, Inputs]:
    names = [entry.name for entry in spec.inputs]
    given: dict[str, Inputs]
    if isinstance(x, Mapping):
        given = dict(x)
    elif isinstance(x, (tuple, list)) and len(names) > 1:
        if len(x) != len(names):
            raise DeviceDataError(f"{whose}: x has {len(x)} arrays, the model takes {len(names)}: {', '.join(names)}")
        given = dict(zip(names, x))
    elif len(names) == 1:
        given = {names[0]: x}
    else:
        raise DeviceDataError(f"{whose}: the model takes {len(names)} inputs: give {', '.join(names)} by their names")
    if set(given) != set(names):
        raise DeviceDataError(
            f"{whose}: there are arrays called {', '.join(sorted(map(str, given))) or 'nothing'}, the model takes "
            f"{', '.join(names)}"
        )
    return given


def _checked(entry: TensorEntry, given: Inputs, name: str, whose: str) -> np.ndarray:
    """Returns an array in the entry's type and shape."""
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        raise DeviceDataError(f"{whose}: {name} has rows of different lengths: give one array of numbers") from None
    wanted = entry.shape[1:]
    if array.dtype.kind not in "biuf":
        raise DeviceDataError(f"{whose}: {name} is of type {array.dtype}: give numbers, as {entry.dtype}")
    if entry.dtype == "int32" and array.dtype.kind == "f":
        what = "classes" if name == "y" else "ids"
        raise DeviceDataError(f"{whose}: {name} is of type {array.dtype}: {what} are whole numbers, give int32")
    if array.ndim and array.shape[1:] != wanted and _without_ones(array.shape[1:]) == _without_ones(wanted):
        array = array.reshape(len(array), *wanted)  # [n] beside [n, 1], as Keras takes both
    if not array.ndim or array.shape[1:] != wanted:
        raise DeviceDataError(
            f"{whose}: {name} has the shape {array.shape}, an example's is {wanted}: give (number of examples, "
            f"{', '.join(map(str, wanted))})"
        )
    with np.errstate(over="ignore"):  # becomes an infinity, which the next line finds
        typed = array if entry.dtype == "int32" else array.astype(np.float32)
    if typed.dtype.kind == "f" and not np.isfinite(typed).all():
        bad = int(np.count_nonzero(~np.isfinite(typed)))
        raise DeviceDataError(
            f"{whose}: {bad} of {typed.size} values of {name} are NaN or beyond float32: leave them out"
        )
    return typed


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _check_ranges(spec: ExampleSpec, examples: dict[str, np.ndarray], whose: str) -> None:
    """Refuses ids and classes that are out of range, and brings the others into their type."""
    for entry in spec.inputs:
        if entry.dtype == "int32":
            examples[entry.name] = _whole(examples[entry.name], _num_ids(entry), f"{whose}: {entry.name}", "id")
    targets = examples[TARGETS]
    if spec.targets.dtype == "int32":
        examples[TARGETS] = _whole(targets, spec.num_classes, f"{whose}: y", "class")
    elif spec.num_classes:
        out = targets[(targets < 0.0) | (targets > 1.0)]
        if out.size:
            raise DeviceDataError(f"{whose}: y holds {out[0]:g}: the share of a class goes from 0 to 1")


def _num_ids(entry: TensorEntry) -> int:
    number = _ID_UNIT.fullmatch(entry.unit)
    if number is None:  # a runtime would read beyond the table
        raise BundleError(f"the model does not say which ids {entry.name} may hold: export it again")
    return int(number[1])


def _whole(array: np.ndarray, limit: int, where: str, what: str) -> np.ndarray:
    out = array[(array < 0) | (array >= limit)]
    if out.size:
        raise DeviceDataError(f"{where} holds the {what} {out[0]}: it goes from 0 to {limit - 1}")
    return array.astype(np.int32)
