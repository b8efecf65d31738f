"""The C client is equal to LiteRT in Python and to TensorFlow, and is clean under sanitizers."""

import hashlib
import re
import subprocess
import zlib

import numpy as np
import pytest
from c_client_bundle import COMPILER, RATE, SIZE, TIME, build, ragged_batches, write
from c_library import in_c_model
from memcheck import under_valgrind

from edge.bundle.golden import golden_batches
from edge.clients import c_client
from edge.clients.files import batches_to_bytes, read_update
from edge.clients.litert import TrainableModel, build_interpreter, train_client
from edge.errors import ClientError, DeviceDataError
from edge.export.shapes import train_shapes
from edge.export.tflite import INFER_FILE, TRAIN_FILE
from models.batches import Batches, build_batches
from models.vocabulary import BOS
from models.weights import ModelSize, weights_to_bytes

pytestmark = pytest.mark.slow  # converting the model takes seconds

FULL_SIZE, FULL_TIME = ModelSize(vocabulary_size=10_000, embedding_size=96, num_cells=670), 20


def losses(printed):
    return [float(loss) for loss in re.findall(r"^loss (\S+)$", printed, re.MULTILINE)]


def test_golden_batch(client, bundle):
    printed = c_client.run_c_client(["self-test", bundle], client).stdout
    steps = 3 + len(train_shapes(SIZE, TIME, 4))
    assert printed.startswith(f"self-test passed: {steps} steps, weights within ")


def test_trains_as_litert_in_python_does(client, model, bundle, tmp_path):
    start, files = model
    for num_batches, seed in ((1, 1), (7, 2)):
        batches = ragged_batches(SIZE, TIME, num_batches, np.random.default_rng(seed))
        (tmp_path / "batches").write_bytes(batches_to_bytes(batches, SIZE.vocabulary_size))
        words = ["train", bundle, tmp_path / "batches", tmp_path / "update", "--learning-rate", 0.5]
        done = c_client.run_c_client(words, client)
        got = read_update(tmp_path / "update", start)
        expected = train_client(TrainableModel(files[TRAIN_FILE], SIZE.names), start, 0.5, batches)
        for mine, theirs in zip(got["delta"], expected["delta"]):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6)
        assert max(np.abs(d).max() for d in got["delta"]) > 1e-3
        assert (got["num_examples"], got["num_tokens"]) == (batches.num_examples, batches.num_tokens)
        assert got["loss_sum"] == pytest.approx(expected["loss_sum"], rel=1e-6)
        assert len(losses(done.stdout)) == num_batches


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_any_batch_size(client, model, bundle, tmp_path, batch_size):
    sentences = [np.array([5, 9, 7]), np.array([11]), np.arange(4, 14), np.array([8, 8])]
    batches = build_batches(sentences, batch_size=batch_size, time=TIME)
    (tmp_path / "batches").write_bytes(batches_to_bytes(batches, SIZE.vocabulary_size))
    c_client.run_c_client(["train", bundle, tmp_path / "batches", tmp_path / "update"], client)
    got = read_update(tmp_path / "update", model[0])
    expected = train_client(TrainableModel(model[1][TRAIN_FILE], SIZE.names), model[0], RATE, batches)
    assert max(np.abs(a - b).max() for a, b in zip(got["delta"], expected["delta"])) < 1e-6
    assert got["num_examples"] == 4


def test_learning_rate_is_the_manifests_unless_told(client, bundle, batches_path, tmp_path):
    def update(*more):
        c_client.run_c_client(["train", bundle, batches_path, tmp_path / "update", *more], client)
        return (tmp_path / "update").read_bytes()

    assert update() == update("--learning-rate", RATE)
    assert update() != update("--learning-rate", 0.2)


def test_starts_from_the_rounds_weights(client, bundle, weights, batches_path, tmp_path):
    base = tuple(np.float32(0.9) * w for w in weights)
    (tmp_path / "weights").write_bytes(weights_to_bytes(base))
    update = tmp_path / "update"
    c_client.run_c_client(["train", bundle, batches_path, update, "--weights", tmp_path / "weights"], client)
    got = read_update(update, base)
    model = TrainableModel((bundle / TRAIN_FILE).read_bytes(), SIZE.names)
    expected = train_client(model, base, RATE, golden_batches(SIZE.vocabulary_size, TIME))
    assert max(np.abs(a - b).max() for a, b in zip(got["delta"], expected["delta"])) < 1e-6
    with pytest.raises(DeviceDataError, match="began at other weights"):
        read_update(update, weights)


def test_weights_come_out_as_the_manifest_says(client, bundle, weights, tmp_path):
    c_client.run_c_client(["weights", bundle, tmp_path / "weights"], client)
    assert (tmp_path / "weights").read_bytes() == weights_to_bytes(weights)


@pytest.mark.parametrize("typed", [[], [5], [5, 17, 4, 59, 3]])
def test_predicts_as_litert_in_python_does(client, model, bundle, typed):
    infer = build_interpreter(model[1][INFER_FILE]).get_signature_runner("infer")
    state = {"hidden": np.zeros((1, SIZE.embedding_size), "f4"), "cell": np.zeros((1, SIZE.num_cells), "f4")}
    for token in [BOS, *typed]:
        got = infer(token=np.array([token], np.int32), **state)
        state = {"hidden": got["next_hidden"], "cell": got["next_cell"]}
    lines = c_client.run_c_client(["predict", bundle, *typed], client).stdout.split()
    assert [int(i) for i in lines[::2]] == got["ids"][0].tolist()
    np.testing.assert_allclose([float(p) for p in lines[1::2]], got["probabilities"][0], rtol=1e-5)


