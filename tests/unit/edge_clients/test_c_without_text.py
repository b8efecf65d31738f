"""Where PCRE2 and utf8proc are missing, libfedkeys is built without the part that reads text and keeps it."""

from __future__ import annotations

import ctypes
import shlex
import shutil
import subprocess
from os import environ

import pytest

from edge.clients import c_client


def test_the_library_links_without_the_part_that_reads_text(tmp_path):
    compiler = shlex.split(environ.get("CC") or "cc")[0]
    if None in map(shutil.which, ("make", compiler, "pkg-config")) or not c_client.has_library("libcrypto"):
        pytest.skip("a compiler, make, pkg-config or libcrypto is missing")
    command = ["make", "-s", "-C", str(c_client.SOURCE), "all", f"BUILD={tmp_path}", "LITERT=none", "HAS_READING="]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "without text" in done.stdout
    library = ctypes.CDLL(str(tmp_path / "libfedkeys.so"))
    assert hasattr(library, "fk_bundle_open")
    for left_out in ("fk_text_open_words", "fk_store_open"):
        assert not hasattr(library, left_out)
