"""A round of the encrypted sum, its three parties at hand."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec
import numpy as np
import seal
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, PlainSum
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.aggregator import CiphertextAggregator
from orchestrator.homomorphic.client import ClientEncryptor
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.encrypted_sum import EncryptedSum
from orchestrator.homomorphic.errors import (
    HomomorphicError,
)
from orchestrator.homomorphic.parameters import PLAIN_MODULUS, BfvParameters
from orchestrator.wire import encode

SMALL = BfvParameters(2048, 54)
TINY_ROOM = BfvParameters(2048, 48)  # two clients and no more
FEW_ROOM = BfvParameters(2048, 50)
NUM_FUZZED = 400  # inputs per decoder
NAMES = tuple(ClientId(f"client-{i}") for i in range(4))


def public(identity: Ed25519PrivateKey) -> bytes:
    return identity.public_key().public_bytes_raw()


class Round(NamedTuple):
    """One open round with everybody's keys."""

    identities: dict[ClientId, Ed25519PrivateKey]
    roster: dict[ClientId, bytes]
    decryptor_identity: Ed25519PrivateKey
    decryptor: SumDecryptor
    terms: bytes
    dim: int

    def client(
        self, name: ClientId, min_contributions: int = 2, agreed: bytes = messages.NOTHING_AGREED
    ) -> ClientEncryptor:
        pinned = public(self.decryptor_identity)
        return ClientEncryptor(name, self.identities[name], pinned, min_contributions, set(), agreed)

    def aggregator(self, agreed: bytes = messages.NOTHING_AGREED) -> CiphertextAggregator:
        return CiphertextAggregator(self.terms, public(self.decryptor_identity), self.roster, agreed)

    def upload(self, name: ClientId, value: int = 1) -> bytes:
        return self.client(name).encrypt(self.terms, np.full(self.dim, value, np.uint32))

    def total(self, names=NAMES) -> tuple[bytes, bytes]:
        aggregator = self.aggregator()
        for value, name in enumerate(names, 1):
            aggregator.add(aggregator.check(self.upload(name, value)))
        return aggregator.finish()

    def signed_upload(self, name: ClientId, ciphertexts: bytes) -> bytes:
        """An upload of any ciphertexts, rightly signed."""
        digest = messages.decode(self.terms, messages.RoundTerms, 1 << 20).digest
        signed = messages.contribution_bytes(digest, name, hashlib.sha256(ciphertexts).digest())
        signature = self.identities[name].sign(signed)
        return encode(messages.Upload(digest, name, signature, memoryview(ciphertexts)))


def open_round(parameters: BfvParameters = SMALL, dim: int = 5, min_contributions: int = 2) -> Round:
    identities = {name: Ed25519PrivateKey.generate() for name in NAMES}
    roster = {name: public(identity) for name, identity in identities.items()}
    identity = Ed25519PrivateKey.generate()
    decryptor = SumDecryptor(parameters, identity, roster, min_contributions)
    return Round(identities, roster, identity, decryptor, decryptor.open_round(7, dim), dim)


def replace(message: messages.Message, **changes) -> bytes:
    return encode(msgspec.structs.replace(message, **changes))


def cohort_of(num: int, min_survivors: int = 1) -> Cohort:
    return Cohort(3, tuple(ClientId(f"c{i}") for i in range(num)), min_survivors)


def both_sums(vectors, drops=None, min_survivors: int = 1, parameters: BfvParameters = SMALL):
    cohort = cohort_of(len(vectors), min_survivors)
    arrived = list(zip(cohort.members, vectors))
    drops = drops or {}
    return EncryptedSum(parameters).sum(arrived, cohort, drops), PlainSum().sum(arrived, cohort, drops)


def seal_context(parameters: BfvParameters) -> seal.SEALContext:
    encryption = seal.EncryptionParameters(seal.scheme_type.bfv)
    encryption.set_poly_modulus_degree(parameters.poly_degree)
    encryption.set_coeff_modulus(seal.CoeffModulus.Create(parameters.poly_degree, [parameters.coeff_modulus_bits]))
    encryption.set_plain_modulus(PLAIN_MODULUS)
    return seal.SEALContext(encryption)


def seal_words(ciphertext: seal.Ciphertext) -> np.ndarray:
    return np.frombuffer(ciphertext.to_string()[-16 * SMALL.poly_degree :], "<u8")


REFUSALS = (HomomorphicError, BelowThreshold)
