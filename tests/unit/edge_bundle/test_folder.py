"""A bundle's folder: all or nothing, the same bytes each time, and each kind of damage told apart.

The models are stand-ins here: what is checked comes before anything is loaded. tests/system/edge_bundle
has the real ones.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile

import msgspec
import pytest
from stand_in_bundle import FILES, TIME, checks_before_loading, manifest_of

from edge.bundle.folder import check_target, read_file, read_vocabulary, write_bundle
from edge.bundle.manifest import Manifest, read_manifest, to_json
from edge.bundle.signing import generate_key
from edge.bundle.verification import verify_bundle
from edge.errors import BundleError


@pytest.fixture
def keys(tmp_path):
    generate_key(tmp_path / "key")
    generate_key(tmp_path / "other")
    return tmp_path / "key"


@pytest.fixture
def bundle(tmp_path, keys):
    write_bundle(tmp_path / "bundle", FILES, manifest_of(FILES), keys)
    return tmp_path / "bundle"


def test_a_whole_bundle_passes(bundle, keys):
    for public_key in (None, keys.with_name("key.pub")):
        assert checks_before_loading(bundle, public_key) == ["manifest", "signature", "files", "digests"]


def test_the_manifest_is_read_back_with_its_types(bundle):
    manifest, raw = read_manifest(bundle)
    assert manifest == manifest_of(FILES)
    assert to_json(manifest) == raw
    described = json.loads(raw)
    assert set(described) == {
        "schema", "fedkeys_version", "tokeniser", "run", "model", "special_ids", "words", "phase", "eligibility",
        "minimum_runtimes", "signatures", "files",
    }  # fmt: skip
    assert [w["name"] for w in described["model"]["weights"]] == [
        "embedding", "kernel", "bias", "projection", "output_bias",
    ]  # fmt: skip
    assert described["model"]["weights"][1] == {"name": "kernel", "shape": [4, 9], "offset_bytes": 72}
    assert described["signatures"]["train.tflite"]["train"]["inputs"][0] == {
        "name": "tokens", "dtype": "int32", "shape": [-1, TIME],
        "unit": "word id; each sentence starts with <bos>, then <pad> fills",
    }  # fmt: skip
    assert msgspec.json.schema(Manifest)["$defs"]["Manifest"]["required"]


def test_the_same_files_give_the_same_bytes(tmp_path, keys):
    for name in ("one", "two"):
        write_bundle(tmp_path / name, dict(reversed(FILES.items())) if name == "two" else FILES, manifest_of(FILES),
                     keys, archive=True)  # fmt: skip
    one, two = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()}
                for n in ("one", "two"))  # fmt: skip
    assert one == two
    assert len(one) == len(FILES) + 2
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {str(p): c for p, c in one.items()}


DAMAGE = {
    "a file cut short": (lambda b: (b / "train.tflite").write_bytes(FILES["train.tflite"][:-1]), "has 499 bytes"),
    "a file missing": (lambda b: (b / "golden/batches.bin").unlink(), "golden/batches.bin is missing"),
    "a file too many": (lambda b: (b / "golden/more").write_bytes(b""), "golden/more is not in the manifest"),
    "a link": (
        lambda b: ((b / "train.tflite").unlink(), (b / "train.tflite").symlink_to(b / "infer.tflite")),
        "train.tflite is a link",
    ),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "holds no manifest.json"),
    "a manifest of nothing": (lambda b: (b / "manifest.json").write_bytes(b"{"), "manifest.json is damaged"),
    "a manifest that is no object": (lambda b: (b / "manifest.json").write_bytes(b"[1]"), "manifest.json is damaged"),
    "a damaged signature": (lambda b: (b / "SIGNATURE").write_bytes(b"{}"), "SIGNATURE is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_kind_of_damage_has_its_own_line(bundle, kind):
    do, message = DAMAGE[kind]
    do(bundle)
    with pytest.raises(BundleError) as refusal:
        checks_before_loading(bundle)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("name", [*FILES, "manifest.json", "SIGNATURE"])
def test_a_flipped_bit_in_any_file_is_found(bundle, name):
    raw = bytearray((bundle / name).read_bytes())
    for place in {0, len(raw) // 2, len(raw) - 2}:
        flipped = bytearray(raw)
        flipped[place] ^= 1
        (bundle / name).write_bytes(flipped)
        with pytest.raises(BundleError):
            checks_before_loading(bundle)
    (bundle / name).write_bytes(raw)
    checks_before_loading(bundle)


def resigned(bundle, keys, change) -> None:
    """Changes the manifest's JSON and signs it again: an insider's damage, which the signature does not show."""
    from edge.bundle.signing import sign

    described = json.loads((bundle / "manifest.json").read_bytes())
    change(described)
    raw = json.dumps(described).encode()
    (bundle / "manifest.json").write_bytes(raw)
    (bundle / "SIGNATURE").write_bytes(sign(raw, keys))


def rename_file(new):
    def change(described):
        described["files"][new] = described["files"].pop("train.tflite")

    return change


@pytest.mark.parametrize("path", ["../train.tflite", "/etc/passwd", "golden/../../x", "a\\..\\b", "./train.tflite", ""])
def test_a_path_that_leaves_the_folder_is_refused(bundle, keys, path):
    resigned(bundle, keys, rename_file(path))
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        checks_before_loading(bundle)


@pytest.mark.parametrize(
    ("schema", "advice"), [(2, "update fedkeys"), (0, "export the run again"), ("1", "export the run again")]
)
def test_another_schema_is_refused(bundle, keys, schema, advice):
    resigned(bundle, keys, lambda described: described.update(schema=schema, something="new"))
    with pytest.raises(BundleError, match=f"this fedkeys reads 1: {advice}"):
        checks_before_loading(bundle)


def test_an_unknown_field_is_refused(bundle, keys):
    resigned(bundle, keys, lambda described: described.update(more=1))
    with pytest.raises(BundleError, match="unknown field `more`"):
        checks_before_loading(bundle)


def test_another_key_is_refused(bundle, keys):
    with pytest.raises(BundleError, match="is signed with another key"):
        checks_before_loading(bundle, keys.with_name("other.pub"))


def test_a_manifest_changed_after_signing_is_refused(bundle):
    described = json.loads((bundle / "manifest.json").read_bytes())
    described["phase"][0]["plan"]["learning_rate"] = 50.0
    (bundle / "manifest.json").write_text(json.dumps(described))
    with pytest.raises(BundleError, match="does not sign this manifest"):
        checks_before_loading(bundle)


def test_an_unsigned_bundle_says_so_and_is_refused_where_a_key_is_asked_for(tmp_path, keys):
    write_bundle(tmp_path / "plain", FILES, manifest_of(FILES))
    signature = next(check for check in verify_bundle(tmp_path / "plain") if check.name == "signature")
    assert "UNSIGNED" in signature.detail
    with pytest.raises(BundleError, match="is not signed"):
        checks_before_loading(tmp_path / "plain", keys.with_name("key.pub"))


def test_what_is_no_bundle_is_told(tmp_path):
    with pytest.raises(BundleError, match="is not a bundle's folder: write one"):
        read_manifest(tmp_path / "nothing")
    (tmp_path / "bundle.zip").write_bytes(b"PK")
    with pytest.raises(BundleError, match="unpack it"):
        read_manifest(tmp_path / "bundle.zip")


def test_force_replaces_bundles_only(bundle, tmp_path):
    with pytest.raises(BundleError, match="add --force"):
        write_bundle(bundle, FILES, manifest_of(FILES))
    files = {**FILES, "vocabulary.txt": b"other\n"}
    write_bundle(bundle, files, manifest_of(files), force=True)
    assert (bundle / "vocabulary.txt").read_bytes() == b"other\n"
    assert not (bundle / "SIGNATURE").exists()  # nothing of the old one is left
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    for target in (precious, precious / "thesis.txt"):
        with pytest.raises(BundleError, match="not a bundle"):
            check_target(target, force=True)


def test_a_failure_half_way_leaves_what_was_there(bundle, monkeypatch):
    before = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    written = []

    def full_disk(path, content):
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr("edge.bundle.folder.write_atomically", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(bundle, FILES, manifest_of(FILES), force=True)
    assert {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in bundle.parent.iterdir()) == ["bundle", "key", "key.pub", "other", "other.pub"]


def test_reading_a_file_checks_its_digest(bundle):
    manifest, _ = read_manifest(bundle)
    assert read_file(bundle, manifest, "vocabulary.txt") == b"words\n"
    (bundle / "vocabulary.txt").write_bytes(b"wordz\n")
    with pytest.raises(BundleError, match="SHA-256 differs"):
        read_file(bundle, manifest, "vocabulary.txt")
    with pytest.raises(BundleError, match="has no nothing.txt"):
        read_file(bundle, manifest, "nothing.txt")


def test_a_key_is_for_its_owner_only_and_never_overwritten(keys):
    assert stat.S_IMODE(os.stat(keys).st_mode) == 0o600
    before = keys.read_bytes()
    with pytest.raises(BundleError, match="exists, and a key that is overwritten is lost"):
        generate_key(keys)
    assert keys.read_bytes() == before


def test_a_file_that_is_no_key_is_told(tmp_path, keys):
    wrong = tmp_path / "wrong"
    wrong.write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    for path, message in ((wrong, "holds no private key"), (keys.with_name("key.pub"), "holds no private key"),
                          (tmp_path / "nothing", "No such file")):  # fmt: skip
        with pytest.raises(BundleError, match=message):
            write_bundle(tmp_path / "bundle", FILES, manifest_of(FILES), path)
        assert not (tmp_path / "bundle").exists()


def test_a_changed_word_list_is_not_read(tmp_path):
    manifest = manifest_of(FILES)
    write_bundle(tmp_path / "b", FILES, manifest)
    (tmp_path / "b" / "vocabulary.txt").write_bytes(b"sword\n")
    with pytest.raises(BundleError, match="vocabulary.txt is not the file that was exported"):
        read_vocabulary(tmp_path / "b", manifest)


def test_a_key_may_go_into_a_new_folder(tmp_path):
    assert generate_key(tmp_path / "keys" / "release").read_text().startswith("-----BEGIN PUBLIC KEY-----")
