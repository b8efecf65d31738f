"""Runs the split sum of a whole cohort in one process: the aggregator that training uses.

The parties are those of client.py, aggregator.py and helper.py, and every message passes between them as bytes, so the
sum, the refusals and the costs are those of a run over a network.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Optional

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from models.corpus import ClientId
from orchestrator.aggregator import (
    AggregateResult,
    Cohort,
    CostLedger,
    DropStage,
    StageCost,
    Vector,
    require_survivors,
)
from orchestrator.split import messages
from orchestrator.split.aggregator import MaskedAggregator
from orchestrator.split.client import SplitClient, Told
from orchestrator.split.helper import MaskHelper
from orchestrator.split.opened import OpenedRounds
from orchestrator.wire import encode

Observer = Callable[[str, ClientId, bytes], None]  # (stage, client, message that the aggregator received)


class SplitSum:
    """Sums vectors so that aggregator and helpers together learn the sum only, unless all of them collude.

    Clients' signing keys are made at their first round, in place of an enrolment. Each sum is a run of its own.

    Args:
      num_helpers: 1 to messages.MAX_HELPERS.
      observer: called with every message that the aggregator receives from a client.
    """

    name = "split"

    def __init__(self, num_helpers: int = 1, observer: Optional[Observer] = None) -> None:
        self._observer = observer
        self._private = [X25519PrivateKey.generate() for _ in range(num_helpers)]
        self._public = [key.public_key().public_bytes_raw() for key in self._private]
        self._identities: dict[ClientId, Ed25519PrivateKey] = {}

    def __repr__(self) -> str:
        return f"SplitSum({len(self._public)})"

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """See Aggregator.sum."""
        for member in cohort.members:
            if member not in self._identities:
                self._identities[member] = Ed25519PrivateKey.generate()
        roster = {member: self._identities[member].public_key().public_bytes_raw() for member in cohort.members}
        least, num_threads = max(1, cohort.min_survivors), os.cpu_count() or 1
        with ExitStack() as stack:  # each sum is a run of its own, so no record of another is asked for
            opened = [stack.enter_context(closing(OpenedRounds())) for _ in self._private]
            helpers = [
                MaskHelper(private, self._public, roster, least, own, num_threads)
                for private, own in zip(self._private, opened)
            ]
            round_ = _Round(self._public, helpers, self._identities, roster, cohort, self._observer)
            for client_id, vector in vectors:
                if drops.get(client_id, DropStage.NONE) not in (DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD):
                    round_.take(client_id, vector)
            return round_.result()


class _Round:
    """One round: one client after the other, the aggregator, the helpers at its end, and the bill."""

    def __init__(
        self,
        public: Sequence[bytes],
        helpers: Sequence[MaskHelper],
        identities: Mapping[ClientId, Ed25519PrivateKey],
        roster: Mapping[ClientId, bytes],
        cohort: Cohort,
        observer: Optional[Observer],
    ) -> None:
        self._public, self._helpers, self._identities, self._roster = public, helpers, identities, roster
        self._cohort, self._observer, self._min_contributions = cohort, observer, max(1, cohort.min_survivors)
        self._run, self._max_staleness = secrets.token_bytes(32), max(cohort.staleness.values(), default=0)
        self._terms = b""  # until a vector tells the length
        self._aggregator: Optional[MaskedAggregator] = None
        self._upload_bytes = 0
        self._cpu_s: dict[str, float] = defaultdict(float)

    def take(self, client_id: ClientId, vector: Vector) -> None:
        """Has a client mask its vector, and the aggregator add it."""
        aggregator = self._aggregator or self._begin(vector.size)
        client = SplitClient(client_id, self._identities[client_id], self._public, self._min_contributions, set())
        with self._timed("mask"):
            told = Told(self._run, self._version(client_id), max_staleness=self._max_staleness)
            upload = client.mask(self._terms, vector, told)
        if self._observer is not None:
            self._observer("upload", client_id, upload)
        with self._timed("check"):
            checked = aggregator.check(upload)
        with self._timed("add"):
            aggregator.add(checked)
        self._upload_bytes += len(upload)

    def result(self) -> AggregateResult:
        """Has the helpers open the masks of the list.

        Raises:
          BelowThreshold: fewer vectors came than the cohort's minimum.
        """
        survivors = self._aggregator.members if self._aggregator is not None else ()
        require_survivors(survivors, self._cohort)
        assert self._aggregator is not None
        with self._timed("ask"):
            requests = self._aggregator.requests()
        with self._timed("open"):
            answers = [helper.open(request) for helper, request in zip(self._helpers, requests)]
        with self._timed("ask"):
            total = self._aggregator.finish(answers)
        cost = self._ledger(len(survivors), sum(map(len, requests)), sum(map(len, answers)))
        return AggregateResult(total, survivors, cost)

    def _version(self, client_id: ClientId) -> int:
        return self._cohort.round_num - self._cohort.staleness.get(client_id, 0)

    def _begin(self, num_slots: int) -> MaskedAggregator:
        terms = messages.RoundTerms(
            run=self._run,
            round_num=self._cohort.round_num,
            group=0,
            max_staleness=self._max_staleness,
            num_slots=num_slots,
            min_contributions=self._min_contributions,
            helpers=messages.helpers_digest(self._public),
        )
        self._terms = encode(terms)
        agreed = dict.fromkeys(map(self._version, self._cohort.members), messages.NOTHING_AGREED)
        self._aggregator = MaskedAggregator(terms, len(self._public), self._roster, agreed)
        return self._aggregator

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.process_time()  # of all threads: a helper uses several
        yield
        self._cpu_s[stage] += time.process_time() - started

    def _ledger(self, num: int, request_bytes: int, answer_bytes: int) -> CostLedger:
        """The bill of `num` survivors, from the bytes of the lists for all helpers and of their answers."""
        terms_bytes, cpu_s = len(self._terms), self._cpu_s
        return CostLedger(
            per_client={
                "terms": StageCost(bytes_down=terms_bytes),
                "mask": StageCost(cpu_s=cpu_s["mask"] / num),
                "upload": StageCost(bytes_up=self._upload_bytes / num),
            },
            server={
                "terms": StageCost(bytes_up=num * terms_bytes),
                "check": StageCost(bytes_down=self._upload_bytes, cpu_s=cpu_s["check"]),
                "add": StageCost(cpu_s=cpu_s["add"]),
                "ask": StageCost(request_bytes, answer_bytes, cpu_s["ask"]),
            },
            helpers={"open": StageCost(answer_bytes, request_bytes, cpu_s["open"])},
        )
