"""The encrypted sum as an Aggregator: the three roles in one process, exchanging the bytes of the wire."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Optional

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
        identities = {client_id: self._identity(client_id) for client_id in cohort.members}
        round_ = _Round(self._parameters, self._decryptor_identity, identities, cohort)
        for client_id, vector in vectors:
            if drops.get(client_id, DropStage.NONE) not in (DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD):
                round_.take(client_id, vector)
        return round_.result()

    def _identity(self, client_id: ClientId) -> Ed25519PrivateKey:
        if client_id not in self._identities:
            self._identities[client_id] = Ed25519PrivateKey.generate()
        return self._identities[client_id]


class _Round:
    """One round: the decryptor, one client after the other, the aggregator between them, and the bill."""

    def __init__(
        self,
        parameters: BfvParameters,
        decryptor_identity: Ed25519PrivateKey,
        identities: Mapping[ClientId, Ed25519PrivateKey],
        cohort: Cohort,
    ) -> None:
        self._cohort, self._identities = cohort, identities
        self._min_contributions = max(1, cohort.min_survivors)
        self._roster = {client_id: _public(identity) for client_id, identity in identities.items()}
        self._decryptor_public = _public(decryptor_identity)
        self._decryptor = SumDecryptor(parameters, decryptor_identity, self._roster, self._min_contributions)
        self._terms = b""  # until a vector tells the length
        self._aggregator: Optional[CiphertextAggregator] = None
        self._survivors: list[ClientId] = []
        self._upload_bytes = 0
        self._cpu_s: dict[str, float] = defaultdict(float)

    def take(self, client_id: ClientId, vector: Vector) -> None:
        """Has a client encrypt its vector, and the aggregator add it."""
        aggregator = self._aggregator or self._open(len(vector))
        identity = self._identities[client_id]
        client = ClientEncryptor(client_id, identity, self._decryptor_public, self._min_contributions, set())
        with self._timed("encrypt"):
            upload = client.encrypt(self._terms, vector)
        with self._timed("check"):
            checked = aggregator.check(upload)
        with self._timed("add"):
            aggregator.add(checked)
        self._survivors.append(client_id)
        self._upload_bytes += len(upload)

    def result(self) -> AggregateResult:
        """Has the decryptor open the sum; it forgets the key.

        Raises:
          BelowThreshold: fewer vectors came than the cohort's minimum.
        """
        require_survivors(self._survivors, self._cohort)
        assert self._aggregator is not None
        with self._timed("forward"):
            total, transcript = self._aggregator.finish()
        with self._timed("decrypt"):
            summed = self._decryptor.decrypt(total, transcript)
        cost = self._ledger(len(total) + len(transcript), summed.nbytes)
        return AggregateResult(total=summed, survivors=tuple(self._survivors), cost=cost)

    def _open(self, num_slots: int) -> CiphertextAggregator:
        with self._timed("key"):
            self._terms = self._decryptor.open_round(self._cohort.round_num, num_slots)
        self._aggregator = CiphertextAggregator(self._terms, self._decryptor_public, self._roster)
        return self._aggregator

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self._cpu_s[stage] += time.process_time() - started

    def _ledger(self, sum_bytes: int, opened_bytes: int) -> CostLedger:
        """Returns the costs, from the bytes of the encrypted sum with its transcript and those of the opened one."""
        num, terms_bytes, cpu_s = len(self._survivors), len(self._terms), self._cpu_s
        return CostLedger(
            per_client={
                "terms": StageCost(bytes_down=terms_bytes),
                "encrypt": StageCost(cpu_s=cpu_s["encrypt"] / num),
                "upload": StageCost(bytes_up=self._upload_bytes / num),
            },
            server={
                "terms": StageCost(bytes_down=terms_bytes, bytes_up=num * terms_bytes),
                "check": StageCost(bytes_down=self._upload_bytes, cpu_s=cpu_s["check"]),
                "add": StageCost(cpu_s=cpu_s["add"]),
                "forward": StageCost(sum_bytes, opened_bytes, cpu_s["forward"]),
            },
            decryptor={
                "key": StageCost(bytes_up=terms_bytes, cpu_s=cpu_s["key"]),
                "decrypt": StageCost(opened_bytes, sum_bytes, cpu_s["decrypt"]),
            },
        )


def _public(identity: Ed25519PrivateKey) -> bytes:
    return identity.public_key().public_bytes_raw()
