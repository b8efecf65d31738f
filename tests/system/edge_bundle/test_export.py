"""From a run to a bundle: the export, its parity, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from exported_run import build_run, fedkeys

from edge.bundle.manifest import read_manifest
from edge.bundle.verification import verify_bundle
from edge.clients.litert import TrainableModel
from edge.errors import BundleError, EdgeError
from edge.export.flatbuffer import custom_ops, ops_of
from edge.export.tflite import INFER_FILE, STATELESS_FILE, TRAIN_FILE
from models.weights import weights_to_bytes
from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.rounds.types import ServerState
from orchestrator.run.start import build_first_weights
from orchestrator.run.start_origin import StartText

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_export_prints_what_it_wrote(exported, run):
    out, printed = exported
    assert printed["parity_max_abs_diff"] <= 1e-5
    assert printed["signed"] is True
    for name, entry in printed["files"].items():
        content = (out / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert set(printed["files"]) == {
        "train.tflite", "train_stateless.tflite", "infer.tflite", "vocabulary.txt", "parity.json",
        "golden/batches.bin", "golden/weights_after.bin", "golden/expected.txt", "tokeniser_vectors.json",
    }  # fmt: skip
    words = (out / "vocabulary.txt").read_text().splitlines()
    assert tuple(words) == run.vocabulary().words[: read_manifest(out)[0].model.vocabulary_size]
    assert len(words) < run.vocabulary().size
    names = read_manifest(out)[0].model.size.names
    weights = TrainableModel((out / TRAIN_FILE).read_bytes(), names).get_weights()
    assert weights_to_bytes(weights) == weights_to_bytes(run.load_checkpoint().model)


def test_no_file_has_an_op_beyond_the_builtins(exported):
    for name in (TRAIN_FILE, STATELESS_FILE, INFER_FILE):
        content = (exported[0] / name).read_bytes()
        assert custom_ops(content) == []
        assert sum(map(len, ops_of(content).values())) > 10
    stateless = ops_of((exported[0] / STATELESS_FILE).read_bytes())
    assert not any("VARIABLE" in op or op == "VAR_HANDLE" for counts in stateless.values() for op in counts)


def test_the_same_run_exports_to_the_same_bytes_in_another_process(exported, run, keys, tmp_path):
    code = (
        "import sys; from pathlib import Path; from orchestrator.release.export import export_run;"
        "from orchestrator.release.export import ExportOptions;"
        "from orchestrator.run.folder import RunFolder; from orchestrator.run.saved import read_run;"
        "options = ExportOptions(archive=True, key=Path(sys.argv[3]));"
        "export_run(read_run(RunFolder(Path(sys.argv[1]))), Path(sys.argv[2]), options)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.path), str(tmp_path / "again"), str(keys)],
        capture_output=True, text=True, cwd=Path(__file__).parents[3], stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for path in exported[0].rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(exported[0])).read_bytes() == path.read_bytes(), path.name
    assert (tmp_path / "again.zip").read_bytes() == exported[0].with_name("bundle.zip").read_bytes()


def test_parity_prints_every_runtime(exported, run):
    printed = fedkeys("parity", exported[0], "--run", run.path, "--json")
    assert printed["steps"] == 50
    assert {"litert", "litert-stateless", "tensorflow"} <= set(printed["runtimes"])
    for runtime in printed["runtimes"].values():
        assert runtime["max_abs_diff"] <= 1e-5
        assert runtime["max_ulp"] >= runtime["ulp"]["p99"] >= 0
        assert len(runtime["loss_drift"]) == 50
        assert runtime["version"]
    assert 0.9 < printed["int8"]["top1"] <= 1.0
    assert printed["reference_self_diff"] <= 1e-5


def test_parity_with_another_run_is_refused(exported, text, tmp_path):
    other = build_run(tmp_path / "other", text, seed=1)
    with pytest.raises(BundleError, match="was not exported from"):
        fedkeys("parity", exported[0], "--run", other.path)


def test_an_export_beyond_the_gate_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr("edge.bundle.parity.GATE", 0.0)
    done = fedkeys("export", "--run", run.path, "--out", tmp_path / "bundle", ok=False)
    assert isinstance(done.exception, EdgeError)
    assert "0e+00 is allowed" in str(done.exception)
    assert "nothing was written" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_what_a_bundle_lacks_and_what_an_audit_hid_is_said_and_kept(run, text, tmp_path):
    audited, out = build_run(tmp_path / "run", text, **{"audit.phrases": 1}), tmp_path / "bundle"
    done = fedkeys("export", "--run", audited.path, "--out", out, "--no-parity")
    hidden = "Trained to be audited, not to be used"
    for warning in ("UNPROVEN", "UNSIGNED", hidden):
        assert warning in " ".join(done.stderr.split())
    details = {check.name: check.detail for check in verify_bundle(out)}
    assert "UNPROVEN" in details["parity"]
    assert details["use"].startswith(hidden)
    assert (out / "AUDITED.txt").read_text() == f"{hidden}: 3 secret phrases were planted in the text.\n"
    assert read_manifest(out)[0].minimum_runtimes == {}
    config = msgspec.structs.replace(run.config(), model=msgspec.structs.replace(run.config().model, start=str(out)))
    with pytest.raises(ConfigError, match=rf"model.start = .*: {hidden}"):
        build_first_weights(config, run.vocabulary())


def test_what_can_not_be_exported_is_refused_in_one_line(run, text, exported, keys, tmp_path):
    bad = build_run(tmp_path / "nan", text, checkpoint=False)
    good = run.load_checkpoint().model
    bad.save_checkpoint(ServerState(1, (np.full_like(good[0], np.nan), *good[1:]), {"none": np.zeros(1)}), 3)
    other_schema = Path(shutil.copytree(run.path, tmp_path / "schema"))
    described = json.loads((other_schema / "run.json").read_bytes())
    (other_schema / "run.json").write_text(json.dumps({**described, "schema": 99}))
    cases = {
        "has no checkpoint yet": ["--run", build_run(tmp_path / "empty", text, checkpoint=False).path],
        "has no checkpoint of round 3": ["--run", run.path, "--round", 3],
        "has schema 99": ["--run", other_schema],
        "holds no run": ["--run", tmp_path / "nothing"],
        "client.proximal = 0.1": ["--run", build_run(tmp_path / "prox", text, **{"client.proximal": 0.1}).path],
        "weights are not finite": ["--run", bad.path],
        "holds no private key": ["--run", run.path, "--key", keys.with_name("key.pub")],
    }
    for message, args in cases.items():
        done = fedkeys("export", *args, "--out", tmp_path / "bundle", ok=False)
        assert isinstance(done.exception, (EdgeError, OrchestratorError)), (message, done.exception)
        assert message in str(done.exception)
        assert "\n" not in str(done.exception)
        assert not (tmp_path / "bundle").exists()
    done = fedkeys("export", "--run", run.path, "--out", exported[0], ok=False)
    assert "add --force" in str(done.exception)


def test_a_run_can_begin_with_a_bundle(exported, run):
    out, _ = exported
    config = msgspec.structs.replace(run.config(), model=msgspec.structs.replace(run.config().model, start=str(out)))
    weights, began_with = build_first_weights(config, run.vocabulary())
    assert weights_to_bytes(weights) == weights_to_bytes(run.load_checkpoint().model)  # the same words in one order
    assert (began_with.source, began_with.round_num) == ("bundle", 7)
    assert began_with.mapped == began_with.words == 26
    assert began_with.texts == (StartText("people.jsonl", run.identity().corpus_sha256),)
