"""The doctor's checks: what each says when something is wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.cli import doctor


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A stand-in for the project's folder, with an empty requirements/."""
    (tmp_path / "requirements").mkdir()
    monkeypatch.setattr(doctor, "_HOME", tmp_path)
    return tmp_path


def write_lock(project, text):
    (project / "requirements" / f"py3.{sys.version_info.minor}.lock").write_text(text)


def test_packages_names_what_differs_from_the_lock(project):
    write_lock(project, "click==0.0.1 \\\n    --hash=sha256:00\nno-such-package==1.0\n")
    ok, detail = doctor.check_packages()
    assert not ok
    assert "locked is 0.0.1" in detail
    assert "no-such-package is missing" in detail
    assert "make setup" in detail


def test_packages_leaves_a_newer_pip_alone(project):
    write_lock(project, "pip==0.0.1\n")
    assert doctor.check_packages()[0]


def test_packages_says_when_there_is_no_lock(project):
    ok, detail = doctor.check_packages()
    assert ok
    assert "no lock file" in detail


def test_setpriv_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    ok, detail = doctor.check_setpriv()
    assert not ok
    assert "util-linux" in detail


def test_text_says_where_the_cache_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FEDKEYS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    ok, detail = doctor.check_text()
    assert not ok
    assert str(tmp_path / "file" / "cache") in detail
    assert "FEDKEYS_CACHE_DIR" in detail


def test_too_little_disk_or_memory_says_how_much_is_needed(monkeypatch):
    monkeypatch.setattr(doctor, "_MIN_DISK_GIB", 1e9)
    monkeypatch.setattr(doctor, "_MIN_MEMORY_GIB", 1e9)
    for check in (doctor.check_disk, doctor.check_memory):
        ok, detail = check()
        assert not ok
        assert "1000000000 needed" in detail


def test_port_is_free_here():
    assert doctor.check_port()[0]


@pytest.mark.parametrize(
    ("code", "stderr", "expected"),
    [
        (1, "Traceback ...\nImportError: no grpc\n", "failed: ImportError: no grpc"),
        (-6, "built for AVX\n", "ended by SIGABRT: built for AVX"),
        (-9, "", "ended by SIGKILL"),
    ],
)
def test_a_failed_probe_is_told_in_one_line(code, stderr, expected):
    assert doctor._why(subprocess.CompletedProcess([], code, "", stderr)) == expected


def test_a_check_that_raises_fails_and_the_others_go_on(monkeypatch):
    def broken():
        raise RuntimeError("two\nlines")

    for name in ("python", "packages", "setpriv", "port", "memory", "disk", "text", "worker"):
        monkeypatch.setattr(doctor, f"check_{name}", lambda: (True, "fine"))
    monkeypatch.setattr(doctor, "check_memory", broken)
    checks = {check.name: check for check in doctor.run_checks()}
    assert [name for name, check in checks.items() if not check.ok] == ["memory"]
    assert checks["memory"].detail == "RuntimeError: two lines"
    assert list(checks)[-1] == "TFF worker"


@pytest.mark.slow
def test_worker_answers_and_is_gone():
    ok, detail = doctor.check_worker()
    assert ok, detail
