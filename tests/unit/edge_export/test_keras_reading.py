"""A Keras file that can't be exported is refused in one line, and none of its code runs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from keras_families import mlp

from edge.errors import ExportError
from edge.export.keras_network import build_network
from edge.export.keras_reading import read_keras

# Keras's own advice on .h5 files, which people have.
pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
layers = tf.keras.layers
RAN: list[str] = []


@tf.keras.saving.register_keras_serializable("mine")
class Doubled(layers.Layer):
    """A layer whose code only this file has."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return 2 * x


def saved(folder: Path, *middle: layers.Layer, name: str = "model.keras") -> Path:
    model = tf.keras.Sequential([layers.Input((4,)), *middle, layers.Dense(1, name="last")])
    model.compile("sgd", "mse")
    model.save(folder / name)
    return folder / name


def edited(path: Path, entry: str, change: Callable[[dict], None]) -> Path:
    """Changes a JSON entry of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    value = json.loads(entries[entry])
    change(value)
    entries[entry] = json.dumps(value).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model"])
def test_each_format_gives_the_weights_and_the_loss(tmp_path: Path, name: str) -> None:
    model = mlp()
    model.save(tmp_path / name)
    read, loss = read_keras(tmp_path / name)
    assert loss == "sparse_categorical_crossentropy"
    for own, expected in zip(read.weights, model.weights, strict=True):
        np.testing.assert_array_equal(own.numpy(), expected.numpy())


def refusal(path: Path) -> str:
    with pytest.raises(ExportError) as refused:
        read_keras(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model"])
def test_a_weight_of_the_loss_is_refused_where_it_is_not_1(tmp_path: Path, name: str) -> None:
    model = mlp()
    model.compile("sgd", "sparse_categorical_crossentropy", loss_weights=[1.0])
    model.save(tmp_path / name)
    assert read_keras(tmp_path / name)[1] == "sparse_categorical_crossentropy"
    model.compile("sgd", "sparse_categorical_crossentropy", loss_weights=[0.5])
    model.save(tmp_path / name)
    assert "compiled with loss_weights [0.5]" in refusal(tmp_path / name)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    assert "does not exist" in refusal(path)
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    path.write_bytes(b"just a text")
    assert "is no Keras model" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    assert "is a zip file and no Keras model" in refusal(path)
    assert "is a folder and no SavedModel" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, name=name)
    whole = path.read_bytes()
    for share in (0.3, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "model anew" in refusal(path)


def test_a_saved_model_without_weights_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, name="saved_model")
    (path / "variables" / "variables.index").unlink()
    assert "its weights can't be read" in refusal(path)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "saved_model"])
def test_a_lambda_layer_is_refused_and_does_not_run(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, layers.Lambda(lambda x: RAN.append("ran") or 2 * x, name="doubled"), name=name)
    RAN.clear()
    assert "layer doubled (Lambda) is code in the model" in refusal(path)
    assert not RAN


def test_a_layer_of_ones_own_is_refused_by_its_name(tmp_path: Path) -> None:
    assert "layer mine (Doubled) is not a layer that can be exported" in refusal(saved(tmp_path, Doubled(name="mine")))


def test_a_module_that_a_file_names_is_not_imported(tmp_path: Path) -> None:
    def poison(config: dict) -> None:
        for layer in config["config"]["layers"]:
            layer["module"] = "this_is_no_module"
            layer["config"]["kernel_initializer"] = {"module": "os", "class_name": "system", "config": "true"}

    read_keras(edited(saved(tmp_path), "config.json", poison))


def test_an_activation_of_ones_own_is_refused(tmp_path: Path) -> None:
    def poison(config: dict) -> None:
        config["config"]["layers"][-1]["config"]["activation"] = {"module": "os", "class_name": "function"}

    assert "layer last (Dense) has the activation" in refusal(edited(saved(tmp_path), "config.json", poison))


def test_another_versions_file_is_refused(tmp_path: Path) -> None:
    path = edited(saved(tmp_path), "metadata.json", lambda found: found.update(keras_version="3.4.1"))
    assert "was written by Keras 3.4.1" in refusal(path)


def test_a_regularizer_is_refused(tmp_path: Path) -> None:
    assert "layer fat (Dense) has a kernel_regularizer" in refusal(
        saved(tmp_path, layers.Dense(3, kernel_regularizer="l2", name="fat"))
    )


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, name="model.h5")
    with h5py.File(path, "a") as file:
        file["model_weights/last/last/kernel:0"][1, 0] = np.nan
    assert "1 of 4 values of last/kernel are NaN" in refusal(path)


def network_refusal(model: tf.keras.Model, loss: object = "mse", **options: object) -> str:
    with pytest.raises(ExportError) as refused:
        build_network(model, loss, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def sequential(*parts: layers.Layer) -> tf.keras.Model:
    return tf.keras.Sequential(list(parts))


def test_a_dynamic_shape_is_refused_by_the_inputs_name() -> None:
    model = sequential(layers.Input((None, 3), name="words"), layers.LSTM(2))
    assert "the input words has the shape (None, 3)" in network_refusal(model)


def test_an_input_with_a_name_of_the_train_signature_is_refused() -> None:
    for name in ("targets", "mask", "learning_rate"):
        model = sequential(layers.Input((3,), name=name), layers.Dense(2))
        assert f"the name {name} is taken twice" in network_refusal(model)


def test_a_loss_that_cannot_be_exported_is_refused() -> None:
    model = sequential(layers.Input((3,)), layers.Dense(2))
    assert "the loss poisson can't be exported" in network_refusal(model, "poisson")
    assert "was not compiled with a loss" in network_refusal(model, None)
    assert "does not end with softmax" in network_refusal(model, "sparse_categorical_crossentropy")
    smooth = {"class_name": "CategoricalCrossentropy", "config": {"label_smoothing": 0.1, "from_logits": True}}
    assert "label_smoothing = 0.1" in network_refusal(model, smooth)
    across = {"class_name": "CategoricalCrossentropy", "config": {"axis": 0, "from_logits": True}}
    assert "must be over the last axis" in network_refusal(model, across)


def test_settings_of_a_layer_that_cannot_be_exported_are_refused_by_its_name() -> None:
    dilated = sequential(layers.Input((8, 8, 1)), layers.Conv2D(2, 3, dilation_rate=2, name="wide"))
    assert "layer wide (Conv2D) can't be exported: dilation_rate must be 1" in network_refusal(dilated)
    masked = sequential(layers.Input((4,)), layers.Embedding(9, 2, mask_zero=True, name="words"), layers.LSTM(2))
    assert "layer words (Embedding) can't be exported: mask_zero=True" in network_refusal(masked)
    place = layers.Input((4,))
    dropped = tf.keras.Model(place, layers.Dropout(0.5, name="always")(layers.Dense(2)(place), training=True))
    assert "layer always (Dropout) can't be exported: it is called with training" in network_refusal(dropped)


def test_what_trains_is_chosen_by_pattern_and_an_unknown_one_is_refused() -> None:
    model = sequential(layers.Input((3,)), layers.Dense(4, name="body"), layers.Dense(2, name="head"))
    network = build_network(model, "mse", trainable=["head/*"])
    assert [weight.name for weight in network.trainable] == ["head/kernel", "head/bias"]
    assert sorted(variable.name for variable in network.frozen) == ["body/bias:0", "body/kernel:0"]
    assert "--trainable 'tail/*' names no weight" in network_refusal(model, trainable=["tail/*"])


def test_adapters_change_nothing_before_they_are_trained() -> None:
    model = sequential(layers.Input((3,)), layers.Embedding(9, 4), layers.Flatten(), layers.Dense(3))
    network = build_network(model, "mse", lora_rank=2)
    assert [weight.start.shape for weight in network.trainable] == [(9, 2), (2, 4), (12, 2), (2, 3)]
    assert len(network.frozen) == 3
    assert "take at most 3" in network_refusal(model, lora_rank=4)
    values = network.values([tf.constant(w.start) for w in network.trainable], [v.read_value() for v in network.frozen])
    ids = np.array([[0, 8, 3]], np.int32)
    np.testing.assert_allclose(network.apply(values, [tf.constant(ids)], False), model(ids), atol=1e-6)
