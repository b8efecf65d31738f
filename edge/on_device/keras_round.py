"""One client's part of a round, done from a Keras model's bundle as a device does it: arrays in, an update out."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from edge.bundle.folder import read_file
from edge.bundle.golden import GOLDEN_FILES
from edge.bundle.keras_examples import ExampleSpec, check_examples
from edge.bundle.keras_golden import check_keras_golden, weight_names
from edge.bundle.keras_manifest import open_keras_bundle
from edge.clients.files import write_update
from edge.clients.keras_model import KerasModel, train_on_examples
from edge.errors import DeviceDataError
from edge.export.tflite import TRAIN_FILE
from edge.on_device.round import norm_of, rate_of, read_weights, require_finite
from models.examples import build_example_batches

_MOST_BYTES = 1 << 32  # of a person's arrays, inflated
_DAMAGES = (
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    RuntimeError,  # an encrypted member; an unknown compression
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True)
class KerasUpdate:
    """What a device's part of a round came to."""

    num_examples: int  # all epochs
    loss: float  # mean over the examples, each at the weights of its step
    update_norm: float  # L2, over all weights
    bytes: int  # of the update's file


def train_keras_on_device(
    bundle: Path,
    data: Path,
    out: Path,
    *,
    learning_rate: Optional[float] = None,
    weights_path: Optional[Path] = None,
    seed: Optional[int] = None,
) -> KerasUpdate:
    """Trains on one device's arrays, writes the update to `out`, and returns the figures of `fedkeys device-update`.

    Args:
      bundle: of a Keras model.
      data: an .npz file: see read_arrays.
      out: where the update goes.
      learning_rate: of this round; None takes the plan's.
      weights_path: the round's weights; None starts at the bundle's.
      seed: of the choice and order of the examples; None draws from the operating system.

    Raises:
      BundleError, DeviceDataError: nothing is written then.
    """
    bundle = Path(bundle)
    manifest = open_keras_bundle(bundle)
    plan = manifest.plan
    rate = rate_of(plan.learning_rate, learning_rate)
    contents = {name: read_file(bundle, manifest, name) for name in (TRAIN_FILE, *GOLDEN_FILES)}
    check_keras_golden(manifest, contents)  # as an app does before its first training
    batches = build_example_batches(
        read_arrays(data, ExampleSpec.of_bundle(manifest)),
        batch_size=plan.batch_size,
        max_examples=plan.max_examples,
        epochs=plan.epochs,
        rng=np.random.default_rng(seed),
    )
    model = KerasModel(contents[TRAIN_FILE], weight_names(manifest))
    shapes = [entry.shape for entry in manifest.model.weights]
    weights = model.get_weights() if weights_path is None else read_weights(weights_path, shapes)
    result = train_on_examples(model, weights, rate, batches)
    require_finite(result, data)
    write_update(out, result, weights)
    return KerasUpdate(
        num_examples=result["num_examples"],
        loss=result["loss_sum"] / result["num_examples"],
        update_norm=norm_of(result["delta"]),
        bytes=out.stat().st_size,
    )


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Returns an array whose header fits its size: a header alone could ask for all the memory."""
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if not dtype.hasobject and (
            min(shape, default=0) < 0 or file.tell() + math.prod(shape) * dtype.itemsize != info.file_size
        ):
            raise ValueError(f"{info.filename} has not the size of its shape {shape}")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_arrays(path: Path, spec: ExampleSpec) -> dict[str, np.ndarray]:
    """Returns a person's examples from an .npz file: the array `y`, and `x` or one array for each input by its name.

    Nothing in the file is run: arrays of Python objects are refused.

    Raises:
      DeviceDataError: the file can't be read, or check_examples refuses what it holds.
    """
    try:
        with Path(path).open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise DeviceDataError(f"{path} is no .npz file: write it with numpy.savez(FILE, x=..., y=...)")
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
                if sum(info.file_size for info in infos) > _MOST_BYTES:
                    raise ValueError(f"more than {_MOST_BYTES:,} bytes")
                arrays = {info.filename.removesuffix(".npy"): _read_member(archive, info) for info in infos}
    except OSError as error:
        raise DeviceDataError(f"{path}: can't be read: {error.strerror or error}") from None
    except _DAMAGES as error:
        raise DeviceDataError(f"{path} is damaged or holds no plain arrays ({error}): write it anew") from None
    if "y" not in arrays:
        raise DeviceDataError(f"{path} holds no array y: write it with numpy.savez(FILE, x=..., y=...)")
    y = arrays.pop("y")
    return check_examples(spec, arrays.pop("x") if set(arrays) == {"x"} else arrays, y, str(path))
