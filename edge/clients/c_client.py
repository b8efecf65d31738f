"""The C client of edge/clients/c: built on first use if there is a C compiler, and run with the installed LiteRT.

Its LiteRT is the shared object in the package ai-edge-litert, which is found without importing it. The client is built
beside its source, as `make` does it there, or in the user's cache folder where the source can't be written.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Optional

from edge.errors import ClientError, Diverged
from models.files import CACHE_DIR_VARIABLE, cache_folder

SOURCE = Path(__file__).parent / "c"
LITERT_VERSION = "2.3.0"  # whose calls litert.h declares
_DIVERGED = "training made weights that are not finite"  # in the words of c/fk_train.c


def why_not() -> str:
    """Returns what is missing to build and run the C client; empty if nothing is."""
    compiler = shlex.split(os.environ.get("CC") or "cc")[0]
    missing = [tool for tool in ("make", compiler) if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found: install a C compiler and make (on Debian: build-essential)"
    if not has_library("libcrypto"):
        return "libcrypto not found by pkg-config: install OpenSSL's headers (on Debian: pkg-config and libssl-dev)"
    if litert_library() is None:
        return "libLiteRt.so not found: install ai-edge-litert"
    version = metadata.version("ai-edge-litert")
    if version != LITERT_VERSION:
        return f"it is made for ai-edge-litert {LITERT_VERSION} and {version} is installed: see edge/clients/c/litert.h"
    return ""


def has_library(name: str) -> bool:
    """Whether a C program can be built with a library, as pkg-config names it."""
    if shutil.which("pkg-config") is None:
        return False
    return subprocess.run(["pkg-config", "--exists", name], capture_output=True, check=False).returncode == 0


def litert_library() -> Optional[Path]:
    """Returns LiteRT's shared object; None if the package is not installed or holds none for this system."""
    spec = util.find_spec("ai_edge_litert")
    if spec is None or not spec.submodule_search_locations:
        return None
    library = Path(spec.submodule_search_locations[0]) / "libLiteRt.so"
    return library if library.is_file() else None


def c_client_path(sanitized: bool = False) -> Optional[Path]:
    """Returns the client's path; None where why_not() says why.

    A process builds each kind once, if its source is newer.

    Args:
      sanitized: the build that ends at the first memory error or undefined behaviour, for tests.

    Raises:
      ClientError: the compiler refuses the source, or there is no folder to build in.
    """
    return None if why_not() else _build(sanitized)


@functools.cache
def _build(sanitized: bool) -> Path:
    folder = build_folder()
    command = ["make", "-s", "-C", str(SOURCE), "client", f"BUILD={folder}", f"LITERT={litert_library()}"]
    if sanitized:
        command.append("SANITIZE=address,undefined")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[0]
        raise ClientError(f"the C client can't be built in {folder}: {reason}; see `make -C {SOURCE}`")
    return folder / ("fedkeys_client-sanitized" if sanitized else "fedkeys_client")


def build_folder() -> Path:
    """Returns where the client is built: beside its source, or where that is read-only in the cache, by its digest.

    Raises:
      ClientError: neither folder can be written.
    """
    if os.access(SOURCE, os.W_OK):
        return SOURCE / "build"
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()) if path.is_file()))
    folder = cache_folder() / f"c-client-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClientError(
            f"the C client can't be built in {folder}: {error.strerror}; set {CACHE_DIR_VARIABLE} to a folder that can "
            "be written"
        ) from None
    return folder


def run_c_client(args: Sequence[object], client: Optional[Path] = None) -> subprocess.CompletedProcess[str]:
    """Runs the client, and returns it ended, with `stdout` as text; `args` are its command, files and options.

    Args:
      args: as text or as anything whose str() is meant.
      client: another build of it.

    Raises:
      ClientError: it can't be built, or ended with an error, whose line it is.
    """
    client = client or c_client_path()
    if client is None:
        raise ClientError(f"the C client can't be run: {why_not()}")
    return run_client([str(client), *map(str, args)], litert_library())


def run_client(command: Sequence[str], litert: Optional[Path]) -> subprocess.CompletedProcess[str]:
    """Runs a build of the client by its whole command, and returns it ended, with `stdout` as text.

    Args:
      command: the client and its words, or what runs a client of another machine.
      litert: the shared object that it loads.

    Raises:
      Diverged: it trained, and a weight went non-finite.
      ClientError: it ended with another error, whose line it is.
    """
    environment = {**os.environ, "FEDKEYS_LITERT": str(litert)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("fedkeys_client: ")]
        reason = lines[-1] if lines else f"it was ended by signal {-done.returncode}"
        reason = reason.replace("fedkeys_client: ", "")
        kind = Diverged if reason.startswith(_DIVERGED) else ClientError
        raise kind(f"the C client failed, exit code {done.returncode}: {reason}")
    return done
