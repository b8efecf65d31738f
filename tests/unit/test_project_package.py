"""The locks, and what the package needs and holds."""

from __future__ import annotations

import configparser
import fnmatch
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"
RUNTIME_LOCKS = ["py3.9.lock", "py3.10.lock", "py3.11.lock"]
TOOL_LOCKS = ["lint.lock", "docs.lock", "mutants.lock", "uv.lock"]


def _pins(lock: str) -> dict[str, str]:
    """Returns {package: version} of a lock."""
    text = (REQUIREMENTS / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", [*RUNTIME_LOCKS, *TOOL_LOCKS])
def test_every_line_of_a_lock_is_a_pin_or_a_hash_and_none_an_address(lock: str) -> None:
    lines = (REQUIREMENTS / lock).read_text(encoding="utf-8").splitlines()
    pin = re.compile(r"[a-z0-9._-]+==[^ ]+( ; [A-Za-z0-9_ <>=!*'.()]+)? \\")
    digest = re.compile(r" +--hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not pin.fullmatch(line) and not digest.fullmatch(line)] == []
    for line, following in zip(lines, [*lines[1:], "end=="]):
        assert line.endswith("\\") == bool(digest.fullmatch(following))


@pytest.mark.parametrize("lock", RUNTIME_LOCKS)
def test_a_lock_holds_what_was_asked_for_and_the_overrides(lock: str) -> None:
    pins = _pins(lock)
    assert pins["tensorflow-federated"] == "0.87.0"
    overrides = re.findall(r"^([a-z-]+)==(.+)$", (REQUIREMENTS / "overrides.txt").read_text(), re.MULTILINE)
    assert {"jax", "jaxlib", "typing-extensions"} == {name for name, _ in overrides}
    assert all(pins[name] == version for name, version in overrides)
    python = lock[2:-5]
    for source in ("runtime.in", "dev.in"):
        for line in (REQUIREMENTS / source).read_text().splitlines():
            if not line.startswith("#"):
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                    assert requirement.specifier.contains(pins[requirement.name])


def test_the_package_says_what_it_needs_and_none_of_the_strangers_of_its_folders_names() -> None:
    package = importlib.metadata.distribution("fedkeys")
    needs = {re.split(r"[^a-z0-9-]", need)[0] for need in package.requires or [] if "extra ==" not in need}
    assert {"tensorflow-federated", "msgspec", "click"} <= needs
    assert not needs & {"models", "edge", "orchestrator", "pytest"}
    assert set(package.metadata["Requires-Python"].split(",")) == {">=3.9", "<3.12"}


def _call(script: Path, place: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script in a folder that holds a stranger's packages, which are first on PYTHONPATH, too."""
    for name in ("models", "edge", "orchestrator", "tff_pipelines"):
        (place / name).mkdir(exist_ok=True)
        (place / name / "__init__.py").write_text("raise RuntimeError('a stranger')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}
    return subprocess.run(
        [sys.executable, script, "config"], cwd=place, env=environment, capture_output=True, text=True, check=False
    )


def test_the_command_line_imports_its_own_packages_whatever_else_has_their_names(tmp_path: Path) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    assert settings["options.entry_points"]["console_scripts"].strip() == "fedkeys = fedkeys:main"
    assert settings["options"]["py_modules"] == "fedkeys"
    script = tmp_path / "bin" / "fedkeys"
    script.parent.mkdir()
    script.write_text("import sys\nfrom fedkeys import main\nsys.exit(main())\n")  # as pip writes it
    (tmp_path / "place").mkdir()
    done = _call(script, tmp_path / "place")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# ")
    assert "[rounds]" in done.stdout


def test_a_script_that_finds_a_stranger_s_package_is_told_which(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    stranger = tmp_path / "models"
    stranger.mkdir()
    (stranger / "__init__.py").write_text("")
    script.write_text("from orchestrator import api\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"ImportError: fedkeys needs its own package models, and Python finds {stranger} first: ")


def _is_named(path: str, pattern: str) -> bool:
    """Returns whether setuptools takes a file for one that the pattern names: a star goes over no slash."""
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def test_a_wheel_holds_every_file_of_the_packages() -> None:
    """What is no module is named in package_data: templates, tables, the C client's source, py.typed.

    Of the browser client a wheel holds only what `make web` builds.
    """
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    package_data = settings["options.package_data"]
    found = []
    for top in ("models", "tff_pipelines", "edge", "orchestrator"):
        for path in (ROOT / top).rglob("*"):
            if (
                path.is_dir()
                or path.suffix in (".py", ".pyc")
                or path.name.startswith(".")
                or not {"build", "web"}.isdisjoint(path.relative_to(ROOT).parts)
            ):
                continue
            package = next(folder for folder in path.parents if (folder / "__init__.py").exists())
            patterns = [package_data.get(".".join(package.relative_to(ROOT).parts), ""), package_data["*"]]
            inside = path.relative_to(package).as_posix()
            assert any(_is_named(inside, pattern) for pattern in re.split(r"[,\s]+", " ".join(patterns))), inside
            found.append(inside)
    assert {"py.typed", "c/Makefile", "c/client.c", "c/fedkeys.h", "device_table.json"} <= set(found)


@pytest.mark.slow
def test_tensorboard_reads_event_files(tmp_path: Path) -> None:
    """It imports pkg_resources, which newer versions of setuptools do not have."""
    import tensorflow as tf

    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        for step in (3, 8):
            tf.summary.scalar("loss", 0.5, step=step)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--inspect"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"first_step +3\n +last_step +8\n", done.stdout)
