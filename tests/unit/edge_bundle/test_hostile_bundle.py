"""Bundles of a stranger, who signs nothing: each reader refuses them in one line, and waits for nothing."""

from __future__ import annotations

import json
import os
import tracemalloc

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from stand_in_bundle import FILES, SIZE, TIME, checks_before_loading, manifest_of, refusal

from edge.bundle import manifest as schema
from edge.bundle.folder import open_bundle, read_file, read_vocabulary, write_bundle
from edge.bundle.golden import (
    GOLDEN_BATCHES,
    GOLDEN_EXPECTED,
    GOLDEN_WEIGHTS,
    check_golden,
    golden_batches,
    parse_expected,
)
from edge.bundle.manifest import read_manifest
from edge.bundle.parity import read_certificate
from edge.bundle.reading import read_regular
from edge.bundle.signing import SignatureFile, check_signature, read_public_key
from edge.clients.files import batches_to_bytes
from edge.on_device.round import train_on_device

pytestmark = pytest.mark.timeout(60)  # a reader that waits for a pipe waits for ever


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "bundle", FILES, manifest_of(FILES))
    return tmp_path / "bundle"


def rewritten(bundle, change) -> None:
    described = json.loads((bundle / "manifest.json").read_bytes())
    change(described)
    (bundle / "manifest.json").write_text(json.dumps(described))


def device_update(bundle):
    text = bundle.parent / "text"
    text.write_text("see you\n")
    train_on_device(bundle, text, bundle.parent / "out")


# Every way into a bundle: what `fedkeys verify`, `device-update`, `benchmark` and `parity` begin with.
READERS = {
    "verify": checks_before_loading,
    "open": open_bundle,
    "device-update": device_update,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["manifest.json", "SIGNATURE"])
def test_a_pipe_is_not_waited_for(bundle, reader, name):
    (bundle / name).unlink(missing_ok=True)
    os.mkfifo(bundle / name)
    assert f"{name} is not a regular file" in refusal(lambda: READERS[reader](bundle))


@pytest.mark.parametrize("reader", ["verify", "device-update"])
def test_a_pipe_in_place_of_a_model_is_not_waited_for(bundle, reader):
    (bundle / "train.tflite").unlink()
    os.mkfifo(bundle / "train.tflite")
    assert "train.tflite is not a regular file" in refusal(lambda: READERS[reader](bundle))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["train.tflite", "manifest.json", "SIGNATURE"])
def test_a_link_is_refused(bundle, reader, name, tmp_path):
    outside = tmp_path / "outside"
    path = bundle / name
    outside.write_bytes(path.read_bytes() if path.exists() else b"{}")
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    assert f"{name} is a link" in refusal(lambda: READERS[reader](bundle))


def test_a_folder_on_the_way_may_not_be_a_link_either(bundle, tmp_path):
    (bundle / "golden").rename(tmp_path / "golden")
    (bundle / "golden").symlink_to(tmp_path / "golden")
    assert "is a link" in refusal(lambda: read_file(bundle, read_manifest(bundle)[0], "golden/batches.bin"))
    assert "is a link" in refusal(lambda: read_regular(bundle, "golden/batches.bin", 100))
    with pytest.raises(ValueError, match="must stay in its folder"):
        read_regular(bundle, "../golden/batches.bin", 100)


def test_the_bundle_itself_may_be_a_link(bundle, tmp_path):
    (tmp_path / "link").symlink_to(bundle)
    assert checks_before_loading(tmp_path / "link")[-1] == "digests"


@pytest.mark.parametrize("name", ["manifest.json", "SIGNATURE", "train.tflite", "vocabulary.txt"])
def test_a_sparse_file_is_refused_unread(bundle, name):
    with open(bundle / name, "ab") as file:
        file.truncate(30 << 30)
    tracemalloc.start()
    try:
        assert f"{name} has 32212254720 bytes" in refusal(lambda: checks_before_loading(bundle))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_sparse_file_that_the_manifest_lists_is_beyond_the_schema(bundle):
    def claim(described):
        described["files"]["train.tflite"]["bytes"] = 30 << 30

    rewritten(bundle, claim)
    assert "Expected `int` <= " in refusal(lambda: read_manifest(bundle))


def test_the_files_may_take_as_much_as_the_model_explains(bundle):
    allowed = 16 * SIZE.num_weights + (64 << 20) - sum(map(len, FILES.values()))

    def claim(num_bytes):
        def change(described):
            described["files"]["train.tflite"]["bytes"] = len(FILES["train.tflite"]) + num_bytes

        return change

    rewritten(bundle, claim(allowed))
    read_manifest(bundle)
    rewritten(bundle, claim(allowed + 1))
    assert "do not use it" in refusal(lambda: read_manifest(bundle))


def test_a_model_beyond_the_schema_is_refused(bundle):
    rewritten(bundle, lambda described: described["model"].update(num_cells=1 << 24, embedding_size=1 << 24))
    assert f"{schema.MAX_WEIGHTS} are allowed" in refusal(lambda: read_manifest(bundle))


