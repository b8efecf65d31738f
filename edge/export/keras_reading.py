"""Reads a Keras model of TensorFlow 2.14 as data: a .keras file, an .h5 file or a SavedModel. No code of it runs.

Keras's own loader runs what a file names: bytecode of Lambda layers in .h5 and SavedModels, any importable function in
.keras. So the description is read here first, as JSON. Each layer must be one of edge.export.keras_table, and only its
plain settings reach Keras, which builds the layers anew; then the weights are read into them, as arrays. Initialisers
are dropped: every weight is read.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np

from edge.errors import ExportError
from edge.export.keras_table import ACTIVATIONS, LAYERS

if TYPE_CHECKING:
    import tensorflow as tf

Json = Union[None, bool, int, float, str, list["Json"], dict[str, "Json"]]

_MAX_JSON = 16 << 20
_MAX_FILE = 1 << 30
_KERAS = "2.14"
_MODELS = ("Sequential", "Functional", "Model")


@dataclass(frozen=True)
class Description:
    """What a file says of its model, as JSON.

    Attributes:
      model: its class and configuration.
      loss: as `compile` was given it; None if the model was not compiled.
      version: of the Keras that wrote it, "" if the file does not say.
    """

    model: dict[str, Json]
    loss: Json
    version: str


def read_keras(path: Path) -> tuple[tf.keras.Model, Json]:
    """Returns the model in a file, built anew with its weights, and the loss it was compiled with (None if with none).

    Raises:
      ExportError: it is no Keras model of TensorFlow 2.14, holds code, or a layer that can't be exported; see there.
    """
    path = Path(path)
    if not path.exists():
        raise ExportError(f"{path} does not exist: name a .keras file, an .h5 file or a SavedModel's folder")
    described = _describe(path)
    if described.version and not described.version.startswith(f"{_KERAS}."):
        raise ExportError(
            f"{path} was written by Keras {described.version}, and TensorFlow {_KERAS}'s reads its own: "
            f"save it anew with TensorFlow {_KERAS}"
        )
    model = _build(path, described.model)
    _read_weights(path, model)
    for variable in model.weights:
        bad = int(np.count_nonzero(~np.isfinite(variable.numpy())))
        if bad:
            raise ExportError(
                f"{path}: {bad} of {variable.shape.num_elements()} values of {variable.name[:-2]} are NaN or "
                "infinite: train the model anew with a smaller learning rate"
            )
    return model, described.loss


def rebuild(model: tf.keras.Model) -> tf.keras.Model:
    """Returns a model in memory built anew from its description, as a file's is; raises ExportError as for a file."""
    name = Path(model.name)
    try:
        described = model.to_json()
    except Exception as error:  # whatever Keras or a layer raises that can't say how it is made
        raise ExportError(f"{name}: it does not say what it is made of: {_first_line(error)}") from None
    return _build(name, _parse(name, described, "description"))


def _describe(path: Path) -> Description:
    """Returns the description in any of the three formats."""
    if path.is_dir():
        return _of_saved_model(path)
    if not path.is_file():
        raise ExportError(f"{path} is not a regular file: name a .keras file, an .h5 file or a SavedModel's folder")
    size = path.stat().st_size
    if size > _MAX_FILE:
        raise ExportError(f"{path} has {size:,} bytes, {_MAX_FILE:,} are allowed: a phone could not train it")
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise ExportError(f"{path} is empty: save the model anew")
    if start.startswith(b"PK"):
        return _of_keras_file(path)
    if start == b"\x89HDF\r\n\x1a\n":
        return _of_h5(path)
    raise ExportError(f"{path} is no Keras model: name a .keras file, an .h5 file or a SavedModel's folder")


def _parse(path: Path, content: Union[str, bytes], what: str) -> dict[str, Json]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ExportError(f"{path} is damaged: its {what} is no JSON object; save the model anew")
    return value


