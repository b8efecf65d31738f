"""The set-up itself: the locks, which Python is taken or refused, and that each step is done once."""

from __future__ import annotations

import configparser
import fnmatch
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Optional

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


# --- the locks


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
    overrides = re.findall(r"^([a-z]+)==(.+)$", (REQUIREMENTS / "overrides.txt").read_text(), re.MULTILINE)
    assert {"jax", "jaxlib"} == {name for name, _ in overrides}
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
    assert {script.value for script in package.entry_points if script.name == "fedkeys"} == {
        "orchestrator.cli.app:main"
    }


def test_a_wheel_holds_every_file_of_the_packages() -> None:
    """What is no module is named in package_data: templates, tables, the C client's source, py.typed."""
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
                or "build" in path.relative_to(ROOT).parts
            ):
                continue
            package = next(folder for folder in path.parents if (folder / "__init__.py").exists())
            patterns = [package_data.get(".".join(package.relative_to(ROOT).parts), ""), package_data["*"]]
            inside = path.relative_to(package).as_posix()
            assert any(fnmatch.fnmatchcase(inside, pattern) for pattern in re.split(r"[,\s]+", " ".join(patterns)))
            found.append(inside)
    assert {"py.typed", "c/Makefile", "c/client.c", "c/model.h", "device_table.json"} <= set(found)


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


# --- which Python


def _program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _real_python(path: Path, environment: str = "") -> None:
    _program(path, f'{environment} exec "{sys.executable}" "$@"')


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Returns a folder that holds the set-up's own files only, so that no test writes into this checkout."""
    folder = tmp_path / "project"
    (folder / "scripts").mkdir(parents=True)
    (folder / "requirements").mkdir()
    shutil.copy(ROOT / "scripts/setup.sh", folder / "scripts")
    shutil.copy(REQUIREMENTS / "uv.lock", folder / "requirements")
    return folder


