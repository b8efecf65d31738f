"""The export of each kind of network but the default: builtin ops, and 50 steps in LiteRT that equal TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from small_manifest import small_manifest

from edge.bundle.folder import write_bundle
from edge.bundle.parity import GATE, STEPS
from edge.clients import c_client
from edge.clients.c_training import train_in_c
from edge.clients.litert import StatelessModel, TrainableModel, build_interpreter, train_client
from edge.export import flatbuffer, tflite
from models import inference
from models.architectures import ARCHITECTURES, CIFG
from models.batches import build_batches
from models.model import load_model
from models.next_word import sgd_step
from models.vocabulary import BOS, NUM_SPECIAL
from models.weights import ModelSize

TIME, RATE, CLIP = 6, 0.1, 0.3


@pytest.fixture(scope="module", params=sorted(set(ARCHITECTURES) - {CIFG}))
def size(request) -> ModelSize:
    return ModelSize(vocabulary_size=60, embedding_size=8, num_cells=12, kind=request.param)


@pytest.fixture(scope="module")
def weights(size):
    return load_model(size).initial_weights(0, embedding_range=0.5)


@pytest.fixture(scope="module")
def files(size, weights) -> dict[str, bytes]:
    return tflite.build_files(size, weights, TIME, CLIP, 4)  # refuses what is no builtin


def test_no_op_takes_a_shape_that_another_computes(files):
    for content in files.values():
        for counts in flatbuffer.ops_of(content).values():
            assert not {"SHAPE", "FILL", "RANGE", "BROADCAST_TO"} & set(counts)


def test_fifty_steps_equal_tensorflows(size, weights, files):
    rng = np.random.default_rng(1)
    sentences = [rng.integers(NUM_SPECIAL, 60, rng.integers(1, TIME + 3)) for _ in range(4 * STEPS)]
    batches = build_batches(sentences, batch_size=4, time=TIME)
    model = load_model(size)
    step = tf.function(lambda w, *batch: sgd_step(model, w, *batch, RATE, CLIP), reduce_retracing=True)
    expected, losses = tuple(map(tf.constant, weights)), []
    for batch in zip(*batches):
        expected, loss_sum, num_tokens = step(expected, *map(tf.constant, batch))
        losses.append(float(loss_sum / num_tokens))
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]
    for build, file in ((TrainableModel, tflite.TRAIN_FILE), (StatelessModel, tflite.STATELESS_FILE)):
        own = build(files[file], size.names)
        own.set_weights(weights)
        assert [own.train_step(*batch, RATE)[0] for batch in zip(*batches)] == pytest.approx(losses, abs=GATE)
        for name, mine, theirs in zip(size.names, own.get_weights(), expected):
            assert np.abs(mine - theirs).max() <= GATE, name


def test_the_c_client_trains_and_predicts_too(size, weights, files, tmp_path):
    if c_client.why_not():
        pytest.skip(f"no C client: {c_client.why_not()}")
    rng = np.random.default_rng(2)
    sentences = [rng.integers(NUM_SPECIAL, 60, rng.integers(1, TIME + 3)) for _ in range(4 * STEPS)]
    batches = build_batches(sentences, batch_size=4, time=TIME)
    write_bundle(tmp_path / "bundle", files, small_manifest(files, size, TIME, RATE, CLIP))
    result, losses = train_in_c(c_client.run_c_client, tmp_path / "bundle", size, weights, batches, RATE)
    own = TrainableModel(files[tflite.TRAIN_FILE], size.names)
    expected = train_client(own, weights, RATE, batches)
    assert len(losses) == STEPS
    for name, mine, theirs in zip(size.names, result["delta"], expected["delta"]):
        assert np.abs(mine - theirs).max() <= 1e-6, name
    infer, state = build_interpreter(files[tflite.INFER_FILE]).get_signature_runner("infer"), size.start_state()
    for word in (BOS, 7, 22, 59):
        got = infer(token=np.array([word], np.int32), **state)
        state = {name: got[f"next_{name}"] for name in state}
    lines = c_client.run_c_client(["predict", tmp_path / "bundle", 7, 22, 59]).stdout.split()
    assert [int(one) for one in lines[::2]] == got["ids"][0].tolist()
    np.testing.assert_allclose([float(share) for share in lines[1::2]], got["probabilities"][0], rtol=1e-5)


def test_the_key_stroke_of_the_file_is_the_models(size, weights, files):
    train = build_interpreter(files[tflite.TRAIN_FILE]).get_signature_runner("infer")
    small = build_interpreter(files[tflite.INFER_FILE]).get_signature_runner("infer")
    model, of_model, of_train, of_small = load_model(size), *(size.start_state() for _ in range(3))
    for word in (BOS, 7, 22, 59):
        token = np.array([word], np.int32)
        stroke = inference.key_stroke(model, weights, token, of_model)
        of_model = stroke.state
        for runner, state, tolerance in ((train, of_train, 1e-6), (small, of_small, 2e-3)):  # the small one is int8
            got = runner(token=token, **state)
            state.update({name: got[f"next_{name}"] for name in size.state})
            np.testing.assert_allclose(got["probabilities"], stroke.probabilities, atol=tolerance)