def _of_keras_file(path: Path) -> Description:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if "config.json" not in sizes or "model.weights.h5" not in sizes:
                raise ExportError(f"{path} is a zip file and no Keras model: it holds no config.json with weights")
            if sizes["config.json"] > _MAX_JSON or sizes.get("metadata.json", 0) > _MAX_JSON:
                raise ExportError(f"{path} describes its model in more than {_MAX_JSON:,} bytes: save the model anew")
            config = _parse(path, archive.read("config.json"), "config.json")
            metadata = _parse(path, archive.read("metadata.json"), "metadata.json") if "metadata.json" in sizes else {}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ExportError(f"{path} is cut off or damaged ({error}): save the model anew") from None
    loss = _compiled_loss(path, config.get("compile_config"))
    return Description(config, loss, str(metadata.get("keras_version", "")))


def _of_h5(path: Path) -> Description:
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            described, training = file.attrs.get("model_config"), file.attrs.get("training_config")
            version = file.attrs.get("keras_version", "")
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ExportError(f"{path} is cut off or damaged ({_first_line(error)}): save the model anew") from None
    if described is None:
        raise ExportError(f"{path} holds weights and no model: save the whole model with model.save()")
    config = _parse(path, described, "model_config")
    loss = None if training is None else _compiled_loss(path, _parse(path, training, "training_config"))
    return Description(config, loss, version.decode() if isinstance(version, bytes) else str(version))


def _of_saved_model(path: Path) -> Description:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from keras.protobuf import saved_metadata_pb2  # type: ignore[import-untyped]

    metadata = path / "keras_metadata.pb"
    if not (path / "saved_model.pb").is_file():
        raise ExportError(f"{path} is a folder and no SavedModel: it holds no saved_model.pb")
    if not metadata.is_file():
        raise ExportError(f"{path} is a SavedModel without keras_metadata.pb: save it from Keras with model.save()")
    if metadata.stat().st_size > _MAX_JSON:
        raise ExportError(f"{metadata} has more than {_MAX_JSON:,} bytes: save the model anew")
    parsed = saved_metadata_pb2.SavedMetadata()
    try:
        parsed.ParseFromString(metadata.read_bytes())
    except DecodeError:
        raise ExportError(f"{metadata} is damaged: save the model anew") from None
    roots = [node for node in parsed.nodes if node.node_path == "root"]
    if not roots:
        raise ExportError(f"{metadata} describes no model: save it from Keras with model.save()")
    described = _parse(metadata, roots[0].metadata, "description of the model")
    loss = _compiled_loss(path, described.get("training_config"))
    return Description(described, loss, str(described.get("backend_version", "")))


def _compiled_loss(path: Path, compiled: Json) -> Json:
    """Returns the loss of what `compile` was given; None if the model was not compiled."""
    if not isinstance(compiled, dict):
        return None
    weights = _without_tuples(compiled.get("loss_weights"))
    if weights not in (None, 1, [1]):
        raise ExportError(f"{path} was compiled with loss_weights {weights}: compile it without, and scale the rate")
    return compiled.get("loss")


def _build(path: Path, described: Mapping[str, Json]) -> tf.keras.Model:
    """Returns the model that Keras makes of the checked description; its weights are not read yet."""
    import tensorflow as tf

    kind, config = described.get("class_name"), described.get("config")
    if kind not in _MODELS or not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise ExportError(
            f"{path} holds a model of class {kind!r}: only functional and Sequential models say what they are made of"
        )
    checked = _checked_model(path, config)
    build = tf.keras.Sequential if kind == "Sequential" else tf.keras.Model
    try:
        model = build.from_config(checked)
    except Exception as error:  # whatever Keras raises at settings that do not fit each other
        raise ExportError(f"{path}: Keras can't build this model: {_first_line(error)}") from None
    if not model.built or not model.inputs:
        raise ExportError(
            f"{path} does not say the shape of its input: give the model an Input layer, and save it anew"
        )
    return model


def _checked_model(path: Path, config: Mapping[str, Json]) -> dict[str, Json]:
    layers = config["layers"]
    assert isinstance(layers, list)
    kept = {key: config[key] for key in ("name", "input_layers", "output_layers") if key in config}
    return {
        **{key: _without_tuples(value) for key, value in kept.items()},
        "layers": [_checked_layer(path, layer) for layer in layers],
    }


