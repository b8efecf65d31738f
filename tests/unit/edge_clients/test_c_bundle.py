"""libfedkeys opens, reads and verifies a bundle as `fedkeys verify` does, and says why not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest
from c_library import Bundle, Failed, public_key_from_pem
from stand_in_bundle import FILES, SIZE, TIME, manifest_of

from edge.bundle.folder import write_bundle
from edge.bundle.signing import generate_key, raw_public, read_public_key

MANIFEST, SIGNATURE = "manifest.json", "SIGNATURE"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return [(folder / name, generate_key(folder / name)) for name in ("ours", "theirs")]


@pytest.fixture
def bundle(tmp_path, keys):
    write_bundle(tmp_path / "bundle", FILES, manifest_of(FILES), keys[0][0])
    return tmp_path / "bundle"


def look_at(folder, *trust, verify=True):
    with Bundle(folder, *trust) as opened:
        if verify:
            opened.verify()


def refused(folder, *trust, verify=True):
    """The status and the line with which a bundle is refused."""
    with pytest.raises(Failed) as error:
        look_at(folder, *trust, verify=verify)
    assert "\n" not in str(error.value)
    return error.value.status, str(error.value)


def test_a_signed_bundle_says_what_it_is(bundle, keys):
    key = raw_public(read_public_key(keys[0][1]))
    with Bundle(bundle, key, True) as opened:
        opened.verify()
        info = opened.info
        assert (info.tokeniser, info.vocabulary_size, info.embedding_size, info.num_cells) == (1, 9, 2, 3)
        assert (info.max_words, info.num_weights) == (TIME, SIZE.num_weights)
        assert (info.epochs, info.batch_size, info.max_sentences) == (1, 16, 50)
        assert (info.learning_rate, info.clip_norm) == (0.5, 1.0)
        assert info.is_signed
        assert bytes(info.public_key) == key == public_key_from_pem(keys[0][1].read_bytes())
        assert bytes(info.manifest_sha256) == hashlib.sha256((bundle / MANIFEST).read_bytes()).digest()
        assert {name: opened.read(name) for name in FILES} == FILES


def test_whose_signature_it_must_be(bundle, keys, tmp_path):
    theirs = raw_public(read_public_key(keys[1][1]))
    assert refused(bundle, theirs, verify=False) == (
        "UNTRUSTED",
        f"{bundle} is signed with another key than the app's: do not use it",
    )
    write_bundle(tmp_path / "bare", FILES, manifest_of(FILES))
    for trust in ((None, True), (theirs, False)):
        status, line = refused(tmp_path / "bare", *trust, verify=False)
        assert (status, "is not signed" in line) == ("UNTRUSTED", True)
    with Bundle(tmp_path / "bare") as opened:
        assert not opened.info.is_signed


def test_what_the_signature_does_not_cover(bundle):
    content = (bundle / MANIFEST).read_bytes()
    (bundle / MANIFEST).write_bytes(content.replace(b'"epochs": 1', b'"epochs": 9'))
    status, line = refused(bundle, verify=False)
    assert (status, "does not sign this manifest.json" in line) == ("UNTRUSTED", True)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-30],
        lambda s: s.replace(b"Ed25519", b"Ed448"),
        lambda s: s.replace(b'"public_key": "', b'"public_key": "00'),
        lambda s: s.replace(b"manifest.json", b"vocabulary.txt"),
        lambda s: s + b"x",
        lambda s: b"[" * 4000,
        lambda s: b"",
    ],
)
def test_a_damaged_signature(bundle, change):
    (bundle / SIGNATURE).write_bytes(change((bundle / SIGNATURE).read_bytes()))
    assert refused(bundle, verify=False) == ("DAMAGED", f"{bundle}/SIGNATURE is damaged: copy the bundle again")


def test_a_key_of_small_order_signs_nothing(bundle):
    """For the point of order 1 the signature (R = identity, s = 0) holds over anything."""
    neutral = "01" + "00" * 31
    named = {"algorithm": "Ed25519", "signs": MANIFEST, "public_key": neutral, "signature": neutral + "00" * 32}
    (bundle / SIGNATURE).write_text(json.dumps(named))
    status, line = refused(bundle, verify=False)
    assert (status, "does not sign" in line) == ("UNTRUSTED", True)


def test_a_folder_with_something_else_in_it(bundle):
    (bundle / "golden" / "more").write_text("")
    assert "golden/more is not in the manifest" in refused(bundle)[1]
    (bundle / "golden" / "more").unlink()
    (bundle / "empty").mkdir()
    assert "empty is not in the manifest" in refused(bundle)[1]
    (bundle / "empty").rmdir()
    os.mkfifo(bundle / "pipe")
    assert "pipe is not in the manifest" in refused(bundle)[1]


def test_links_are_not_followed(bundle, tmp_path):
    shutil.move(bundle / "vocabulary.txt", tmp_path / "words")
    (bundle / "vocabulary.txt").symlink_to(tmp_path / "words")
    with Bundle(bundle) as opened, pytest.raises(Failed, match="vocabulary.txt is a link"):
        opened.read("vocabulary.txt")
    assert refused(bundle)[0] == "UNTRUSTED"
    shutil.move(bundle / "golden", tmp_path / "golden")
    (bundle / "golden").symlink_to(tmp_path / "golden")
    with Bundle(bundle) as opened, pytest.raises(Failed, match="golden/batches.bin"):
        opened.read("golden/batches.bin")
    shutil.move(bundle / SIGNATURE, tmp_path / "signature")
    (bundle / SIGNATURE).symlink_to(tmp_path / "signature")
    assert "SIGNATURE is a link" in refused(bundle)[1]


def test_a_missing_and_a_changed_file(bundle):
    (bundle / "infer.tflite").write_bytes(FILES["infer.tflite"][:-1] + b"x")
    assert "infer.tflite is not the file that was exported" in refused(bundle)[1]
    (bundle / "infer.tflite").unlink()
    assert refused(bundle)[0] == "IO"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"vocabulary_size": 9', '"vocabulary_size": 4', "vocabulary_size 4, from 5 to 16777216 can be"),
        ('"vocabulary_size": 9', '"vocabulary_size": 9.5', "damaged at model vocabulary_size"),
        ('"embedding_size": 2', '"embedding_size": 16777216', "are allowed: do not use it"),
        ('"golden/batches.bin"', '"../batches.bin"', "leaves the bundle's folder"),
        ('"golden/batches.bin"', '"/golden/batches.bin"', "leaves the bundle's folder"),
        ('"golden/batches.bin"', '"golden//batches.bin"', "leaves the bundle's folder"),
        ('"golden/batches.bin"', '"golden\\\\batches.bin"', "leaves the bundle's folder"),
        ('"golden/batches.bin"', '"golden/expected.txt"', "lists golden/expected.txt twice"),
        ('"bytes": 4,', '"bytes": 99999999999,', "are allowed: do not use it"),
        ('"bytes": 4,', '"bytes": -4,', "are allowed: do not use it"),
        ('"schema": 1', '"schema": 2', "has schema 2, this client reads 1"),
        ('"schema": 1', '"schema": 1, "kind": "image"', "holds a kind of model that this client has not"),
        ('"schema": 1', '"schema": 1, "kind": "keras"', "has no plan learning_rate"),
        ('"schema": 1', '"schema": 1, "segmenter": "icu"', "asks for a segmenter of words, which this client has not"),
    ],
)
def test_a_manifest_beyond_the_limits(bundle, old, new, reason):
    (bundle / SIGNATURE).unlink()
    content = (bundle / MANIFEST).read_text()
    at = content.index(old, content.index('"files"') if "golden" in old or "bytes" in old else 0)
    (bundle / MANIFEST).write_text(content[:at] + new + content[at + len(old) :])
    assert reason in refused(bundle)[1]


def test_a_manifest_that_is_no_json(bundle):
    (bundle / SIGNATURE).unlink()
    (bundle / MANIFEST).write_bytes((bundle / MANIFEST).read_bytes() + b"}")
    assert refused(bundle) == ("DAMAGED", f"{bundle}/manifest.json is damaged: copy the bundle again")


def test_numbers_do_not_hang_on_the_locale(bundle):
    """A German app writes 0,5; a manifest does not."""
    import locale

    before = locale.setlocale(locale.LC_NUMERIC)
    try:
        locale.setlocale(locale.LC_NUMERIC, "de_DE.UTF-8")
    except locale.Error:
        pytest.skip("there is no German locale")
    try:
        with Bundle(bundle) as opened:
            assert opened.info.learning_rate == 0.5
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)
