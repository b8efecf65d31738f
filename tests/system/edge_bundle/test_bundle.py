"""From a run to a bundle and what is done with it: export, proof, damage, a device's update, rounds, benchmark."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge.bundle.manifest import read_manifest
from edge.bundle.verification import verify_bundle
from edge.clients.files import BATCHES_MAGIC, read_update
from edge.clients.litert import TrainableModel
from edge.errors import BundleError, EdgeError
from edge.export.flatbuffer import custom_ops, ops_of
from edge.export.tflite import INFER_FILE, STATELESS_FILE, TRAIN_FILE
from models.weights import ModelSize, weights_to_bytes
from orchestrator.cli.commands import cli
from orchestrator.errors import OrchestratorError
from orchestrator.rounds.build import model_size
from orchestrator.rounds.types import ServerState
from orchestrator.run.data import load_client_data
from orchestrator.run.folder import RunFolder, build_identity
from orchestrator.settings.files import read_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = {
    "data.vocabulary_size": 120,
    "model.vocabulary_size": 30,
    "model.embedding_size": 8,
    "model.num_cells": 12,
    "rounds.cohort_size": 10,
    "client.learning_rate": 0.5,
    "runtime.workers": "1",
}


def fedkeys(*args, ok: bool = True):
    """The result of a command; its standard output as JSON where it printed any."""
    done = CliRunner().invoke(cli, [str(a) for a in args])
    if ok and done.exception is not None:
        raise done.exception
    return json.loads(done.stdout) if ok and "--json" in args else done


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("text") / "people.jsonl"
    things = ["dog", "cat", "house", "friend", "class", "game"]
    lines = []
    for person in range(30):
        for place in range(24):
            thing = rng.choice(things)
            sentence = rng.choice([f"i like my {thing}", f"do you like my {thing}", f"see you at {thing}", "i know"])
            lines.append({"client_id": f"p{person:02}", "text": f"{sentence} word{person}", "timestamp": place})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def build_run(path: Path, text: Path, weights=None, checkpoint=True, **settings) -> RunFolder:
    """A run folder as training leaves it, with weights that were drawn."""
    config = read_config(preset="smoke", overrides={**SETTINGS, "data.source": str(text), **settings})
    corpus, data = load_client_data(config)
    size = model_size(config.model, data.vocabulary.size)
    folder = RunFolder(path)
    folder.create(config, data.vocabulary, build_identity(config, corpus, data.vocabulary, size.num_weights))
    if checkpoint:
        rng = np.random.default_rng(0)
        drawn = tuple((0.3 * rng.standard_normal(shape)).astype(np.float32) for shape in size.shapes)
        folder.save_checkpoint(ServerState(7, weights or drawn, {"none": np.zeros(1)}), 3)
    return folder


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> RunFolder:
    return build_run(tmp_path_factory.mktemp("runs") / "run", text)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    fedkeys("keygen", path)
    fedkeys("keygen", path.with_name("other"))
    return path


@pytest.fixture(scope="module")
def exported(run, keys, tmp_path_factory):
    """A bundle and what `fedkeys export --json` printed."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    return out, fedkeys("export", "--run", run.path, "--out", out, "--key", keys, "--zip", "--json")


@pytest.fixture
def bundle(exported, tmp_path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(exported[0], tmp_path / "bundle"))


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


