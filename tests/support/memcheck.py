"""A program under valgrind, which sees what sanitizers don't: reads of what nothing was written to."""

from __future__ import annotations

import shutil

import pytest

from edge.clients import c_client

FOUND = 99  # the exit code if there is anything


def under_valgrind(program):
    """The command that runs a program under valgrind; its words follow. Skips the test where it is not there."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind not found: install it (on Debian: valgrind)")
    leaks = ("--leak-check=full", "--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect")
    known = f"--suppressions={c_client.SOURCE}/tests/valgrind.supp"
    return [valgrind, "-q", f"--error-exitcode={FOUND}", *leaks, known, str(program)]
