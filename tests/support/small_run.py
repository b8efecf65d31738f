"""The commands of a small run, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

FEDKEYS = [sys.executable, "-m", "orchestrator.cli"]
SMALL = [
    "--preset", "smoke", "--cohort", "6", "--workers", "1",
    "--set", "data.vocabulary_size=120", "--set", "model.vocabulary_size=60", "--set", "model.embedding_size=8",
    "--set", "model.num_cells=12", "--set", "rounds.checkpoint_every=3", "--set", "evaluation.every=4",
    "--set", "server.average_decay=0.5", "--set", "client.dropout=0.1",
]  # fmt: skip


def fedkeys(*args, timeout=300, **kwargs):
    return subprocess.run(
        [*FEDKEYS, *map(str, args)], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, **kwargs
    )
