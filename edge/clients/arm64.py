"""The C client for ARM64, run under qemu: what a phone's processor computes, digit by digit; nothing of its speed.

`make arm64` (scripts/arm64.sh) builds it into build/arm64. FEDKEYS_ARM64 names another folder that it was built into.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edge.clients.c_client import run_client

FOLDER_VARIABLE = "FEDKEYS_ARM64"
QEMU = "qemu-aarch64-static"
PROCESSOR = "cortex-a76"  # as scripts/arm64.sh describes it to LiteRT


def why_not() -> str:
    """Returns what is missing to run the C client for ARM64; empty if nothing is."""
    if shutil.which(QEMU) is None:
        return f"{QEMU} not found: install it (on Debian: qemu-user-static), then `make arm64`"
    if not (arm64_folder() / "fedkeys_client").is_file():
        return f"{arm64_folder()} holds no C client for ARM64: `make arm64`, or name its folder in {FOLDER_VARIABLE}"
    return ""


def run_arm64_client(args: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Runs the client for ARM64, and returns it ended, as run_c_client does with this machine's.

    Raises:
      ClientError: it ended with an error, whose line it is.
    """
    return run_client([*emulated("fedkeys_client"), *map(str, args)], arm64_folder() / "libLiteRt.so")


def emulated(program: str) -> list[str]:
    """Returns the command that runs a program of the folder here; its words follow."""
    return [QEMU, "-cpu", PROCESSOR, "-L", str(arm64_folder() / "sysroot"), str(arm64_folder() / program)]


def arm64_folder() -> Path:
    """Returns the folder that the client for ARM64 was built into, or would be."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(__file__).parents[2] / "build" / "arm64").resolve()
