"""Building the C client: once a process, and in the user's cache folder where the source can't be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.clients import c_client
from edge.errors import ClientError


@pytest.fixture
def source(monkeypatch, tmp_path) -> Path:
    """A copy of the source, to be built by a `make` that only notes its arguments and makes the client's file."""
    (tmp_path / "bin").mkdir()
    make = tmp_path / "bin" / "make"
    make.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nfor word; do case $word in BUILD=*) build=${{word#BUILD=}};; esac; '
        "done\nmkdir -p $build && touch $build/fedkeys_client $build/fedkeys_client-sanitized\n"
    )
    make.chmod(0o755)
    folder = tmp_path / "c"
    shutil.copytree(c_client.SOURCE, folder, ignore=shutil.ignore_patterns("build"))
    monkeypatch.setattr(c_client, "SOURCE", folder)
    monkeypatch.setattr(c_client, "why_not", lambda: "")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv(c_client.CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    c_client._build.cache_clear()
    yield folder
    c_client._build.cache_clear()


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_each_kind_is_built_once_in_a_process(source, tmp_path):
    for _ in range(3):
        assert c_client.c_client_path() == source / "build" / "fedkeys_client"
        assert c_client.c_client_path(sanitized=True) == source / "build" / "fedkeys_client-sanitized"
    assert [("SANITIZE=address,undefined" in call) for call in calls(tmp_path)] == [False, True]


def test_a_read_only_source_is_built_in_the_cache_folder_of_its_content(source, monkeypatch, tmp_path):
    monkeypatch.setattr(c_client.os, "access", lambda path, mode: False)  # root may write anywhere
    path = c_client.c_client_path()
    assert path.parent.parent == tmp_path / "cache"
    assert path.exists()
    (source / "client.c").write_text("int main(void) { return 0; }\n")
    assert c_client.build_folder() != path.parent


def test_without_a_folder_to_build_in_the_error_names_the_setting(source, monkeypatch, tmp_path):
    monkeypatch.setattr(c_client.os, "access", lambda path, mode: False)
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(ClientError, match="set FEDKEYS_CACHE_DIR to a folder that can be written"):
        c_client.c_client_path()


def test_a_source_that_does_not_compile_is_told_in_one_line_each_time(source, tmp_path):
    (tmp_path / "bin" / "make").write_text("#!/bin/sh\necho 'client.c:1: error: no' >&2; exit 2\n")
    for _ in range(2):
        with pytest.raises(ClientError, match=r"can't be built in .*: client.c:1: error: no; see `make -C") as error:
            c_client.c_client_path()
    assert "\n" not in str(error.value)


def test_make_is_given_the_library_that_is_installed(source, tmp_path):
    c_client.c_client_path()
    assert f"LITERT={c_client.litert_library()}" in calls(tmp_path)[0].split()


@pytest.mark.skipif(shutil.which("make") is None, reason="make not found")
@pytest.mark.parametrize("pkg_config", ["/nonexistent/pkg-config", "false"], ids=["no pkg-config", "no libcrypto"])
def test_make_says_in_one_line_that_libcrypto_is_missing(tmp_path, pkg_config):
    arguments = ["-C", str(c_client.SOURCE), f"BUILD={tmp_path}", f"PKG_CONFIG={pkg_config}", "LITERT=none"]
    made = subprocess.run(["make", "--no-print-directory", *arguments], capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert made.stdout == ""
    (line,) = made.stderr.splitlines()
    assert "install OpenSSL's headers (on Debian: pkg-config and libssl-dev)" in line
    assert list(tmp_path.iterdir()) == []