def _checked_layer(path: Path, layer: Json) -> dict[str, Json]:
    """Returns a layer's description with what Keras may read of it; in Keras's older format, which names no modules."""
    settings = layer.get("config") if isinstance(layer, dict) else None
    if not isinstance(layer, dict) or not isinstance(settings, dict):
        raise ExportError(f"{path} is damaged: one of its layers is no object; save the model anew")
    kind, name = str(layer.get("class_name")), str(settings.get("name", layer.get("name")))
    where = f"{path}: layer {name} ({kind})"
    if kind in ("Lambda", "TFOpLambda", "SlicingOpLambda", "TFSMLayer"):
        raise ExportError(f"{where} is code in the model, and a file's code is never run: use layers in its place")
    row = LAYERS.get(kind)
    if row is None or str(layer.get("registered_name") or kind) != kind:
        raise ExportError(f"{where} is not a layer that can be exported: docs/keras.md lists those that can")
    if row.why_not:
        raise ExportError(f"{where} can't be exported: {row.why_not}")
    kept: dict[str, Json] = {}
    for key, value in ((key, _without_tuples(value)) for key, value in settings.items()):
        if key.endswith("_initializer"):
            continue
        if key.endswith(("_regularizer", "_constraint")):
            if value is not None:
                raise ExportError(f"{where} has a {key}, which a phone's step would not have: build it without")
        elif key == "layer":
            kept[key] = _checked_layer(path, value)
        elif key.endswith("activation"):
            kept[key] = _checked_activation(where, value)
        elif key == "dtype":
            kept[key] = _checked_dtype(where, kind, value)
        elif isinstance(value, dict):
            raise ExportError(f"{where} has a setting {key} that is an object of its own: it can't be exported")
        else:
            kept[key] = value
    checked: dict[str, Json] = {"class_name": kind, "config": kept, "name": name}
    if "inbound_nodes" in layer:
        checked["inbound_nodes"] = _without_tuples(layer["inbound_nodes"])
    return checked


def _without_tuples(value: Json) -> Json:
    """Returns a value whose tuples and shapes, which SavedModels write as objects, are lists."""
    if isinstance(value, dict) and value.get("class_name") in ("__tuple__", "TensorShape"):
        value = value.get("items")
    return [_without_tuples(item) for item in value] if isinstance(value, list) else value


def _checked_activation(where: str, value: Json) -> str:
    name = "linear" if value is None else value
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ExportError(f"{where} has the activation {name!r}: {', '.join(sorted(ACTIVATIONS))} can be exported")
    return name


def _checked_dtype(where: str, kind: str, value: Json) -> Optional[str]:
    if isinstance(value, dict):  # a policy
        inner = value.get("config")
        value = inner.get("name") if isinstance(inner, dict) else None
    allowed = ("float32", "int32", "int64") if kind == "InputLayer" else ("float32",)
    if value is not None and value not in allowed:
        raise ExportError(f"{where} computes in {value}: build it in float32")
    return None if value is None else str(value)


def _read_weights(path: Path, model: tf.keras.Model) -> None:
    """Reads the file's weights into the model.

    Raises:
      ExportError: there are others than the model's, or they are cut off.
    """
    try:
        if path.is_dir():
            status = model.load_weights(str(path / "variables" / "variables"))
            status.assert_existing_objects_matched().expect_partial()  # the optimiser's are not read
        elif zipfile.is_zipfile(path):
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
                if archive.getinfo("model.weights.h5").file_size > _MAX_FILE:
                    raise ExportError(f"{path} holds more than {_MAX_FILE:,} bytes of weights: a phone can't train it")
                model.load_weights(archive.extract("model.weights.h5", folder))
        else:
            model.load_weights(str(path))
    except ExportError:
        raise
    except Exception as error:  # whatever Keras, h5py or TensorFlow raise at weights that are damaged or do not fit
        raise ExportError(f"{path}: its weights can't be read ({_first_line(error)}): save the model anew") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
