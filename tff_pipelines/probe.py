"""A tiny TFF computation on a worker of its own: shows that TFF works on this machine. `fedkeys doctor` runs it.

It is run as a process, `python -m tff_pipelines.probe`, since a TensorFlow built for another processor does not raise
but kills the process that imports it.
"""

from __future__ import annotations

import json

import numpy as np

from tff_pipelines.framework import tff
from tff_pipelines.runtime import Runtime


def probe() -> tuple[int, int]:
    """Returns the sum 1 + 2 + 3 of three clients' numbers as a worker computes it, and that worker's process id.

    Raises:
      WorkerError: the worker does not start or answer.
    """

    total = tff.federated_computation(tff.federated_sum, tff.FederatedType(np.int32, tff.CLIENTS))
    with Runtime("1") as runtime:
        answer = int(runtime.invoke(total, [1, 2, 3]))
        pid = runtime.workers[0].pid
    assert pid is not None  # a local worker has one
    return answer, pid


if __name__ == "__main__":
    print(json.dumps(probe()))
