"""The runtimes that train with the exported files, as rows: what runs their steps, and why one can't here."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.bundle.manifest import MANIFEST_FILE
from edge.clients import arm64, c_client, litert_js
from edge.clients.c_training import RunClient, train_in_c
from edge.clients.files import batches_to_bytes
from edge.clients.litert import AnyModel, StatelessModel, TrainableModel, build_interpreter, runtime_version
from edge.export.tflite import FIXED_SIGNATURE, STATELESS_FILE, TRAIN_FILE
from models.architectures import CIFG
from models.batches import Batches
from models.weights import ModelSize, Weights, weights_from_bytes, weights_to_bytes

Steps = tuple[Weights, list[float]]  # delta, losses


@dataclass(frozen=True)
class Runtime:
    """A way to run the exported files.

    Attributes:
      version: of the runtime.
      train: runs the steps on files of a model of a size, from weights, at a learning rate.
      why_not: what is missing here or in the files, or "".
      is_emulated: on a processor that software plays, where the steps take minutes.
      only_kind: the only kind of network that it trains; "" if it trains any.
    """

    version: Callable[[], str]
    train: Callable[[Mapping[str, bytes], ModelSize, Weights, Batches, float], Steps]
    why_not: Callable[[Mapping[str, bytes]], str]
    is_emulated: bool = False
    only_kind: str = ""

    def what_is_missing(self, files: Mapping[str, bytes], size: ModelSize) -> str:
        """Returns why it can't train this model here, or ""."""
        if self.only_kind not in ("", size.kind):
            return f"it trains no network but of model.kind = {self.only_kind!r}"
        return self.why_not(files)


def _run_steps(model: AnyModel, weights: Weights, batches: Batches, learning_rate: float) -> Steps:
    model.set_weights(weights)
    losses = [model.train_step(*batch, learning_rate)[0] for batch in zip(*batches)]
    return tuple(before - after for before, after in zip(weights, model.get_weights())), losses


def _run_client(
    run: RunClient,
    files: Mapping[str, bytes],
    size: ModelSize,
    weights: Weights,
    batches: Batches,
    learning_rate: float,
) -> Steps:
    """Trains in a build of the C client."""
    with _trainable(files) as folder:
        result, losses = train_in_c(run, folder, size, weights, batches, learning_rate)
    return tuple(result["delta"]), losses


def _run_litert_js(
    files: Mapping[str, bytes], size: ModelSize, weights: Weights, batches: Batches, learning_rate: float
) -> Steps:
    with _trainable(files) as folder:
        (folder / "weights").write_bytes(weights_to_bytes(weights))
        (folder / "batches").write_bytes(batches_to_bytes(batches, size.vocabulary_size))
        losses = litert_js.train_in_node(folder, learning_rate)
        after = weights_from_bytes((folder / "weights_after").read_bytes(), size)
        return tuple(start - end for start, end in zip(weights, after)), losses


@contextmanager
def _trainable(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder that holds as much of a bundle as training takes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in (MANIFEST_FILE, TRAIN_FILE):
            (folder / name).write_bytes(files[name])
        yield folder


def _js_why_not(files: Mapping[str, bytes]) -> str:
    if FIXED_SIGNATURE in build_interpreter(files[TRAIN_FILE]).get_signature_list():
        return litert_js.why_not()
    return f"{TRAIN_FILE} has no {FIXED_SIGNATURE}, which LiteRT.js needs: export the run again"


def _present(files: Mapping[str, bytes]) -> str:
    return ""


RUNTIMES: dict[str, Runtime] = {
    "litert": Runtime(
        lambda: runtime_version("litert"),
        lambda files, size, *steps: _run_steps(TrainableModel(files[TRAIN_FILE], size.names), *steps),
        _present,
    ),
    "litert-stateless": Runtime(
        lambda: runtime_version("litert"),
        lambda files, size, *steps: _run_steps(StatelessModel(files[STATELESS_FILE], size.names), *steps),
        _present,
    ),
    "tensorflow": Runtime(
        lambda: runtime_version("tensorflow"),
        lambda files, size, *steps: _run_steps(TrainableModel(files[TRAIN_FILE], size.names, "tensorflow"), *steps),
        _present,
    ),
    "c-client": Runtime(
        lambda: runtime_version("litert"),
        functools.partial(_run_client, c_client.run_c_client),
        lambda files: c_client.why_not(),
    ),
    "aarch64": Runtime(
        lambda: c_client.LITERT_VERSION,
        functools.partial(_run_client, arm64.run_arm64_client),
        lambda files: arm64.why_not(),
        is_emulated=True,
    ),
    "litert-js": Runtime(litert_js.version, _run_litert_js, _js_why_not, only_kind=CIFG),
}