PLANS = {"epochs": 2**31, "batch_size": 0, "learning_rate": -1.0, "max_sentences": 0, "max_words": 10**9}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_beyond_the_schema_is_refused(bundle, name):
    rewritten(bundle, lambda described: described["phase"][0]["plan"].update({name: PLANS[name]}))
    assert "manifest.json is damaged" in refusal(lambda: open_bundle(bundle))


def test_a_bundle_without_a_plan_is_refused(bundle):
    rewritten(bundle, lambda described: described.update(phase=[]))
    assert "manifest.json is damaged" in refusal(lambda: device_update(bundle))


def test_deep_json_is_refused(bundle):
    deep = b"[" * 200_000 + b"]" * 200_000
    (bundle / "SIGNATURE").write_bytes(b'{"signature":' + deep[:2000] + b"}")
    assert "SIGNATURE is damaged" in refusal(lambda: check_signature(bundle, b""))
    assert "parity.json is damaged" in refusal(lambda: read_certificate(b'{"runtimes":' + deep + b"}"))
    for place in (b'{"x":%s}', b'{"schema":%s}', b"%s", b'{"schema":1,"files":%s}'):
        (bundle / "manifest.json").write_bytes(place % deep)
        assert "manifest.json is damaged" in refusal(lambda: open_bundle(bundle))


@pytest.mark.parametrize("name", [*FILES])
def test_an_unsigned_bundle_that_lacks_a_file_is_refused(tmp_path, name):
    files = {own: content for own, content in FILES.items() if own != name}
    write_bundle(tmp_path / "bundle", files, manifest_of(files))
    assert f"lists no {name}, which every bundle has" in refusal(lambda: checks_before_loading(tmp_path / "bundle"))


@pytest.mark.parametrize("tolerance", ["inf", "nan", "-1e-05", "0", "1.1e-05", "1e300", "1e999"])
def test_a_golden_batch_that_anything_passes_is_refused(tolerance):
    expected = f"learning_rate 0.5\ntolerance {tolerance}\nloss 9.5\n".encode()
    assert "is the most that an export writes" in refusal(lambda: parse_expected(expected))


@pytest.mark.parametrize("rate", ["inf", "nan", "-1", "0"])
def test_a_golden_batch_that_trains_nothing_is_refused(rate):
    expected = f"learning_rate {rate}\ntolerance 1e-05\nloss 9.5\n".encode()
    assert f"trains at a rate of {float(rate):g}" in refusal(lambda: parse_expected(expected))


def golden(**changes):
    files = {
        GOLDEN_BATCHES: batches_to_bytes(golden_batches(SIZE.vocabulary_size, TIME), SIZE.vocabulary_size),
        GOLDEN_WEIGHTS: bytes(4 * SIZE.num_weights),
        GOLDEN_EXPECTED: b"learning_rate 0.5\ntolerance 1e-05\nloss 1\nloss 1\nloss 1\n",
        "train.tflite": b"no model",
    }
    return {**files, **changes}


@pytest.mark.parametrize("length", [0, 3, 4 * SIZE.num_weights - 4])
def test_golden_weights_of_another_model_are_refused(length):
    contents = golden(**{GOLDEN_WEIGHTS: bytes(length)})
    assert f"{GOLDEN_WEIGHTS} has {length} bytes" in refusal(lambda: check_golden(contents, SIZE, TIME))


def test_a_model_that_does_not_run_is_one_line():
    assert "train.tflite can't be run (" in refusal(lambda: check_golden(golden(), SIZE, TIME))


def test_a_word_list_that_is_none_is_refused(bundle):
    assert "vocabulary.txt" in refusal(lambda: read_vocabulary(bundle, read_manifest(bundle)[0]))


def test_a_signature_can_be_demanded(bundle):
    assert "is not signed" in refusal(lambda: checks_before_loading(bundle, require_signature=True))


def test_a_signature_that_anybody_can_make(bundle, tmp_path):
    """The key is the neutral point: R is that point and S is 0, which Ed25519 accepts for any bytes."""
    neutral, forged = b"\x01" + bytes(31), b"\x01" + bytes(63)
    public = Ed25519PublicKey.from_public_bytes(neutral)
    manifest = (bundle / "manifest.json").read_bytes()
    public.verify(forged, manifest)  # raises nothing: the library alone takes it
    signature = SignatureFile(public_key=neutral.hex(), signature=forged.hex())
    (bundle / "SIGNATURE").write_bytes(json.dumps(msgspec.to_builtins(signature)).encode())
    for reader in READERS.values():
        assert "SIGNATURE is of a key of small order" in refusal(lambda reader=reader: reader(bundle))
    pem = tmp_path / "neutral.pub"
    pem.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert "holds a key of small order" in refusal(lambda: read_public_key(pem))
