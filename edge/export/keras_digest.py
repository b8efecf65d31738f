"""A digest that tells one Keras network from another, by its layers and the weights that stay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from edge.export.keras_network import Network


def network_digest(network: Network) -> str:
    """Returns the SHA-256 of the layers, whatever they are called, and of the weights that don't train."""
    config = json.loads(network.model.to_json())["config"]
    names: dict[object, str] = {}
    _collect_names(config, names)
    digest = hashlib.sha256(json.dumps(_renamed(config, names), sort_keys=True).encode())
    for variable in network.frozen:
        array = variable.numpy()
        digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _collect_names(tree: object, names: dict[object, str]) -> None:
    """Numbers names in the order of the layers: Keras counts on when a model is built again."""
    if isinstance(tree, dict) and isinstance(tree.get("name"), str):
        names.setdefault(tree["name"], f"#{len(names)}")
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        _collect_names(part, names)


def _renamed(tree: object, names: Mapping[object, str]) -> object:
    if isinstance(tree, dict):
        return {key: _renamed(part, names) for key, part in tree.items()}
    if isinstance(tree, list):
        return [_renamed(part, names) for part in tree]
    return names.get(tree, tree)
