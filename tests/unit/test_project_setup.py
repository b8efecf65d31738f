"""The set-up: which Python is taken or refused, and that each step is done once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Optional

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements"


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
