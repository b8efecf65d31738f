"""A checkpoint's bytes: the server's state as named arrays, trees such as an optimiser's state among them, and back."""

from __future__ import annotations

import collections
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np

from orchestrator.rounds.types import ServerState


def state_to_bytes(state: ServerState) -> bytes:
    """Returns the content of a checkpoint's file."""
    buffer = io.BytesIO()
    arrays = dict(_flatten("weights", state.weights))
    arrays.update(_flatten("optimizer", state.optimizer_state))
    if state.average is not None:
        arrays.update(_flatten("average", state.average))
    if state.clip_norm is not None:
        arrays["clip_norm"] = np.asarray(state.clip_norm, np.float64)
    arrays.update(_flatten("earlier", state.earlier))
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read_state(path: Path, round_num: int) -> Optional[ServerState]:
    """Returns the state after a round in a checkpoint's file, or None if the file is damaged.

    Raises: OSError if it can't be read.
    """
    try:
        # Opened here, since np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file) as arrays:
            parts = _unflatten({name: arrays[name] for name in arrays.files})
        clip_norm = parts.get("clip_norm")
        return ServerState(
            round_num,
            parts["weights"],
            parts["optimizer"],
            parts.get("average"),
            None if clip_norm is None else float(clip_norm),
            parts.get("earlier", ()),
        )
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _flatten(name: str, tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (path, array) of every leaf; dict keys and tuple places make the path."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flatten(f"{name}/{key}", value)
    elif isinstance(tree, (tuple, list)):
        for place, value in enumerate(tree):
            yield from _flatten(f"{name}/{place}", value)
    else:
        yield name, np.asarray(tree)


def _unflatten(arrays: Mapping[str, np.ndarray]) -> Any:
    """Returns the tree that _flatten took apart; paths keep their order."""
    groups: dict[str, Any] = collections.OrderedDict()
    for path, array in arrays.items():
        head, _, rest = path.partition("/")
        if rest:
            groups.setdefault(head, collections.OrderedDict())[rest] = array
        else:
            groups[head] = array[()]  # a 0-d array becomes the scalar that TFF takes
    tree = {k: _unflatten(v) if isinstance(v, dict) else v for k, v in groups.items()}
    if tree and all(key.isdigit() for key in tree):
        return tuple(tree.values())
    return collections.OrderedDict(tree)
