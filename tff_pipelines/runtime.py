"""A run's TFF workers together: a cohort's clients spread over them, and taken over from a worker that dies."""

from __future__ import annotations

import collections
import concurrent.futures as futures
import contextlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, Generic, Union

import numpy as np
import tree

from tff_pipelines.errors import WorkerDied, WorkerError
from tff_pipelines.worker_process import Place, end_workers, start_workers
from tff_pipelines.workers import Result, Worker, keep_large_buffers

_SMALL_BYTES = 32 << 20  # that calls ahead and their results may take together
_log = logging.getLogger(__name__)


@dataclass
class _Call(Generic[Result]):
    """Clients that a worker has been given."""

    values: list[object]
    worker: Worker
    results: futures.Future[Iterable[Result]]


class Runtime:
    """The workers of a run. Use as a context manager; the workers end with it, or with the process, however it ends."""

    def __init__(self, workers: Union[str, Sequence[Place]] = "auto"):
        """Starts or connects the workers.

        Args:
          workers: "auto" (one single-threaded worker a core), a number of local workers, or "host:port,host:port"; or
            those that start already.

        Raises:
          WorkerError: a worker does not start or answer.
          ValueError: `workers` is none of these.
        """
        keep_large_buffers()
        self.workers: list[Worker] = []
        places = start_workers(workers) if isinstance(workers, str) else workers
        try:
            for place in places:
                self.workers.append(Worker(place))
        except BaseException:
            self.close()
            end_workers(places)
            raise

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the local workers."""
        for worker in self.workers:
            worker.close()

    def invoke(self, computation: Callable[..., Result], *args: object) -> Result:
        """Returns computation(*args), which the first worker that lives has run.

        Raises:
          WorkerError: no worker is left.
        """
        while True:
            worker = self._first()
            try:
                return worker.submit(computation, *args).result()
            except WorkerDied as error:
                self._bury(worker, error)

    def map_clients(
        self,
        computation: Callable[..., Iterable[Result]],
        server_args: tuple[object, ...],
        client_values: Iterable[object],
        clients_per_call: int,
    ) -> Iterator[Result]:
        """Yields the members of computation(*server_args, [client values]), in the order of the client values.

        The cohort goes through in calls of `clients_per_call` clients. Its last calls have fewer, or half as many more,
        so that all workers end together. Two calls are ahead per worker, or more that are small, so that workers need
        not wait for a slow sum and memory does not grow with the cohort. The calls of a worker that dies are run again
        on the others.

        Args:
          computation: a TFF computation whose last parameter is placed at CLIENTS, as is its result.
          server_args: its other arguments.
          client_values: one value a client; may be lazy.
          clients_per_call: clients that one call holds in memory, >= 1; in a last one half as many more.

        Raises:
          WorkerError: no worker is left.
        """
        calls = _chunks(client_values, clients_per_call, len(self.workers))
        pending: collections.deque[_Call[Result]] = collections.deque()  # oldest first

        def fill(num_calls: int) -> None:
            for values in itertools.islice(calls, max(0, num_calls - len(pending))):
                worker = self._least_busy(pending)
                pending.append(_Call(values, worker, worker.submit(computation, *server_args, values)))

        fill(max(1, 2 * len(self.workers)))
        while pending:
            oldest = pending[0]
            try:
                results = list(oldest.results.result())
            except (WorkerDied, futures.CancelledError) as error:
                dead = oldest.worker
                self._bury(dead, error)
                for call in pending:
                    if call.worker is dead:
                        call.worker = self._least_busy(pending)
                        call.results = call.worker.submit(computation, *server_args, call.values)
                continue
            pending.popleft()
            # Before they are handed out: whoever takes them may be long in asking for the next.
            fill(max(2 * len(self.workers), _SMALL_BYTES // max(1, _num_bytes((oldest.values, results)))))
            yield from results

    def _first(self) -> Worker:
        if not self.workers:
            raise WorkerError(
                "no TFF worker is left: they ended while they had work; free memory, then go on with --resume"
            )
        return self.workers[0]

    def _least_busy(self, pending: Iterable[_Call[Result]]) -> Worker:
        self._first()
        load = collections.Counter(id(call.worker) for call in pending if not call.results.done())
        return min(self.workers, key=lambda worker: load[id(worker)])

    def _bury(self, worker: Worker, error: BaseException) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            worker.close()
            _log.warning("%s; its clients go to the %d workers left", error, len(self.workers))


def borrow(runtime: Union[Runtime, Sequence[Place], None], workers: str) -> contextlib.AbstractContextManager[Runtime]:
    """Opens a context with the runtime that is given, which stays open, or with a new one, whose workers end with it.

    Args:
      runtime: of whoever calls, or workers that start already, or None.
      workers: as Runtime takes them, if it has to start some.
    """
    if isinstance(runtime, Runtime):
        return contextlib.nullcontext(runtime)
    return Runtime(workers if runtime is None else runtime)


def _num_bytes(result: object) -> int:
    return sum(leaf.nbytes for leaf in tree.flatten(result) if isinstance(leaf, (np.ndarray, np.generic)))


def _chunks(values: Iterable[object], size: int, num_workers: int) -> Iterator[list[object]]:
    """Yields the values in lists of `size`, a list for each worker at a time; the last ones are as long as each other.

    They may be longer by a half: each call takes its time, however few clients it has.
    """
    if size < 1:
        raise ValueError(f"clients_per_call must be at least 1, got clients_per_call={size}")
    remaining, num_workers = iter(values), max(1, num_workers)
    most_last = (size + size // 2) * num_workers
    ahead = list(itertools.islice(remaining, most_last + 1))
    while len(ahead) > most_last:
        for _ in range(num_workers):
            yield ahead[:size]
            del ahead[:size]
        ahead += itertools.islice(remaining, most_last + 1 - len(ahead))
    for workers_left in range(num_workers, 0, -1):
        share = -(-len(ahead) // workers_left)
        if share:
            yield ahead[:share]
        del ahead[:share]