def _choose(project: Path, bin_dir: Path, python: Optional[str] = None) -> subprocess.CompletedProcess[str]:
    """Returns what `setup.sh python` does where only bin_dir is on the PATH."""
    for program in ("dirname", "rm"):
        if not (bin_dir / program).exists():
            (bin_dir / program).symlink_to(str(shutil.which(program)))
    environment = {"PATH": str(bin_dir), **({"PYTHON": python} if python else {})}
    command = [str(shutil.which("bash")), str(project / "scripts/setup.sh"), "python"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _assert_refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    refusal = done.stderr.splitlines()[-1]
    assert reason in refusal
    assert "needs Python 3.11 (or 3.10, 3.9)" in refusal
    assert "apt install python3.11 python3.11-venv" in refusal
    assert "pyenv install 3.11" in refusal


def _fake_uv(path: Path, body: str) -> None:
    """Makes a uv that has a version, and does `body` when it is to install a Python."""
    _program(path, f'[ "$1" != --version ] || exit 0\n[ "$*" = "python install --no-bin 3.11" ] || exit 9\n{body}')


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """Returns the folder of the programs of a machine, none so far."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14", "3.8", "2.7", "4.0"])
def test_a_python_that_tff_forbids_is_refused_where_uv_can_not_be_had(
    version: str, project: Path, bin_dir: Path
) -> None:
    _program(bin_dir / "python3", f'[ "$1" = -c ] || exit 1\necho {version}')
    done = _choose(project, bin_dir)
    _assert_refused(done, f"but python3 is Python {version}, and uv could not get one")
    assert done.stderr.splitlines()[0].startswith(
        f"setup: needs Python 3.9 to 3.11, but python3 is Python {version}: getting Python 3.11 with uv"
    )


def test_no_python_at_all_is_refused_where_uv_can_not_be_had(project: Path, bin_dir: Path) -> None:
    _assert_refused(_choose(project, bin_dir), "there is no Python on the PATH, and uv could not get one")


def test_uv_gets_a_python_where_there_is_none_that_works(project: Path, bin_dir: Path, tmp_path: Path) -> None:
    _program(bin_dir / "python3", "echo 3.14")
    _real_python(tmp_path / "real")
    folder = "$UV_PYTHON_INSTALL_DIR/cpython-3.11.9-linux/bin"
    programs = {name: shutil.which(name) for name in ("mkdir", "cp")}
    copy = f"{programs['mkdir']} -p {folder}\n{programs['cp']} {tmp_path}/real {folder}/python3.11"
    _fake_uv(bin_dir / "uv", copy)
    first = _choose(project, bin_dir)
    assert first.stdout == f"{project}/.uv/python/cpython-3.11.9-linux/bin/python3.11\n"
    assert "getting Python 3.11 with uv" in first.stderr
    assert len(first.stderr.splitlines()) == 1

    # It is got once.
    _fake_uv(bin_dir / "uv", "exit 1")
    again = _choose(project, bin_dir)
    assert (again.stdout, again.stderr) == (first.stdout, "")


def test_what_uv_says_is_shown_where_it_gets_no_python(project: Path, bin_dir: Path) -> None:
    _fake_uv(bin_dir / "uv", "echo 'error: no route to host' >&2\nexit 1")
    done = _choose(project, bin_dir)
    assert "error: no route to host" in done.stderr
    _assert_refused(done, "uv could not get one")


def test_a_python_without_venv_is_refused(project: Path, bin_dir: Path, tmp_path: Path) -> None:
    """As Debian's is without python3.11-venv: it lacks ensurepip."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/ensurepip.py").write_text("raise ImportError('No module named ensurepip')\n")
    _real_python(bin_dir / "mine", f'PYTHONPATH="{tmp_path}/lib"')
    _assert_refused(_choose(project, bin_dir, "mine"), "mine has no venv module")


def test_the_first_python_that_works_is_taken(project: Path, bin_dir: Path) -> None:
    _program(bin_dir / "python3.11", "echo not found >&2; exit 127")  # a pyenv shim with nothing behind it
    _program(bin_dir / "python3.10", "echo 3.12")
    _real_python(bin_dir / "python3")
    assert _choose(project, bin_dir).stdout == "python3\n"
    _real_python(bin_dir / "python3.9")
    assert _choose(project, bin_dir).stdout == "python3.9\n"


def test_a_python_that_was_asked_for_is_taken_or_refused_but_never_replaced(project: Path, bin_dir: Path) -> None:
    _real_python(bin_dir / "python3.11")
    _real_python(bin_dir / "mine")
    _program(bin_dir / "new", "echo 3.12")
    assert _choose(project, bin_dir, "mine").stdout == "mine\n"
    assert _choose(project, bin_dir, f"{bin_dir}/mine").stdout == f"{bin_dir}/mine\n"
    for refused, reason in (("new", "but new is Python 3.12."), ("gone", "but gone is not there.")):
        done = _choose(project, bin_dir, refused)
        _assert_refused(done, reason)
        assert len(done.stderr.splitlines()) == 1


# --- each step once


def _wheel(folder: Path, version: str) -> str:
    """Makes a wheel of an empty package; returns the line of the lock that asks for it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"tiny=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _set_up(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Returns what `setup.sh lint` does in a project whose lock asks for a package made here; no network."""
    offline = {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project.parent / "wheels"),
        **environment,
    }
    return subprocess.run([project / "scripts/setup.sh", "lint"], env=offline, capture_output=True, text=True)


