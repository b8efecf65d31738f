"""From a Keras file to a bundle on the command line: export, verify, benchmark, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from keras_families import family

from edge.bundle.keras_manifest import read_keras_manifest
from edge.bundle.keras_verification import verify_keras_bundle
from edge.bundle.manifest import read_manifest
from edge.errors import BundleError, ExportError
from orchestrator import api
from orchestrator.cli.commands import cli
from orchestrator.release.keras_export import KerasOptions

pytestmark = pytest.mark.slow


def fedkeys(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "mlp.keras"
    family("mlp").save(path)
    return path


@pytest.fixture(scope="module")
def key(source: Path) -> Path:
    assert fedkeys("keygen", source.parent / "key").exit_code == 0
    return source.parent / "key"


@pytest.fixture(scope="module")
def exported(source: Path, key: Path) -> tuple[Path, dict]:
    out = source.parent / "bundle"
    done = fedkeys("export", "--keras", source, "--out", out, "--key", key, "--batch-size", 4, "--json")
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout.splitlines()[-1])


def test_export_prints_what_it_wrote_and_verify_agrees(exported: tuple[Path, dict], key: Path) -> None:
    out, printed = exported
    assert printed["parity_max_abs_diff"] <= 1e-5
    assert (printed["num_weights"], printed["num_frozen"]) == (20 * 16 + 16 + 16 * 8 + 8 + 8 * 5 + 5, 0)
    for name, entry in printed["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == entry["sha256"]
    checked = fedkeys("verify", out, "--public-key", f"{key}.pub", "--json")
    assert json.loads(checked.stdout)["ok"], checked.output
    kinds = list(read_keras_manifest(out)[0].model.layers.values())
    assert kinds == ["Dense", "Dropout", "Dense", "Dense"]


def test_the_same_file_gives_the_same_bytes(exported: tuple[Path, dict], source: Path, tmp_path: Path) -> None:
    figures = api.export_keras(source, tmp_path / "again", KerasOptions(batch_size=4, parity=False))
    assert figures.files["train.tflite"].sha256 == exported[1]["files"]["train.tflite"]["sha256"]
    assert "UNPROVEN" in " ".join(check.detail for check in verify_keras_bundle(tmp_path / "again"))


def test_benchmark_times_the_bundle(exported: tuple[Path, dict]) -> None:
    figures = json.loads(fedkeys("benchmark", exported[0], "--runs", 5, "--json").stdout)
    assert [(row["batch"], row["threads"]) for row in figures["train_step_ms"]] == [(4, 1), (4, 2)]
    assert figures["bytes"]["update_raw"] == 4 * exported[1]["num_weights"]


def test_commands_for_next_word_models_say_whose_bundle_it_is(exported: tuple[Path, dict]) -> None:
    with pytest.raises(BundleError, match="holds a keras model, and this takes a next-word model's bundle"):
        read_manifest(exported[0])


def unsigned(exported: tuple[Path, dict], folder: Path, change: Callable[[dict, dict], None]) -> Path:
    """Copies the bundle without its signature, with files and manifest changed so that the digests fit."""
    manifest = json.loads((exported[0] / "manifest.json").read_bytes())
    files = {name: (exported[0] / name).read_bytes() for name in manifest["files"]}
    change(files, manifest)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def another_result(files: dict, manifest: dict) -> None:
    weights = np.frombuffer(files["golden/weights_after.bin"], "<f4").copy()
    weights[0] += 1e-3
    files["golden/weights_after.bin"] = weights.tobytes()


def another_model(files: dict, manifest: dict) -> None:
    manifest["model"]["weights_sha256"] = "0" * 64


def a_cut_batch(files: dict, manifest: dict) -> None:
    files["golden/batches.bin"] = files["golden/batches.bin"][:-4]


def a_free_shape(files: dict, manifest: dict) -> None:
    manifest["signatures"]["train.tflite"]["train"]["inputs"][0]["shape"] = [-1, 20]


def no_train(files: dict, manifest: dict) -> None:
    del manifest["signatures"]["train.tflite"]["train"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_result, "the golden batch comes out"),
        (another_model, "certifies other weights"),
        (a_cut_batch, "a batch has"),
        (a_free_shape, "describes no train signature of fixed shapes"),
        (no_train, "describes no train signature"),
    ],
)
def test_verify_finds_a_fault(exported: tuple[Path, dict], tmp_path: Path, change: Callable, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        list(verify_keras_bundle(unsigned(exported, tmp_path / "bundle", change)))


def test_what_is_refused_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(source.read_bytes()[:500])
    for given, reason in (
        (["--keras", tmp_path / "broken.keras"], "cut off or damaged"),
        (["--keras", source, "--loss", "poisson"], "the loss poisson can't be exported"),
        (["--keras", source, "--lora", 9], "take at most 8"),
    ):
        done = fedkeys("export", *given, "--out", tmp_path / "out")
        assert isinstance(done.exception, ExportError)
        assert done.exception.exit_code == 2
        assert reason in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.keras"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((), "give either --run DIR or --keras FILE"),
        (("--run", "run", "--keras", "a.keras"), "give either --run DIR or --keras FILE"),
        (("--keras", "a.keras", "--round", "3"), "--round goes with --run"),
        (("--run", "run", "--lora", "2"), "--lora goes with --keras FILE"),
    ],
)
def test_options_of_the_other_kind_of_model_are_refused(given: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    done = fedkeys("export", *given, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert reason in done.output
