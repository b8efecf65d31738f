"""Trains in LiteRT.js, the runtime of the page for browsers: the page's own worker as `make web` built it, in Node."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from edge.clients.web_page import NO_PAGE, page_folder
from edge.errors import ClientError

_SCRIPT = Path(__file__).parent / "litert_js.mjs"
_LEAST_NODE = 20
_TIMEOUT_S = 600.0


def why_not() -> str:
    """Returns what is missing to train in LiteRT.js; empty if nothing is."""
    if page_folder() is None:
        return NO_PAGE
    if shutil.which("node") is None:
        return f"node not found: install Node {_LEAST_NODE} or later"
    node = _run("node", "--version").stdout.strip().lstrip("v")
    major = node.partition(".")[0]
    if not major.isdigit() or int(major) < _LEAST_NODE:
        return f"node is {node or 'of an unknown version'}: install Node {_LEAST_NODE} or later"
    return "" if version() else "the page for browsers does not run in Node: run make web of this fedkeys"


@functools.cache
def version() -> str:
    """Returns the version of LiteRT.js in the built page; empty if the page does not run in Node."""
    done = _run("node", str(_SCRIPT), str(page_folder()))
    return "" if done.returncode else done.stdout.strip()


def train_in_node(folder: Path, learning_rate: float) -> list[float]:
    """Trains a step on each batch in a folder, and returns the loss before each step in nats per token.

    Args:
      folder: holds manifest.json and train.tflite of a bundle, `weights` that training starts from, and `batches` of as
        many sentences as train_fixed takes, or fewer. `weights_after` is written into it.
      learning_rate: of the steps.

    Raises:
      ClientError: LiteRT.js refuses the model or the batches, or ended otherwise.
    """
    done = _run("node", str(_SCRIPT), str(page_folder()), str(folder), repr(learning_rate))
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error: " in line]
        raise ClientError(f"LiteRT.js failed in Node: {said[0] if said else f'exit code {done.returncode}'}")
    return [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("loss ")]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
