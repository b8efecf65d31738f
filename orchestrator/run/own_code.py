"""Loads a person's own network from the Python file that says how to build it. Loading runs the file.

A run remembers such a network by its kind, which has the file's SHA-256 in it, and by a copy of the file in its folder.
Nothing here runs a file unless the caller's user named it (`--model FILE.py:FUNCTION`), or said that the run's copy is
to be trusted (`--trust-model`): see docs/adr/0009-own-networks.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import traceback
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgeError
from models.errors import OwnNetworkError
from models.own_network import (
    BuildSize,
    PureNetwork,
    code_of_kind,
    is_loaded,
    is_own,
    kind_of_code,
    register,
)
from orchestrator.rounds.build import model_size
from orchestrator.run.folder import CODE_FILE, RunFolder
from orchestrator.run.saved import read_run

_MOST_BYTES = 1 << 20
_PLACE = "docs/models.md says what a build function returns"


@dataclass(frozen=True)
class OwnCode:
    """A Python file that builds a network; nothing of it has run yet.

    Attributes:
      path: of the file.
      function: that builds the network.
      source: the file's content.
      kind: the network's.
    """

    path: Path
    function: str
    source: bytes
    kind: str

    @property
    def warning(self) -> str:
        """What loading it means, in one line."""
        return f"running the code of {self.path}, with your rights (SHA-256 {code_of_kind(self.kind)[2][:12]})"


def read_code(place: str) -> OwnCode:
    """Returns the code that `FILE.py:FUNCTION` names. It reads the file, and runs nothing.

    Raises:
      OwnNetworkError: there is no such file, or the place has another form.
    """
    file, _, function = place.rpartition(":")
    path = Path(file)
    if not file or not function.isidentifier() or path.suffix != ".py":
        raise OwnNetworkError(f"--model {place}: give it as FILE.py:FUNCTION, as in mine.py:build")
    source = _read(path)
    return OwnCode(path, function, source, kind_of_code(path.name, function, hashlib.sha256(source).hexdigest()))


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise OwnNetworkError(f"{path} is no file: name the Python file that builds the network")
    if path.stat().st_size > _MOST_BYTES:
        raise OwnNetworkError(f"{path} has more than {_MOST_BYTES:,} bytes: name a file of Python code")
    return path.read_bytes()


def load_code(code: OwnCode, max_words: int, note: Callable[[str], None]) -> None:
    """Runs a file, and makes its network known to this process. A file that was loaded before does not run again.

    Args:
      code: the file.
      max_words: positions of a sentence.
      note: is told that the file runs.

    Raises:
      OwnNetworkError: the file raises, has no such function, or was loaded for sentences of another length.
    """
    if is_loaded(code.kind, max_words):
        return
    note(code.warning)
    register(code.kind, code.source, _run_file(code), max_words)


def trust_run(path: Path, note: Callable[[str], None]) -> None:
    """Loads the network of a run from the copy of its file in the run's folder; nothing, if it has a built-in kind.

    Raises:
      OwnNetworkError: the copy is missing, was changed, or raises.
      RunFolderError, ConfigError: there is no such run.
    """
    run = read_run(RunFolder(path))
    kind = run.config.model.kind
    if not is_own(kind):
        return
    own, (_, function, sha256) = path / CODE_FILE, code_of_kind(kind)
    source = _read(own)
    if hashlib.sha256(source).hexdigest() != sha256:
        raise OwnNetworkError(f"{own} is not the code that the run was trained with, and did not run: restore it")
    load_code(OwnCode(own, function, source, kind), run.config.data.max_words, note)
    model_size(run.config.model, run.vocabulary.size)  # built now, so that the run's weights are known by their shapes


def _run_file(code: OwnCode) -> Callable[[BuildSize], PureNetwork]:
    """Returns the file's build function, with what it gives turned into a PureNetwork."""
    module = types.ModuleType(f"fedkeys_own_{code_of_kind(code.kind)[2][:12]}")
    module.__file__ = str(code.path)
    sys.modules[module.__name__] = module  # as an import does: dataclasses look their module up

    def run() -> None:
        exec(compile(code.source, str(code.path), "exec"), module.__dict__)

    _guarded(code, "the file", run)
    build = getattr(module, code.function, None)
    if not callable(build):
        raise OwnNetworkError(f"{code.path} has no function {code.function}: {_PLACE}")

    def network(size: BuildSize) -> PureNetwork:
        return _network(code, build, size)

    return network


def _network(code: OwnCode, build: Callable[[BuildSize], object], size: BuildSize) -> PureNetwork:
    import tensorflow as tf

    from edge.export.keras_next_word import build_seeded, next_word_network

    what = f"{code.path.name}:{code.function}"

    def call() -> object:
        return _guarded(code, code.function, lambda: build(size))

    built = build_seeded(call, 0)
    if isinstance(built, PureNetwork):
        return built
    if not isinstance(built, tf.keras.Model):
        raise OwnNetworkError(
            f"{what} returned {type(built).__name__}, and not a Keras model or a PureNetwork: {_PLACE}"
        )
    try:
        return next_word_network(call, size)
    except EdgeError as error:
        raise OwnNetworkError(f"{what}: {error}") from None


def _guarded(code: OwnCode, part: str, run: Callable[[], object]) -> object:
    """Runs somebody's code; what it prints goes to standard error, what it raises becomes a line with its place."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output may be JSON
            return run()
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(code.path)
        ]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
        where = f"{code.path}:{line}" if line else str(code.path)
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise OwnNetworkError(f"{where}: {part} raised {said[:300]}") from None
