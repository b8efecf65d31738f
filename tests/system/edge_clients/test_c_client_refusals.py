"""The C client refuses what is damaged, in one line that names it, and writes nothing."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from c_client_bundle import COMPILER, TIME, float32, int32, patched, refusal, write

from edge.bundle.golden import golden_batches
from edge.clients import c_client
from edge.clients.files import batches_to_bytes
from edge.export.tflite import INFER_FILE, TRAIN_FILE
from models.weights import weights_to_bytes

pytestmark = pytest.mark.slow  # converting the model takes seconds

LAST_TOKEN = 24 + 4 * (TIME - 1)  # where it lies in a file of batches
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
