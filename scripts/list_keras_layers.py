"""Writes the tables of docs/keras.md from the code: layers, activations and losses that `fedkeys export --keras` takes.

python scripts/list_keras_layers.py [--check]     --check writes nothing, and exits with 1 if the page is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edge.export.keras_table import ACTIVATIONS, LAYERS, LOSSES, LayerRow  # noqa: E402

PAGE = ROOT / "docs" / "keras.md"
BLOCK = re.compile(r"(<!-- (\w+): written by scripts/list_keras_layers\.py -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def kind_of(row: LayerRow) -> str:
    """Returns what holds of a layer.

    >>> kind_of(LayerRow(has_weights=True)), kind_of(LayerRow()), kind_of(LayerRow(why_not="random"))
    ('trains', 'has no weights', 'not supported')
    """
    if row.why_not:
        return "not supported"
    return "trains" if row.has_weights else "has no weights"


def layer_table() -> str:
    """Returns the table of layers."""
    lines = ["| layer | | note |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind_of(row)} | {row.why_not or row.note} |" for name, row in LAYERS.items()]
    return "\n".join(lines) + "\n"


def note_table(title: str, rows: Mapping[str, str]) -> str:
    """Returns a table of names and notes."""
    lines = [f"| {title} | note |", "|---|---|", *(f"| `{name}` | {note} |" for name, note in rows.items())]
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """Returns the page with each table as the code has it."""
    tables = {
        "layers": layer_table(),
        "activations": note_table("activation", ACTIVATIONS),
        "losses": note_table("loss", LOSSES),
    }
    return BLOCK.sub(lambda found: found[1] + tables[found[2]] + found[3], page)


def main(arguments: list[str]) -> int:
    """Writes the page, or checks it."""
    page = PAGE.read_text(encoding="utf-8")
    if arguments == ["--check"]:
        if written(page) != page:
            print(f"{PAGE.relative_to(ROOT)} is out of date: run python scripts/list_keras_layers.py")
            return 1
        return 0
    PAGE.write_text(written(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