def test_nothing_is_read_that_was_not_written(bundle, batches_path, tmp_path):
    """Under valgrind, to which sanitizers leave that: what it finds is the exit code, and so an error here."""
    program = under_valgrind(c_client.c_client_path())
    for words in (
        ("self-test", bundle),
        ("train", bundle, batches_path, tmp_path / "update", "--stats"),
        ("predict", bundle, "5", "9"),
        ("weights", bundle, tmp_path / "weights"),
    ):
        c_client.run_client([*program, *map(str, words)], c_client.litert_library())


def test_digests(client, tmp_path):
    """SHA-256 and CRC-32 of every length around the ends of SHA-256's blocks of 64 bytes."""
    (tmp_path / "main.c").write_text(
        '#include "fk_digest.h"\n#include "fk_protocol_parts.h"\n#include <stdio.h>\nint main(void) {\n'
        "  uint8_t data[300], digest[32];\n  for (int i = 0; i < 300; i++) data[i] = (uint8_t)(i * 7);\n"
        "  for (size_t n = 0; n < 300; n++) {\n    if (fk_sha256(&(fk_bytes){data, n}, 1, digest, NULL)) return 1;\n"
        '    for (int i = 0; i < 32; i++) printf("%02x", digest[i]);\n    printf(" %u\\n", fk_crc32(data, n));\n  }\n}'
    )
    parts = [c_client.SOURCE / f"fk_{name}.c" for name in ("digest", "crypto", "buffer", "error")]
    command = [*COMPILER, "-std=c11", "-I", c_client.SOURCE, tmp_path / "main.c", *parts, "-lcrypto"]
    subprocess.run([*command, "-o", tmp_path / "digests"], check=True)
    printed = subprocess.run([tmp_path / "digests"], check=True, capture_output=True, text=True).stdout
    data = bytes(i * 7 % 256 for i in range(300))
    expected = [f"{hashlib.sha256(data[:n]).hexdigest()} {zlib.crc32(data[:n])}" for n in range(300)]
    assert printed.splitlines() == expected


def test_one_version_of_litert():
    header = (c_client.SOURCE / "litert.h").read_text()
    assert re.findall(r'LITERT_VERSION "(.*)"', header) == [c_client.LITERT_VERSION]
    assert f"ai-edge-litert {c_client.LITERT_VERSION}" in header


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert c_client.c_client_path() is None
    with pytest.raises(ClientError, match="the C client can't be run: make and cc not found: install a C compiler"):
        c_client.run_c_client(["self-test", "bundle"])


def test_error_reaches_python(client, tmp_path):
    with pytest.raises(ClientError, match=r"exit code 2: .*/manifest.json: can't be read: No such file") as error:
        c_client.run_c_client(["self-test", tmp_path], client)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def full_model(client):
    return build(FULL_SIZE, FULL_TIME)


@pytest.fixture(scope="module")
def full_bundle(full_model, tmp_path_factory):
    return write(tmp_path_factory.mktemp("full") / "bundle", full_model[1], FULL_SIZE, FULL_TIME)


def test_fifty_steps_at_full_size(full_model, full_bundle, tmp_path):
    """Equal to TensorFlow's training to 1e-5 on every weight, in at most 100 MB."""
    from models.local_training import build_trainer

    start, steps = full_model[0], 50
    batches = ragged_batches(FULL_SIZE, FULL_TIME, steps, np.random.default_rng(3))
    assert batches.tokens.shape == (steps, 4, FULL_TIME)
    (tmp_path / "batches").write_bytes(batches_to_bytes(batches, FULL_SIZE.vocabulary_size))
    words = ["train", full_bundle, tmp_path / "batches", tmp_path / "update", "--stats"]
    printed = c_client.run_c_client(words).stdout
    got = read_update(tmp_path / "update", start)
    expected = build_trainer(FULL_SIZE, FULL_TIME)(start, RATE, 0, Batches(*batches))
    worst = max(float(np.abs(a - b).max()) for a, b in zip(got["delta"], expected["delta"]))
    moved = max(float(np.abs(d).max()) for d in expected["delta"])
    peak_mib = float(re.search(r"peak_rss_mib (\S+)", printed)[1])
    print(f"50 steps: within {worst:.1e} of TensorFlow's, weights moved up to {moved:.1e}; {peak_mib} MiB at most")
    assert worst <= 1e-5 < 1e-3 < moved
    assert got["num_tokens"] == expected["num_tokens"]
    assert got["loss_sum"] == pytest.approx(float(expected["loss_sum"]), rel=1e-5)
    assert 20 < peak_mib <= 100e6 / 2**20


def test_a_slice_of_time_holds_the_steps_that_fit(full_bundle, tmp_path):
    """A step at this size takes longer than a millisecond, so that each call does the one that it owes."""
    batches = ragged_batches(FULL_SIZE, FULL_TIME, 5, np.random.default_rng(4))
    (tmp_path / "batches").write_bytes(batches_to_bytes(batches, FULL_SIZE.vocabulary_size))
    assert in_c_model("steps_of_calls", full_bundle, c_client.litert_library(), tmp_path / "batches") == [1, 2, 5]
