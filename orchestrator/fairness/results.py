"""DIR/fairness.json read back, and what its figures say in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import msgspec

from orchestrator.errors import RunFolderError

FILE_NAME = "fairness.json"


def read_fairness(folder: Path) -> Optional[Mapping[str, Any]]:
    """The figures of `fedkeys fairness` (docs/fairness.md) in a run's folder, or None if there are none.

    Raises:
      RunFolderError: the file is damaged.
    """
    path = folder / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} is damaged ({error}): run `fedkeys fairness --run {folder}`") from None


def verdicts(fairness: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(attribute, what its gap and test say) of each."""
    attributes = fairness["attributes"]
    return [(name, verdict(own, len(attributes))) for name, own in attributes.items()]


def verdict(attribute: Mapping[str, Any], num_attributes: int) -> str:
    """What the gap and the test say, in a line; below 5 % over all attributes together counts as a difference."""
    hidden = f" {attribute['hidden_groups']} groups too small to show." if attribute["hidden_groups"] else ""
    if attribute["gap"] is None:
        return f"Nothing to compare.{hidden}"
    limit = 0.05 / num_attributes
    clear = attribute["p_value"] < limit
    return (
        f"Gap {100 * attribute['gap']:.2f} points, ratio {attribute['ratio']:.2f}; by person"
        f" {100 * attribute['client_mean_gap']:.2f} points, p = {attribute['p_value']:.4f}:"
        f" {'more than chance' if clear else f'no more than chance would give (that takes p < {limit:.2g})'}.{hidden}"
    )
