"""What `fedkeys verify` checks, and which faults it finds though the signature fits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from exported_run import fedkeys

from edge.bundle.verification import verify_bundle
from edge.errors import BundleError
from edge.export import tflite
from edge.export.tflite import FIXED_SIGNATURE, INFER_FILE, TRAIN_FILE
from models.model import load_model
from models.weights import ModelSize
from orchestrator.cli.commands import cli
from orchestrator.release import export
from orchestrator.release.export import ExportOptions, export_run
from orchestrator.run.saved import read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def rewrite(bundle: Path, change, keys: Path) -> None:
    """Changes files as somebody with the key could: manifest and signature fit again."""
    from edge.bundle.folder import file_entries
    from edge.bundle.signing import sign

    manifest = json.loads((bundle / "manifest.json").read_bytes())
    files = {name: (bundle / name).read_bytes() for name in manifest["files"]}
    change(files, manifest)
    for name, content in files.items():
        (bundle / name).write_bytes(content)
    manifest["files"] = {n: {"bytes": e.bytes, "sha256": e.sha256} for n, e in file_entries(files).items()}
    raw = json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(raw)
    (bundle / "SIGNATURE").write_bytes(sign(raw, keys))


def test_verify_checks_all_and_loads_no_tensorflow(exported, keys):
    printed = fedkeys("verify", exported[0], "--public-key", keys.with_name("key.pub"), "--json")
    assert printed["ok"] is True
    assert [check["name"] for check in printed["checks"]] == [
        "manifest", "signature", "files", "digests", "model", "tokeniser", "parity", "golden batch", "key stroke",
    ]  # fmt: skip
    code = (
        "import sys; from pathlib import Path; from edge.bundle.verification import verify_bundle;"
        "list(verify_bundle(Path(sys.argv[1]))); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(exported[0])], check=True, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize("has_fixed", [False, True])
def test_a_bundle_of_before_without_the_fixed_signatures_is_verified(run, tmp_path, monkeypatch, has_fixed):
    def of_before(size, time, batch_size, shapes=None):
        found = signatures(size, time, batch_size, ())
        if not has_fixed:
            del found[TRAIN_FILE][FIXED_SIGNATURE]
        return found

    signatures = tflite.signatures
    with monkeypatch.context() as patch:
        patch.setattr(tflite, "signatures", of_before)
        patch.setattr(export, "signatures", of_before)
        export_run(read_run(run), tmp_path / "bundle", ExportOptions(parity=False))
    assert all(check.ok or check.name == "parity" for check in verify_bundle(tmp_path / "bundle"))


def nudge_golden(files, manifest):
    after = np.frombuffer(files["golden/weights_after.bin"], "<f4").copy()
    after[5] += 1e-3
    files["golden/weights_after.bin"] = after.tobytes()


def nan_golden(files, manifest):
    after = np.frombuffer(files["golden/weights_after.bin"], "<f4").copy()
    after[-1] = np.nan
    files["golden/weights_after.bin"] = after.tobytes()


def other_weights(files, manifest):
    manifest["run"]["weights_sha256"] = "0" * 64


def swapped_models(files, manifest):
    files[INFER_FILE] = files[TRAIN_FILE]


def broken_model(files, manifest):
    files[INFER_FILE] = b"\x1c\0\0\0TFL3" + bytes(64)


def nan_suggestions(files, manifest):
    model = manifest["model"]
    size = ModelSize(model["vocabulary_size"], model["embedding_size"], model["num_cells"])
    *others, output_bias = load_model(size).initial_weights(0)
    files[INFER_FILE] = tflite.build_infer_file(size, (*others, np.full_like(output_bias, np.nan)))


def fewer_words(files, manifest):
    files["vocabulary.txt"] = b"\n".join(files["vocabulary.txt"].split(b"\n")[:-2]) + b"\n"


def other_signatures(files, manifest):
    manifest["signatures"][TRAIN_FILE]["train"]["inputs"][0]["dtype"] = "int64"


def failed_certificate(files, manifest):
    certificate = json.loads(files["parity.json"])
    certificate["runtimes"]["litert"]["max_abs_diff"] = 1.0
    files["parity.json"] = json.dumps(certificate).encode()


def loose_certificate(files, manifest):
    failed_certificate(files, manifest)
    certificate = json.loads(files["parity.json"])
    files["parity.json"] = json.dumps({**certificate, "gate": 1e300}).encode()


def loose_golden(files, manifest):
    nudge_golden(files, manifest)
    files["golden/expected.txt"] = files["golden/expected.txt"].replace(b"tolerance 1e-05", b"tolerance inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (loose_certificate, "parity.json allows a difference of 1e+300"),
        (loose_golden, "golden/expected.txt allows a difference of inf"),
        (nudge_golden, "the golden batch comes out 1.0e-03 off"),
        (nan_golden, "the golden batch comes out nan off"),
        (other_weights, "certifies other weights"),
        (swapped_models, "infer.tflite has other signatures"),
        (broken_model, "infer.tflite can't be loaded"),
        (nan_suggestions, "infer.tflite proposes no words, or with no probabilities"),
        (fewer_words, "words, the model"),
        (other_signatures, "describes other signatures"),
        (failed_certificate, "differs from TFF's training"),
    ],
)
def test_what_a_signature_does_not_show_is_found(bundle, keys, change, message):
    rewrite(bundle, change, keys)
    with pytest.raises(BundleError) as refusal:
        list(verify_bundle(bundle))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_device_trains_on_no_bundle_whose_golden_batch_fails(bundle, keys, text_of_one, tmp_path):
    rewrite(bundle, nudge_golden, keys)
    done = fedkeys("device-update", bundle, "--data", text_of_one, "--out", tmp_path / "update", ok=False)
    assert "the golden batch comes out 1.0e-03 off" in str(done.exception)
    assert not (tmp_path / "update").exists()


def test_verify_prints_the_fault_as_json_too(bundle):
    (bundle / INFER_FILE).unlink()
    done = CliRunner().invoke(cli, ["verify", str(bundle), "--json"])
    assert done.exit_code == 2
    printed = json.loads(done.stdout)
    assert printed["ok"] is False
    assert "infer.tflite is missing" in printed["checks"][-1]["detail"]
