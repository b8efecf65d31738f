"""A server and a helper of the split sum as processes that kill themselves, as kill -9 does, where a test wants it.

    python -c "import split_processes; split_processes.helper(KEYS, ADDRESS, OPENED, DOOM)"
    python -c "import split_processes; split_processes.server(RUN, KEYS, ADDRESS, HELPER, TEXT, DOOM)"

They are the product's own parts; the server's optimiser is a plain step, since TensorFlow takes seconds to load.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
from loopback import config_of, plain_step

from orchestrator.network.helper import RemoteHelper, helper_service
from orchestrator.network.serve import serve
from orchestrator.network.session import Deadlines
from orchestrator.run.folder import RunFolder
from orchestrator.split.opened import OpenedRounds

NUM_ROUNDS = 5
DEADLINES = Deadlines(clients_s=60.0, train_s=60.0, stage_s=60.0)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def helper(keys: str, address: str, opened: str, doom: str) -> None:
    """A helper; doom: "before" or "after" it has recorded a round, or nothing."""
    record = OpenedRounds.add

    def add(self, *row):
        if doom == "before":
            die()
        record(self, *row)
        if doom == "after":
            die()

    OpenedRounds.add = add
    service = helper_service(Path(keys), 1, Path(opened), 2, say)
    service.listen(address)
    service.wait()


def config_with(text: str):
    return config_of(
        num_rounds=NUM_ROUNDS,
        **{"aggregation.aggregator": "split", "data.source": text, "model.start_from_word_counts": False},
    )


def server(run: str, keys: str, address: str, helper_address: str, text: str, doom: str) -> None:
    """A server; doom: the round whose masks it receives and does not live to use, or nothing."""
    ask = RemoteHelper.open

    def open_masks(self, request):
        answer = ask(self, request)
        done = [report.round_num for report in RunFolder(Path(run)).rounds()]
        if doom and max(done, default=0) + 1 == int(doom):
            die()
        return answer

    RemoteHelper.open = open_masks
    serve(
        RunFolder(Path(run)),
        config_with(text),
        Path(keys),
        address,
        DEADLINES,
        say,
        build_optimizer=lambda server, size: (lambda: {"step": np.int32(0)}, plain_step),
        helper_addresses=[helper_address],
    )
