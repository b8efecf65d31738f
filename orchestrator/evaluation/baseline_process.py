"""The process that counts and scores the n-gram baselines: a job on standard input, two answers on standard output."""

from __future__ import annotations

import os
import pickle
import sys
from typing import IO

from orchestrator.evaluation.baseline_scores import read_job


def main() -> None:
    """Reads a job, and writes what was counted, then how the test people's words went, both pickled."""
    job = read_job(sys.stdin.buffer)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever else is printed is no answer
        counted = job.counted()
        _write(counted, out)
        _write(job.score(counted.ngrams), out)


def _write(answer: object, out: IO[bytes]) -> None:
    pickle.dump(answer, out, protocol=5)
    out.flush()  # the reader need not wait for the next one


if __name__ == "__main__":
    main()
