"""The encrypted sum as an Aggregator: the three roles in one process, exchanging the bytes of the wire."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Callable, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
from orchestrator.homomorphic.aggregator import CiphertextAggregator
from orchestrator.homomorphic.client import ClientEncryptor
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.parameters import DEFAULT_PARAMETERS, BfvParameters

_T = TypeVar("_T")


class EncryptedSum:
    """Sums vectors under encryption. Equal to PlainSum bit for bit, for any uint32 values.

    Clients' signing keys are made at their first round, in place of an enrolment.
    """

    name = "encrypted"

    def __init__(self, parameters: BfvParameters = DEFAULT_PARAMETERS) -> None:
        self._parameters = parameters
        self._decryptor_identity = Ed25519PrivateKey.generate()
        self._identities: dict[ClientId, Ed25519PrivateKey] = {}

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """See Aggregator.sum.

        Raises:
          TooManyClients: the cohort is larger than the noise leaves room for; no vector has been asked for then.
        """
        self._parameters.require_room(len(cohort.members))
        min_contributions = max(1, cohort.min_survivors)
        roster = {client_id: _public(self._identity(client_id)) for client_id in cohort.members}
        decryptor_identity = _public(self._decryptor_identity)
        decryptor = SumDecryptor(self._parameters, self._decryptor_identity, roster, min_contributions)
        cpu = _Stopwatch()

        survivors: list[ClientId] = []
        upload_bytes = 0
        terms = b""
        aggregator = None
        for client_id, vector in vectors:
            if drops.get(client_id, DropStage.NONE) in (DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD):
                continue
            if aggregator is None:
                terms = cpu.time("key", decryptor.open_round, cohort.round_num, len(vector))
                aggregator = CiphertextAggregator(terms, decryptor_identity, roster)
            client = ClientEncryptor(client_id, self._identity(client_id), decryptor_identity, min_contributions, set())
            upload = cpu.time("encrypt", client.encrypt, terms, vector)
            checked = cpu.time("check", aggregator.check, upload)
            cpu.time("add", aggregator.add, checked)
            survivors.append(client_id)
            upload_bytes += len(upload)
        require_survivors(survivors, cohort)
        assert aggregator is not None

        total, transcript = cpu.time("forward", aggregator.finish)
        summed = cpu.time("decrypt", decryptor.decrypt, total, transcript)
        num, sum_bytes = len(survivors), len(total) + len(transcript)
        return AggregateResult(
            total=summed,
            survivors=tuple(survivors),
            cost=CostLedger(
                per_client={
                    "terms": StageCost(bytes_down=len(terms)),
                    "encrypt": StageCost(cpu_s=cpu.seconds["encrypt"] / num),
                    "upload": StageCost(bytes_up=upload_bytes / num),
                },
                server={
                    "terms": StageCost(bytes_down=len(terms), bytes_up=num * len(terms)),
                    "check": StageCost(bytes_down=upload_bytes, cpu_s=cpu.seconds["check"]),
                    "add": StageCost(cpu_s=cpu.seconds["add"]),
                    "forward": StageCost(sum_bytes, summed.nbytes, cpu.seconds["forward"]),
                },
                decryptor={
                    "key": StageCost(bytes_up=len(terms), cpu_s=cpu.seconds["key"]),
                    "decrypt": StageCost(summed.nbytes, sum_bytes, cpu.seconds["decrypt"]),
                },
            ),
        )

    def _identity(self, client_id: ClientId) -> Ed25519PrivateKey:
        if client_id not in self._identities:
            self._identities[client_id] = Ed25519PrivateKey.generate()
        return self._identities[client_id]


def _public(identity: Ed25519PrivateKey) -> bytes:
    return identity.public_key().public_bytes_raw()


class _Stopwatch:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def time(self, stage: str, work: Callable[..., _T], *args: Any) -> _T:
        started = time.process_time()
        result = work(*args)
        self.seconds[stage] += time.process_time() - started
        return result