def test_export_prints_what_it_wrote(exported, run):
    out, printed = exported
    assert printed["parity_max_abs_diff"] <= 1e-5
    assert printed["signed"] is True
    for name, entry in printed["files"].items():
        content = (out / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert set(printed["files"]) == {
        "train.tflite", "train_stateless.tflite", "infer.tflite", "vocabulary.txt", "parity.json",
        "golden/batches.bin", "golden/weights_after.bin", "golden/expected.txt",
    }  # fmt: skip
    words = (out / "vocabulary.txt").read_text().splitlines()
    assert tuple(words) == run.vocabulary().words[: read_manifest(out)[0].model.vocabulary_size]
    assert len(words) < run.vocabulary().size
    weights = TrainableModel((out / TRAIN_FILE).read_bytes()).get_weights()
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


def test_verify_checks_all_and_loads_no_tensorflow(exported, keys):
    printed = fedkeys("verify", exported[0], "--public-key", keys.with_name("key.pub"), "--json")
    assert printed["ok"] is True
    assert [check["name"] for check in printed["checks"]] == [
        "manifest", "signature", "files", "digests", "model", "parity", "golden batch",
    ]  # fmt: skip
    code = (
        "import sys; from pathlib import Path; from edge.bundle.verification import verify_bundle;"
        "list(verify_bundle(Path(sys.argv[1]))); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(exported[0])], check=True, cwd=Path(__file__).parents[3])


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


def test_verify_prints_the_fault_as_json_too(bundle):
    (bundle / INFER_FILE).unlink()
    done = CliRunner().invoke(cli, ["verify", str(bundle), "--json"])
    assert done.exit_code == 2
    printed = json.loads(done.stdout)
    assert printed["ok"] is False
    assert "infer.tflite is missing" in printed["checks"][-1]["detail"]


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


def test_without_parity_a_bundle_says_so(run, tmp_path):
    done = fedkeys("export", "--run", run.path, "--out", tmp_path / "bundle", "--no-parity")
    assert "UNPROVEN" in done.stderr
    assert "UNSIGNED" in done.stderr
    details = {check.name: check.detail for check in verify_bundle(tmp_path / "bundle")}
    assert "UNPROVEN" in details["parity"]
    assert read_manifest(tmp_path / "bundle")[0].minimum_runtimes == {}


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


# ---- a device's part of a round


@pytest.fixture(scope="module")
def text_of_one(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("device") / "messages.txt"
    path.write_text("I like my dog. Do you like my cat?\nSee you at house!\n\ni know\n" * 10)
    return path


@pytest.mark.parametrize("client", ["python", "c"])
def test_a_device_makes_its_update(exported, run, text_of_one, client, tmp_path):
    from edge.clients.c_client import why_not

    if client == "c" and why_not():
        pytest.skip(why_not())
    out, kept = tmp_path / "update", tmp_path / "batches"
    args = ["device-update", exported[0], "--data", text_of_one, "--out", out, "--client", client, "--json"]
    printed = fedkeys(*args, "--seed", 5, "--save-batches", kept)
    assert kept.read_bytes().startswith(BATCHES_MAGIC)
    assert printed["num_examples"] == 40
    weights = run.load_checkpoint().model
    update = read_update(out, weights)
    assert (update["num_examples"], update["num_tokens"]) == (printed["num_examples"], printed["num_tokens"])
    # The same from the kept batches, and from weights that came beside the bundle.
    (tmp_path / "weights").write_bytes(weights_to_bytes(weights))
    again = fedkeys(*args[:3], kept, *args[4:], "--weights", tmp_path / "weights")
    assert again == printed
    for mine, theirs in zip(read_update(out, weights)["delta"], update["delta"]):
        np.testing.assert_array_equal(mine, theirs)


def test_python_and_c_make_the_same_update(exported, run, text_of_one, tmp_path):
    from edge.clients.c_client import why_not

    if why_not():
        pytest.skip(why_not())
    for client in ("python", "c"):
        fedkeys("device-update", exported[0], "--data", text_of_one, "--out", tmp_path / client, "--client", client,
                "--seed", 5)  # fmt: skip
    mine, theirs = (read_update(tmp_path / name, run.load_checkpoint().model) for name in ("python", "c"))
    for a, b in zip(mine["delta"], theirs["delta"]):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_bad_input_of_a_device_is_refused(exported, text_of_one, tmp_path):
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "short").write_bytes(bytes(10))
    (tmp_path / "cut").write_bytes(BATCHES_MAGIC + bytes(9))
    cases = {
        "holds no words": ["--data", tmp_path / "empty"],
        "not UTF-8": ["--data", tmp_path / "binary"],
        "must begin with FKBATCH1": ["--data", tmp_path / "cut"],
        "No such file": ["--data", tmp_path / "nothing"],
        "has 10 bytes": ["--data", text_of_one, "--weights", tmp_path / "short"],
        "--learning-rate must be above 0": ["--data", text_of_one, "--learning-rate", "nan"],
        "not finite": ["--data", text_of_one, "--learning-rate", "1e30"],
    }
    for message, args in cases.items():
        done = fedkeys("device-update", exported[0], *args, "--out", tmp_path / "update", ok=False)
        assert isinstance(done.exception, EdgeError), (message, done.exception)
        assert message in str(done.exception)
        assert not (tmp_path / "update").exists()


# ---- a round


def test_a_round_takes_updates_that_devices_wrote(exported, run, text_of_one, tmp_path):
    from models.corpus import ClientId
    from orchestrator.aggregator import Cohort, PlainSum
    from orchestrator.encoding import Encoder
    from orchestrator.rounds.round import run_round
    from orchestrator.rounds.types import RoundFunctions
    from orchestrator.run.loop import WallClock

    weights = run.load_checkpoint().model
    paths = []
    for device in range(3):
        paths.append(tmp_path / f"update{device}")
        fedkeys("device-update", exported[0], "--data", text_of_one, "--out", paths[-1], "--seed", device)

    def train_clients(weights, learning_rate, seed, batches):
        # In a round over a network the batches stay on the devices; here they only count the members at work.
        return (read_update(path, weights) for _, path in zip(batches, paths))

    from models.batches import build_batches

    one = build_batches([np.array([5])], batch_size=1, time=4)
    functions = RoundFunctions(
        batches_of=lambda person, rng: one,
        train_clients=train_clients,
        weight_of=lambda update: update.num_tokens,
        encoder=Encoder(clip_norm=30.0, num_clients=3, max_weight=5000, shapes=ModelSize.of(weights).shapes),
        aggregator=PlainSum(),
        update_server=lambda state, before, mean, rate: (state, tuple(b - rate * m for b, m in zip(before, mean))),
    )
    cohort = Cohort(8, tuple(ClientId(f"d{i}") for i in range(3)))
    state, report = run_round(
        ServerState(7, weights, ()), cohort, functions,
        seed=0, client_learning_rate=0.5, server_learning_rate=1.0, stopwatch=WallClock(),
    )  # fmt: skip
    assert report.survivors == cohort.members
    updates = [read_update(path, weights) for path in paths]
    total = sum(update["num_tokens"] for update in updates)
    assert report.metrics["num_tokens"] == total
    for place, (after, before) in enumerate(zip(state.weights, weights)):
        mean = sum(update["delta"][place] * (update["num_tokens"] / total) for update in updates)
        np.testing.assert_allclose(before - after, mean, atol=1e-5)


# ---- benchmark


def test_benchmark_prints_its_fields(exported, tmp_path):
    plot = tmp_path / "plot.png"
    printed = fedkeys("benchmark", exported[0], "--batch", 1, "--batch", 3, "--runs", 5, "--plot", plot, "--json")
    assert {
        "train_step_ms",
        "key_stroke_ms",
        "load_ms",
        "peak_rss_mib",
        "bytes",
        "arithmetic_limit_ms",
        "machine",
    } <= set(printed)
    rows = {(row["runtime"], row["batch"], row["threads"]): row for row in printed["train_step_ms"]}
    for batch in (1, 3):
        for threads in (1, 2):
            for runtime in ("litert", "tensorflow", "tensorflow, own gradient"):
                row = rows[runtime, batch, threads]
                assert 0 < row["p50"] <= row["p90"] <= row["p99"]
                assert (row["runs"], row["warm_up"]) == (5, 3)
        assert printed["arithmetic_limit_ms"][str(batch)] > 0
    assert {(row["model"], row["threads"]) for row in printed["key_stroke_ms"]} == {
        (model, threads) for model in (INFER_FILE, TRAIN_FILE) for threads in (1, 2)
    }
    num_weights = read_manifest(exported[0])[0].model.size.num_weights
    assert printed["bytes"]["update_raw"] == 4 * num_weights
    assert printed["bytes"]["update_encoded"] == 4 * (num_weights + 1)
    assert printed["bytes"][INFER_FILE] == (exported[0] / INFER_FILE).stat().st_size
    assert 10 < printed["peak_rss_mib"] < 1000
    assert printed["load_ms"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")
