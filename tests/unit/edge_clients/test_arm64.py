"""The C client for ARM64: what is missing to run it, and how it is run."""

from __future__ import annotations

import pytest

from edge.clients import arm64
from edge.errors import ClientError


@pytest.fixture
def qemu(tmp_path, monkeypatch):
    """A qemu that prints its words, and where the client is looked for."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / arm64.QEMU
    program.write_text('#!/bin/sh\necho "$@" "$FEDKEYS_LITERT"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv(arm64.FOLDER_VARIABLE, str(tmp_path / "arm64"))
    return program


def test_what_is_missing(qemu, monkeypatch, tmp_path):
    assert arm64.why_not().startswith(f"{tmp_path}/arm64 holds no C client for ARM64: `make arm64`")
    (tmp_path / "arm64").mkdir()
    (tmp_path / "arm64" / "fedkeys_client").touch()
    assert arm64.why_not() == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert arm64.why_not().startswith("qemu-aarch64-static not found: install it")


def test_it_runs_in_the_system_that_was_made_for_it(qemu, tmp_path):
    folder = tmp_path / "arm64"
    printed = arm64.run_arm64_client(["train", tmp_path, 0.5]).stdout.split()
    system = ["-cpu", arm64.PROCESSOR, "-L", f"{folder}/sysroot", f"{folder}/fedkeys_client"]
    assert printed == [*system, "train", str(tmp_path), "0.5", f"{folder}/libLiteRt.so"]


def test_its_error_is_told_as_that_of_the_client_here(qemu):
    qemu.write_text("#!/bin/sh\necho 'fedkeys_client: no such bundle' >&2\nexit 2\n")
    with pytest.raises(ClientError, match="the C client failed, exit code 2: no such bundle"):
        arm64.run_arm64_client([])
