"""Writes the conformance vectors: what every client of fedkeys must compute, whatever it is written in.

python scripts/make_vectors.py [FOLDER]     FOLDER is edge/conformance by default

The files come from Python's protocols with fixed keys and fixed draws, so each call writes the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conformance import (
    batches,
    chats,
    encoder,
    packing,
    participant,
    primitives,
    roster,
    secagg,
    settings,
    split,
    tokeniser,
)

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "settings": settings.settings,
    "primitives": primitives.primitives,
    "graph": primitives.graph,
    "encoder": encoder.encoder,
    "secagg": secagg.secagg,
    "participant": participant.participant_vectors,
    "roster": roster.roster,
    "split": split.split,
    "tokeniser": tokeniser.tokeniser,
    "batches": batches.batches,
    "packing": packing.packing,
    "chats": chats.chats,
}


def main(folder: Path) -> int:
    """Writes all files into a folder, and returns the exit code: 0."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        f"{name}.json": json.dumps(content(), indent=1, ensure_ascii=False) + "\n" for name, content in FILES.items()
    }
    for name, text in {**texts, "settings.h": settings.c_header()}.items():
        (folder / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(text.encode()) / 1000:.1f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "edge" / "conformance"))
