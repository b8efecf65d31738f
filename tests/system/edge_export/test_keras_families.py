"""Models of each family, exported: builtin ops only, 50 steps as in TensorFlow, each weight in the file once."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from c_library import in_c_model
from keras_families import FAMILIES, family

from edge.bundle.folder import write_bundle
from edge.bundle.keras_golden import golden_keras_files
from edge.bundle.keras_parity import FailedRate, Trained, certify_keras, read_keras_certificate
from edge.bundle.manifest import to_json
from edge.bundle.parity import GATE
from edge.clients import c_client
from edge.clients.keras_model import KerasModel
from edge.export.flatbuffer import ops_of
from edge.export.keras_network import Network, build_network
from edge.export.keras_reference import made_up_batches, train_in_tensorflow
from edge.export.keras_tflite import build_keras_file, keras_signatures
from edge.export.tflite import TRAIN_FILE
from orchestrator.release import keras_export
from orchestrator.release.keras_export import KerasOptions

BATCH = 4
LOSSES = {"cnn": {"class_name": "SparseCategoricalCrossentropy", "config": {"from_logits": True}}}

pytestmark = pytest.mark.slow


def exported(name: str, lora_rank: int = 0) -> tuple[Network, bytes]:
    model = family(name)
    network = build_network(model, LOSSES.get(name, model.loss), lora_rank=lora_rank, batch_size=BATCH)
    return network, build_keras_file(network, BATCH)


@pytest.mark.parametrize(("name", "lora_rank"), [*((name, 0) for name in FAMILIES), ("gru", 2)])
def test_a_family_trains_in_the_file_as_in_tensorflow(name: str, lora_rank: int, tmp_path: Path) -> None:
    network, content = exported(name, lora_rank)
    for weight in network.trainable:
        assert weight.side == 1 or content.count(weight.start.tobytes()) == 1, weight.name  # that side begins as zeros
    ops = {op for counts in ops_of(content).values() for op in counts}
    assert not [op for op in ops if op.startswith("CUSTOM")]
    batches = made_up_batches(network, BATCH, 50)
    trained = functools.cache(lambda rate, reverse: train_in_tensorflow(network, batches, rate, reverse))
    certificate = certify_keras(
        content,
        [weight.tensor for weight in network.trainable],
        [weight.start for weight in network.trainable],
        "",
        batches,
        trained,
        "TensorFlow",
    )
    assert certificate.passed, certificate
    assert {"litert", "tensorflow"} <= set(certificate.runtimes)
    check_other_signatures(network, KerasModel(content, [weight.tensor for weight in network.trainable]))
    if not c_client.why_not():
        rate = certificate.learning_rate
        check_in_c(tmp_path, network, content, batches, rate, trained(rate, False))


def check_in_c(
    folder: Path, network: Network, content: bytes, batches: list[dict], rate: float, expected: Trained
) -> None:
    """Trains in libfedkeys, from a bundle, and compares with TensorFlow."""
    weights, losses = train_in_tensorflow(network, batches[:3], rate)
    files = {TRAIN_FILE: content, **golden_keras_files(batches[:3], weights, losses, rate)}
    options = KerasOptions(batch_size=BATCH)
    write_bundle(folder / "bundle", files, keras_export._manifest("own.keras", network, "", None, options, files))
    np.savez(
        folder / "arrays.npz", **{f"{i}/{name}": part for i, own in enumerate(batches) for name, part in own.items()}
    )
    words = (folder / "bundle", c_client.litert_library(), folder / "arrays.npz", rate)
    found = in_c_model("train_keras", *words, module="c_keras")
    after = np.frombuffer(bytes.fromhex(found["weights"]), np.float32)
    assert np.abs(after - np.concatenate([weight.ravel() for weight in expected[0]])).max() <= GATE
    assert found["losses"] == pytest.approx(expected[1], abs=1e-4)
    assert (found["is_keras"], found["count"]) == (True, len(after))
    described = keras_signatures(network, BATCH)["train"]
    for which, specs in (("inputs", described.inputs), ("outputs", described.outputs)):
        told = {name: (dtype, tuple(shape), size) for name, dtype, shape, size in found[which]}
        dtypes = {"float32": 1, "int32": 2}
        assert told == {s.name: (dtypes[s.dtype], s.shape, 4 * int(np.prod(s.shape))) for s in specs}
    assert found["refused"] == {
        "run without values": "BAD_ARGUMENT",
        "get before a run": "BAD_ARGUMENT",
        "another size": "UNSUPPORTED",
        "no such input": "UNSUPPORTED",
        "text": "UNSUPPORTED",
        "predictor": "UNSUPPORTED",
    }


def test_a_certificate_names_the_rates_that_failed_before() -> None:
    network, content = exported("mlp")
    batches = made_up_batches(network, BATCH, 5)
    turned = []

    def train(rate: float, reverse: bool) -> Trained:
        turned.append((rate, reverse))
        (first, *rest), losses = train_in_tensorflow(network, batches, rate, reverse)
        return (first + {0.1: np.float32(np.nan), 0.02: np.float32(0.5)}.get(rate, np.float32(0)), *rest), losses

    names = [weight.tensor for weight in network.trainable]
    start = [weight.start for weight in network.trainable]
    certificate = certify_keras(content, names, start, "", batches, train, "TensorFlow")
    assert certificate.passed
    assert certificate.learning_rate == 0.004
    of_nan, of_wrong = read_keras_certificate(to_json(certificate)).failed_rates
    assert of_nan == FailedRate(0.1, None, None)
    assert (of_wrong.learning_rate, of_wrong.max_abs_diff) == (0.02, pytest.approx(0.5, abs=1e-4))
    assert turned == [(0.1, False), (0.02, False), (0.004, False), (0.004, True)]


def check_other_signatures(network: Network, model: KerasModel) -> None:
    """Compares eval, infer, get_weights and set_weights with Keras."""
    for weight, own in zip(network.trainable, model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, weight.start)
    batch = made_up_batches(network, BATCH, 1, seed=2)[0]
    inputs = [batch[place.name] for place in network.inputs]
    outputs = network.model(inputs if len(inputs) > 1 else inputs[0], training=False).numpy()
    one = {place.name: batch[place.name][:1] for place in network.inputs}
    np.testing.assert_allclose(model.infer(one), outputs[:1], atol=1e-5)
    figures = model.evaluate(batch)
    assert figures["num_examples"] == BATCH // 2
    if network.loss.num_classes:
        wanted = batch["targets"] if network.loss.targets_dtype == "int32" else batch["targets"].argmax(-1)
        right = (outputs.argmax(-1) == wanted).reshape(BATCH, -1).mean(1)
        assert figures["hits"] == pytest.approx(float((right * batch["mask"]).sum()), abs=1e-5)
    else:
        squared = ((outputs - batch["targets"]) ** 2).reshape(BATCH, -1).mean(1)
        assert figures["squared_error"] == pytest.approx(float((squared * batch["mask"]).sum()), rel=1e-4)
    model.set_weights([np.zeros_like(weight.start) for weight in network.trainable])
    assert not any(own.any() for own in model.get_weights())
