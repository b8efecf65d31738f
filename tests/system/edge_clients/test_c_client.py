"""The C client: equal to LiteRT in Python and to TensorFlow, refuses what is damaged, and is clean under sanitizers."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import zlib

import numpy as np
import pytest

from edge.bundle.folder import file_entries, write_bundle
from edge.bundle.golden import golden_batches, golden_files
from edge.bundle.manifest import (
    SPECIAL_IDS,
    Eligibility,
    IoRouter,
    Manifest,
    ModelEntry,
    Phase,
    RunEntry,
    TensorflowSpec,
    TrainingPlan,
    signature_entries,
    weight_entries,
)
from edge.clients import c_client
from edge.clients.files import batches_to_bytes, read_update
from edge.clients.litert import TrainableModel, build_interpreter, train_client
from edge.errors import ClientError, DeviceDataError
from edge.export.tflite import INFER_FILE, TRAIN_FILE, build_files
from models.batches import Batches, build_batches
from models.vocabulary import BOS, NUM_SPECIAL
from models.weights import ModelSize, weights_to_bytes

pytestmark = pytest.mark.slow  # converting the model takes seconds

COMPILER = shlex.split(os.environ.get("CC") or "cc")
SIZE, TIME, RATE = ModelSize(vocabulary_size=60, embedding_size=8, num_cells=12), 6, 0.1
FULL_SIZE, FULL_TIME = ModelSize(vocabulary_size=10_000, embedding_size=96, num_cells=670), 20
LAST_TOKEN = 24 + 4 * (TIME - 1)  # where it lies in a file of batches


def write(folder, files, size=SIZE, time=TIME):
    """Writes a bundle of these files, as an export does; its manifest fits them."""
    plan = TrainingPlan(1, 4, RATE, 0.0, 100, time)
    spec = TensorflowSpec(TRAIN_FILE, "train", "train_stateless.tflite")
    manifest = Manifest(
        fedkeys_version="0",
        run=RunEntry(1, "", "", "", "", ""),
        model=ModelEntry(size.vocabulary_size, size.embedding_size, size.num_cells, time, weight_entries(size)),
        special_ids=SPECIAL_IDS,
        phase=(Phase("train", spec, IoRouter("batches", "update", {}), plan),),
        eligibility=Eligibility(),
        minimum_runtimes={},
        signatures=signature_entries(size, time),
        files=file_entries(files),
    )
    write_bundle(folder, files, manifest)
    return folder


def build(size, time):
    from models.cifg_lstm import initial_weights

    weights = initial_weights(size, seed=0)
    return weights, {**build_files(weights, time, 0.0), **golden_files(weights, time, 0.0, RATE)}


def ragged_batches(size, time, steps, rng):
    sentences = [rng.integers(NUM_SPECIAL, size.vocabulary_size, rng.integers(1, time + 2)) for _ in range(4 * steps)]
    return build_batches(sentences, batch_size=4, time=time)


@pytest.fixture(scope="module")
def compiler():
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("there is no C compiler")


@pytest.fixture(scope="module")
def client(compiler):
    path = c_client.c_client_path(sanitized=True)
    assert path is not None, c_client.why_not()
    return path


@pytest.fixture(scope="module")
def model():
    return build(SIZE, TIME)


@pytest.fixture(scope="module")
def weights(model):
    return model[0]


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    return write(tmp_path_factory.mktemp("c_client") / "bundle", model[1])


@pytest.fixture
def batches_path(tmp_path):
    path = tmp_path / "batches"
    path.write_bytes(batches_to_bytes(golden_batches(SIZE.vocabulary_size, TIME), SIZE.vocabulary_size))
    return path


def refusal(client, *words):
    """The one line with which the client refuses."""
    environment = {**os.environ, "FEDKEYS_LITERT": str(c_client.litert_library())}
    done = subprocess.run([client, *map(str, words)], capture_output=True, text=True, env=environment)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    assert lines[0].startswith("fedkeys_client: ")
    return lines[0]


def losses(printed):
    return [float(loss) for loss in re.findall(r"^loss (\S+)$", printed, re.MULTILINE)]


def test_golden_batch(client, bundle):
    printed = c_client.run_c_client(["self-test", bundle], client).stdout
    assert printed.startswith("self-test passed: 3 steps, weights within ")


def test_trains_as_litert_in_python_does(client, model, bundle, tmp_path):
    start, files = model
    for num_batches, seed in ((1, 1), (7, 2)):
        batches = ragged_batches(SIZE, TIME, num_batches, np.random.default_rng(seed))
        (tmp_path / "batches").write_bytes(batches_to_bytes(batches, SIZE.vocabulary_size))
        words = ["train", bundle, tmp_path / "batches", tmp_path / "update", "--learning-rate", 0.5]
        done = c_client.run_c_client(words, client)
        got = read_update(tmp_path / "update", start)
        expected = train_client(TrainableModel(files[TRAIN_FILE]), start, 0.5, batches)
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
    expected = train_client(TrainableModel(model[1][TRAIN_FILE]), model[0], RATE, batches)
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
    model = TrainableModel((bundle / TRAIN_FILE).read_bytes())
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


# ---- refusals ----


def patched(content, at, new):
    return content[:at] + new + content[at + len(new) :]


def int32(value):
    return np.int32(value).tobytes()


def float32(value):
    return np.float32(value).tobytes()


MASK = 24 + 2 * 4 * 4 * TIME  # where the first batch's mask begins

DAMAGED_BATCHES = {
    "another kind of file": (lambda b: b"FKUPDAT1" + b[8:], "must begin with FKBATCH1"),
    "a newer format": (lambda b: b"FKBATCH2" + b[8:], "must begin with FKBATCH1"),
    "empty": (lambda b: b"", "must begin with FKBATCH1"),
    "only the magic": (lambda b: b[:8], "must begin with FKBATCH1"),
    "cut in the header": (lambda b: b[:23], "must begin with FKBATCH1"),
    "cut": (lambda b: b[:-1], "is cut off or too long"),
    "a batch short": (lambda b: b[: -12 * 4 * TIME], "is cut off or too long"),
    "too long": (lambda b: b + b"\0", "is cut off or too long"),
    "no batches": (lambda b: patched(b, 8, int32(0))[:24], "0 batches"),
    "negative": (lambda b: patched(b, 8, int32(-3)), "-3 batches"),
    "more batches than fit": (lambda b: patched(b, 8, int32(2**31 - 1)), "is cut off or too long"),
    "no sentences": (lambda b: patched(b, 12, int32(0)), "of 0 sentences"),
    "huge sentences": (lambda b: patched(b, 12, int32(2**31 - 1)), "at most 256 sentences"),
    "no positions": (lambda b: patched(b, 16, int32(0)), "of 0 positions"),
    "other positions": (lambda b: batches_to_bytes(golden_batches(60, 3), 60), "made for 3 positions"),
    "another vocabulary": (lambda b: batches_to_bytes(golden_batches(61, 6), 61), "61 words, the model has 6 and 60"),
    "token too high": (lambda b: patched(b, LAST_TOKEN, int32(60)), "token id 60: ids go from 0 to 59"),
    "token negative": (lambda b: patched(b, LAST_TOKEN, int32(-1)), "token id -1"),
    "target too high": (lambda b: patched(b, 24 + 4 * 4 * TIME, int32(2**31 - 1)), "target id 2147483647"),
    "half a mask": (lambda b: patched(b, MASK, float32(0.5)), "neither 0 nor 1"),
    "mask is NaN": (lambda b: patched(b, MASK, float32(np.nan)), "neither 0 nor 1"),
    "mask begins late": (lambda b: patched(b, MASK, float32(0)), "a 1 after a 0"),
}


@pytest.mark.parametrize("kind", DAMAGED_BATCHES)
def test_damaged_batches(client, bundle, batches_path, tmp_path, kind):
    damage, reason = DAMAGED_BATCHES[kind]
    batches_path.write_bytes(damage(batches_path.read_bytes()))
    line = refusal(client, "train", bundle, batches_path, tmp_path / "update")
    assert reason in line
    assert str(batches_path) in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batches"]


def test_batches_cut_anywhere(client, bundle, batches_path, tmp_path):
    content = batches_path.read_bytes()
    for length in range(0, len(content), 37):
        batches_path.write_bytes(content[:length])
        refusal(client, "train", bundle, batches_path, tmp_path / "update")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda w: weights_to_bytes(w)[:-4], "cut off or of another model"),
        (lambda w: weights_to_bytes(w) + b"\0", "cut off or of another model"),
        (lambda w: patched(weights_to_bytes(w), 400, float32(np.nan)), "weights to start from are not finite"),
        (lambda w: patched(weights_to_bytes(w), 0, float32(np.inf)), "weights to start from are not finite"),
    ],
)
def test_damaged_weights(client, bundle, weights, batches_path, tmp_path, content, reason):
    (tmp_path / "weights").write_bytes(content(weights))
    words = ["train", bundle, batches_path, tmp_path / "update", "--weights", tmp_path / "weights"]
    assert reason in refusal(client, *words)
    assert not (tmp_path / "update").exists()


def test_training_that_diverges_writes_nothing(client, bundle, weights, batches_path, tmp_path):
    # Finite, yet so large that the products in the step are not.
    (tmp_path / "weights").write_bytes(weights_to_bytes([w * np.float32(1e30) for w in weights]))
    words = ["train", bundle, batches_path, tmp_path / "update", "--weights", tmp_path / "weights"]
    assert "training made weights that are not finite" in refusal(client, *words)
    assert not (tmp_path / "update").exists()


@pytest.mark.parametrize("name", [TRAIN_FILE, INFER_FILE, "golden/batches.bin", "golden/expected.txt"])
def test_damaged_bundle(client, bundle, tmp_path, name):
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    words = ["predict", damaged] if name == INFER_FILE else ["self-test", damaged]
    content = (bundle / name).read_bytes()
    for at in np.linspace(0, len(content) - 1, 9).astype(int):
        (damaged / name).write_bytes(patched(content, at, bytes([content[at] ^ 1])))
        assert re.search(f"{name} is not the file that was exported", refusal(client, *words))
        (damaged / name).write_bytes(content[:at])
        assert f"{name} has {at} bytes, the manifest says {len(content)}" in refusal(client, *words)
    (damaged / name).unlink()
    assert f"{name}: can't be read: No such file" in refusal(client, *words)
    (damaged / name).mkdir()
    assert "it is not a file" in refusal(client, *words)
    (damaged / name).rmdir()
    os.mkfifo(damaged / name)  # nobody will ever write into it
    assert "it is not a file" in refusal(client, *words)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda m: m.replace(b'"schema": 1', b'"schema": 2'), "has schema 2, this client reads 1"),
        (lambda m: m.replace(b'"schema": 1', b'"schema": "1"'), "is damaged at schema"),
        (lambda m: b"", "has no schema"),
        (lambda m: m[: m.index(b"special_ids")], "has no phase plan learning_rate"),
        (lambda m: m[: m.index(b'"files"') + 12], "has no files train.tflite bytes"),
        (lambda m: m.replace(b'"learning_rate": 0.1', b'"learning_rate": null'), "damaged at phase plan"),
    ],
)
def test_damaged_manifest(client, bundle, batches_path, tmp_path, content, reason):
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    (damaged / "manifest.json").write_bytes(content((bundle / "manifest.json").read_bytes()))
    assert reason in refusal(client, "train", damaged, batches_path, tmp_path / "update")


def test_manifest_cut_anywhere(client, bundle, tmp_path):
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    content = (bundle / "manifest.json").read_bytes()
    train_entry = content.index(f'"{TRAIN_FILE}": '.encode(), content.index(b'"files": '))
    used_until = content.index(b'"sha256": ', train_entry)
    for length in range(0, used_until, 211):
        (damaged / "manifest.json").write_bytes(content[:length])
        refusal(client, "self-test", damaged)


def test_self_test_fails_where_the_result_differs(client, model, tmp_path):
    after = np.frombuffer(model[1]["golden/weights_after.bin"], "<f4").copy()
    after[700] += 1e-4
    other = write(tmp_path / "other", {**model[1], "golden/weights_after.bin": after.tobytes()})
    assert "self-test failed: weights 1.0e-04 off" in refusal(client, "self-test", other)
    expected = model[1]["golden/expected.txt"].replace(b"loss 4.", b"loss 5.")
    other = write(tmp_path / "another", {**model[1], "golden/expected.txt": expected})
    assert "and loss 2." in refusal(client, "self-test", other)


def test_golden_files_that_do_not_fit(client, model, tmp_path):
    for i, (name, content, reason) in enumerate(
        [
            ("golden/weights_after.bin", b"1234", "of another model"),
            ("golden/expected.txt", b"learning_rate 0.1\ntolerance 1e-05\nloss 4.0\n", "does not fit"),
            ("golden/expected.txt", b"loss 4\nloss 4\nloss 4\n", "does not fit"),
            ("golden/expected.txt", b"loss 4\n" * 1000, "does not fit"),
            ("golden/expected.txt", b"learning_rate 0.1\ntolerance inf\nloss 4\nloss 4\nloss 4\n", "difference of inf"),
            ("golden/expected.txt", b"learning_rate -1\ntolerance 1e-05\nloss 4\nloss 4\nloss 4\n", "a rate of -1"),
            (TRAIN_FILE, model[1][INFER_FILE], "no signature get_weights"),
        ]
    ):
        other = write(tmp_path / str(i), {**model[1], name: content})
        assert reason in refusal(client, "self-test", other)


@pytest.mark.parametrize("word", ["60", "-1", "99999999999999999999", "hello", "5x", ""])
def test_id_out_of_range(client, bundle, word):
    line = refusal(client, "predict", bundle, "5", word)
    assert line.endswith(f"ID must be a whole number from 0 to 59, got {word}")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "usage: "),
        (["self-test"], "usage: "),
        (["fly", "BUNDLE"], "usage: "),
        (["train", "BUNDLE", "BATCHES"], "usage: "),
        (["self-test", "BUNDLE", "--fast"], "there is no option --fast"),
        (["self-test", "BUNDLE", "--threads"], "--threads needs a value"),
        (["self-test", "BUNDLE", "--threads", "0"], "--threads must be a whole number from 1 to 64, got 0"),
        (["self-test", "missing"], "missing/manifest.json: can't be read: No such file"),
        (["train", "BUNDLE", "missing", "UPDATE"], "missing: can't be read: No such file"),
        (["train", "BUNDLE", "BUNDLE", "UPDATE"], "it is not a file"),
        (["train", "BUNDLE", "BATCHES", "missing/update"], "missing/update: can't be written: No such file"),
        (["train", "BUNDLE", "BATCHES", "UPDATE", "--weights", "missing"], "missing: can't be read"),
        (["train", "BUNDLE", "BATCHES", "UPDATE", "--learning-rate", "nan"], "at most 1000, got nan"),
        (["train", "BUNDLE", "BATCHES", "UPDATE", "--learning-rate", "-1"], "above 0 and at most 1000, got -1"),
        (["train", "BUNDLE", "BATCHES", "UPDATE", "--learning-rate", "fast"], "got fast"),
    ],
)
def test_wrong_words(client, bundle, batches_path, tmp_path, words, reason):
    names = {"BUNDLE": bundle, "BATCHES": batches_path, "UPDATE": tmp_path / "update"}
    assert reason in refusal(client, *(names.get(word, word) for word in words))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batches"]


def test_library_that_can_not_be_loaded(client, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(c_client, "litert_library", lambda: tmp_path / "missing.so")
    assert "LiteRT can't be loaded: " in refusal(client, "self-test", bundle)


def test_library_of_another_version(client, bundle, tmp_path, monkeypatch):
    (tmp_path / "empty.c").write_text("int nothing;\n")
    library = tmp_path / "libLiteRt.so"
    subprocess.run([*COMPILER, "-shared", "-o", library, tmp_path / "empty.c"], check=True)
    monkeypatch.setattr(c_client, "litert_library", lambda: library)
    line = refusal(client, "self-test", bundle)
    assert line.endswith("LiteRT has no LiteRtCreateEnvironment: this client is made for version 2.3.0")


# ---- the build, and Python's side ----


def test_digests(compiler, tmp_path):
    """SHA-256 and CRC-32 of every length around the ends of SHA-256's blocks of 64 bytes."""
    (tmp_path / "main.c").write_text(
        '#include "bundle.h"\n#include <stdio.h>\nint main(void) {\n'
        "  char data[300], hex[65];\n  for (int i = 0; i < 300; i++) data[i] = (char)(i * 7);\n"
        '  for (size_t n = 0; n < 300; n++) sha256(data, n, hex), printf("%s %u\\n", hex, crc32(data, n));\n}\n'
    )
    sources = [tmp_path / "main.c", c_client.SOURCE / "bundle.c"]
    command = [*COMPILER, "-std=c11", "-I", c_client.SOURCE, *sources, "-o", tmp_path / "digests"]
    subprocess.run(command, check=True)
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


# ---- full size ----


@pytest.fixture(scope="module")
def full_model(compiler):
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