def _installed(project: Path) -> str:
    python = project / ".venv-lint/bin/python"
    return subprocess.run(
        [python, "-c", "import tiny; print(tiny.version)"], capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.slow
def test_set_up_is_done_once_and_again_when_its_lock_changes_or_it_was_cut_off(project: Path, tmp_path: Path) -> None:
    lock = project / "requirements/lint.lock"
    kept = project / ".venv-lint/kept"  # is there as long as the venv was not made anew

    lock.write_text(_wheel(tmp_path / "wheels", "1.0"))
    first = _set_up(project)
    assert (first.returncode, first.stdout) == (0, "")
    assert first.stderr == "setup: installing requirements/lint.lock into .venv-lint\n"
    assert _installed(project) == "1.0"
    kept.touch()

    again = _set_up(project)
    assert (again.returncode, again.stderr) == (0, "")

    lock.write_text(_wheel(tmp_path / "wheels", "2.0"))
    assert "installing" in _set_up(project).stderr
    assert _installed(project) == "2.0"
    assert kept.exists()

    good = _wheel(tmp_path / "wheels", "3.0")
    lock.write_text(re.sub("sha256:.*", "sha256:" + "0" * 64, good))
    broken = _set_up(project)
    assert broken.returncode == 2
    assert "did not install" in broken.stderr.splitlines()[-1]
    assert _installed(project) == "2.0"

    # It is not known how far the last one came, so this one begins with an empty venv.
    lock.write_text(good)
    assert _set_up(project).returncode == 0
    assert _installed(project) == "3.0"
    assert not kept.exists()

    # A Python that can't work is refused before anything is deleted.
    kept.touch()
    _program(tmp_path / "python3.12", "echo 3.12")
    _assert_refused(_set_up(project, PYTHON=str(tmp_path / "python3.12")), "is Python 3.12")
    assert kept.exists()

    # The scripts of a venv name its folder: they are dead once the project has moved.
    moved = project.rename(tmp_path / "moved")
    assert "installing" in _set_up(moved).stderr
    assert _installed(moved) == "3.0"


# --- the container


def test_the_container_is_built_and_run_without_rights_and_by_targets_that_exist() -> None:
    """What hadolint does not know: `make check` runs that too."""
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    words = [word for word, _ in steps]
    assert [rest for word, rest in steps if word == "ARG"] == ["BASE=python:3.11-slim-bookworm"]
    assert [rest for word, rest in steps if word == "USER"] == ["1000:1000"]
    assert words.index("USER") < words.index("COPY")  # nothing of the project is root's
    assert all("--chown=fedkeys:fedkeys" in rest for word, rest in steps if word == "COPY")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    made = [
        target for word, rest in steps if word in ("RUN", "CMD") for target in re.findall(r"\bmake\W+([a-z-]+)", rest)
    ]
    assert {"setup", "demo"} <= set(made)
    assert [target for word, rest in steps if word == "CMD" for target in re.findall(r"[a-z-]+", rest)] == [
        "make",
        "demo",
    ]
    assert set(made) - {"util-linux"} <= set(targets)


def test_the_container_gets_no_environment_of_this_machine() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv*", ".uv", "runs", "build", "dist"} <= set(ignored)


# --- make and the docs


def test_make_help_lists_the_targets() -> None:
    listed = subprocess.run(["make", "-C", ROOT, "help"], capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    targets = phony[1].split()
    assert {"setup", "demo", "test", "test-fast", "check", "coverage", "dist", "docs", "mutants", "lock"} <= set(
        targets
    )
    assert set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)) == set(targets)
    for target in targets:
        assert re.search(rf"^make {target} +\w", listed, re.MULTILINE), target


@pytest.fixture
def check_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts/check_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_check_docs_finds_links_that_lead_nowhere(check_docs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Some `heading`, here\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#some-heading-here) [c](https://example.org/x) [d](#own)\n# Own\n"
    page.write_text(good)
    assert list(check_docs.broken_links(page, good)) == []
    bad = "[a](gone.md) [b](other.md#no-heading) ![c](gone.png) [d](#own)"
    page.write_text(bad)
    assert len(list(check_docs.broken_links(page, bad))) == 4


def test_check_docs_finds_make_targets_that_do_not_exist(check_docs: ModuleType) -> None:
    assert list(check_docs.wrong_make(["make", "setup", "PYTHON=python3.11"])) == []
    assert list(check_docs.wrong_make(["make", "tea"])) == ["there is no target `make tea`"]
