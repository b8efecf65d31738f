"""The n-gram baselines of an evaluation: counted on the training people's text, scored on the test people's.

None of it needs TensorFlow, so a process of its own works on it while TensorFlow is imported and the TFF workers score
the model. If there is no such process, or it dies, the same is worked out here: the figures are the same to the bit.
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import functools
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Callable, NamedTuple, Optional

import numpy as np
from numpy.typing import NDArray

from models.client_data import ClientData, Sentences, sentences_of
from models.corpus import ClientId
from models.metrics import PositionScores
from orchestrator.evaluation.pooled_ngrams import PooledNgrams
from tff_pipelines.worker_process import ended_with_parent, worker_environment

Scores = Mapping[str, PositionScores]  # by the names of results.NGRAMS
_HOME = Path(__file__).resolve().parents[2]  # of the packages
_log = logging.getLogger(__name__)


class Counted(NamedTuple):
    """The baselines, and the order of modified Kneser-Ney that is best on the dev people."""

    ngrams: PooledNgrams
    order: int


class Job(NamedTuple):
    """What the baselines are worked out from: the text of people by role, as ids.

    Attributes:
      pooled: all sentences of all training people.
      dev, test: who choose the order, and who are scored.
      vocabulary_size: number of ids.
      time_steps: words of a sentence that are scored.
    """

    pooled: Sentences
    dev: Mapping[ClientId, Sentences]
    test: Mapping[ClientId, Sentences]
    vocabulary_size: int
    time_steps: int

    @staticmethod
    def of(data: ClientData, time_steps: int) -> Job:
        """Returns the job of a run's text."""
        return Job(data.pooled, data.dev, data.test, data.vocabulary.size, time_steps)

    def counted(self) -> Counted:
        """Returns the baselines, counted."""
        ngrams = PooledNgrams(self.pooled, self.vocabulary_size, self.time_steps)
        return Counted(ngrams, ngrams.best_order(self.dev))

    def score(self, ngrams: PooledNgrams) -> list[Scores]:
        """Returns how each scored position of the test people went, by batches as PooledNgrams.positions gives them."""
        found: list[Scores] = []
        for contexts, targets in ngrams.positions(self.test.values()):
            nobody = np.zeros(len(targets), np.int64)  # whose they are, the caller knows
            found.append(dict(ngrams.score(contexts, ngrams.after(contexts), targets, nobody)))
        return found


class Baselines:
    """The answers to a job, from the process that works on it or else worked out when first asked for."""

    def __init__(self, job: Job, answer: Optional[Callable[[], Any]] = None):
        """Takes the job, and what waits for the next answer of its process, and raises if none comes."""
        self._job, self._answer = job, answer

    @functools.cached_property
    def counted(self) -> Counted:
        """The baselines."""
        return self._next(self._job.counted)

    @functools.cached_property
    def scores(self) -> list[Scores]:
        """As Job.score."""
        counted = self.counted  # the process gives it first
        return self._next(lambda: self._job.score(counted.ngrams))

    def _next(self, here: Callable[[], Any]) -> Any:
        if self._answer is not None:
            try:
                return self._answer()
            except (EOFError, OSError, pickle.UnpicklingError):
                _log.warning("the process that counts the n-gram baselines ended early: counting them here")
                self._answer = None
        return here()


@contextlib.contextmanager
def baselines_beside(data: ClientData, time_steps: int) -> Iterator[Baselines]:
    """Opens a context in which a process works on the baselines of a run's text; it ends with the context.

    On one core, and beside the main thread, with which Linux ends the process, nothing is started.

    Args:
      data: the run's text.
      time_steps: words of a sentence that are scored.

    Raises:
      WorkerError: `setpriv` is missing.
    """
    job = Job.of(data, time_steps)
    if len(os.sched_getaffinity(0)) < 2 or threading.current_thread() is not threading.main_thread():
        yield Baselines(job)
        return
    with _started(job) as process, futures.ThreadPoolExecutor(1) as reader:
        assert process.stdout is not None
        # Read as they come: the process goes on only when an answer is taken.
        answers = iter([reader.submit(pickle.load, process.stdout) for _ in range(2)])
        try:
            yield Baselines(job, lambda: next(answers).result())
        finally:
            process.kill()


@contextlib.contextmanager
def _started(job: Job) -> Iterator[subprocess.Popen]:
    command = ended_with_parent([sys.executable, "-m", "orchestrator.evaluation.baseline_process"])
    with os.fdopen(os.memfd_create("fedkeys-baselines"), "wb") as file:  # people's text stays in memory
        write_job(job, file)
        file.flush()
        file.seek(0)
        # In the packages' own folder, where no stranger's folder called models/ can stand in for ours.
        process = subprocess.Popen(
            command,
            cwd=_HOME,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=worker_environment(),
            start_new_session=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def write_job(job: Job, file: IO[bytes]) -> None:
    """Writes a job for `read_job`: a person's sentences as one array, since each costs as much as a hundred words."""
    people = [{person: _flat(own) for person, own in part.items()} for part in (job.dev, job.test)]
    pickle.dump((_flat(job.pooled), *people, job.vocabulary_size, job.time_steps), file, protocol=5)


def read_job(file: IO[bytes]) -> Job:
    """Returns the job that this process's parent wrote."""
    pooled, *people, vocabulary_size, time_steps = pickle.load(file)
    dev, test = ({person: sentences_of(*flat) for person, flat in part.items()} for part in people)
    return Job(sentences_of(*pooled), dev, test, vocabulary_size, time_steps)


def _flat(sentences: Sentences) -> tuple[NDArray[np.int32], list[int]]:
    return np.concatenate([np.zeros(0, np.int32), *sentences]), list(map(len, sentences))
