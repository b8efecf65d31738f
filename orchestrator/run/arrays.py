"""A tree of arrays, as an optimiser's state is one, as named arrays of a checkpoint, and back."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def flatten(name: str, tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """(path, array) of every leaf; dict keys and tuple places make the path."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from flatten(f"{name}/{key}", value)
    elif isinstance(tree, (tuple, list)):
        for place, value in enumerate(tree):
            yield from flatten(f"{name}/{place}", value)
    else:
        yield name, np.asarray(tree)


def unflatten(arrays: Mapping[str, np.ndarray]) -> Any:
    """The tree that flatten took apart; paths keep their order."""
    groups: dict[str, Any] = collections.OrderedDict()
    for path, array in arrays.items():
        head, _, rest = path.partition("/")
        if rest:
            groups.setdefault(head, collections.OrderedDict())[rest] = array
        else:
            groups[head] = array[()]  # a 0-d array becomes the scalar that TFF takes
    tree = {k: unflatten(v) if isinstance(v, dict) else v for k, v in groups.items()}
    if tree and all(key.isdigit() for key in tree):
        return tuple(tree.values())
    return collections.OrderedDict(tree)
