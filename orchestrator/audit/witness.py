"""Sums by secure aggregation, and keeps what the server receives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.aggregator import AggregateResult, Cohort, DropStage, Vector
from orchestrator.rounds.build import build_aggregator
from orchestrator.settings.sections import AggregationConfig


class Witness:
    """Secure aggregation that keeps some clients' vectors, `plain`, and what the server received of them, `masked`."""

    name = "secagg"

    def __init__(self, settings: AggregationConfig, clients: Collection[ClientId]):
        secagg = msgspec.structs.replace(settings, aggregator="secagg")
        self._inner = build_aggregator(secagg, self._observe)
        self._clients = clients
        self.plain: dict[ClientId, Vector] = {}
        self.masked: dict[ClientId, Vector] = {}

    def sum(
        self,
        vectors: Iterable[tuple[ClientId, Vector]],
        cohort: Cohort,
        drops: Mapping[ClientId, DropStage],
    ) -> AggregateResult:
        """See orchestrator.aggregator.Aggregator."""
        return self._inner.sum(self._passing(vectors), cohort, drops)

    def _passing(self, vectors: Iterable[tuple[ClientId, Vector]]) -> Iterator[tuple[ClientId, Vector]]:
        for client_id, vector in vectors:
            if client_id in self._clients:
                self.plain[client_id] = vector.copy()
            yield client_id, vector

    def _observe(self, stage: str, client_id: ClientId, wire: bytes) -> None:
        from orchestrator.secagg import messages

        if stage == "upload" and client_id in self._clients:
            words = messages.decode(wire, messages.MaskedVector, len(wire)).words
            self.masked[client_id] = np.frombuffer(words, "<u4").astype(np.uint32)


def mask_upload(client: ClientId, round_num: int, vector: Vector, num_helpers: int) -> Vector:
    """Masks a vector as a client of the split sum does, and returns the words that its aggregator receives."""
    from orchestrator.split import messages
    from orchestrator.split.split_sum import SplitSum

    received: list[bytes] = []
    split_sum = SplitSum(num_helpers, lambda stage, client_id, wire: received.append(wire))
    split_sum.sum([(client, vector)], Cohort(round_num, (client,)), {})
    words = messages.decode(received[0], messages.Upload, len(received[0])).words
    return np.frombuffer(words, "<u4").astype(np.uint32)


def encrypt_upload(
    settings: AggregationConfig, client: ClientId, round_num: int, vector: Vector
) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Encrypts a vector as a client of the encrypted sum does.

    Returns the bytes of the ciphertexts, and for each slot its coefficient in their first polynomials.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from orchestrator.homomorphic import messages
    from orchestrator.homomorphic.client import ClientEncryptor
    from orchestrator.homomorphic.decryptor import SumDecryptor
    from orchestrator.homomorphic.parameters import BfvParameters

    parameters = BfvParameters(settings.poly_degree, settings.coeff_modulus_bits)
    own, decryptors = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    roster = {client: own.public_key().public_bytes_raw()}
    terms = SumDecryptor(parameters, decryptors, roster, min_contributions=2).open_round(round_num, vector.size)
    encryptor = ClientEncryptor(client, own, decryptors.public_key().public_bytes_raw(), 2, set())
    upload = encryptor.encrypt(terms, vector)
    ciphertexts = messages.decode(upload, messages.Upload, len(upload)).ciphertexts
    polynomials = [words[: parameters.poly_degree] for words in messages.split_ciphertexts(ciphertexts, parameters)]
    return np.frombuffer(ciphertexts, np.uint8), np.concatenate(polynomials)[: vector.size]
