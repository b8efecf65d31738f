"""What one client that lies can do to the encrypted sum."""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.corpus import ClientId
from orchestrator.homomorphic import messages as encrypted
from orchestrator.homomorphic.aggregator import CiphertextAggregator
from orchestrator.homomorphic.client import ClientEncryptor
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.wire import encode


def test_the_limit_of_the_encrypted_sum_one_client_that_lies_can_have_the_total_carry_the_secret_key():
    """Aggregator and decryptor follow the protocol. One client's first ciphertext is no encryption: with c0 = 0
    and c1 = q / 4 it decrypts to 2**30 times the secret key. Whoever sees the total and kept the uploads reads each.
    The second, where the slots are that must be zero, is honest.

    Nothing short of a proof that uploads are well formed prevents it, so no client may collude with the aggregator.
    """
    parameters = BfvParameters(2048, 54)
    degree, modulus = parameters.poly_degree, parameters.coeff_modulus
    names = [ClientId(f"client-{i}") for i in range(3)]
    identities = {name: Ed25519PrivateKey.generate() for name in names}
    roster = {name: identity.public_key().public_bytes_raw() for name, identity in identities.items()}
    signing_key = Ed25519PrivateKey.generate()
    pinned = signing_key.public_key().public_bytes_raw()
    decryptor = SumDecryptor(parameters, signing_key, roster, min_contributions=3)
    terms = decryptor.open_round(round_num=1, dim=degree)
    aggregator = CiphertextAggregator(terms, pinned, roster)
    vectors = np.random.default_rng(0).integers(-(2**20), 2**20, (2, degree), np.int32).view(np.uint32)
    uploads = []
    for name, vector in zip(names, vectors):
        uploads.append(ClientEncryptor(name, identities[name], pinned, 2, set()).encrypt(terms, vector))
        aggregator.add(aggregator.check(uploads[-1]))

    crafted = np.zeros(2 * degree, np.uint64)
    crafted[degree] = modulus // 4
    honest = ClientEncryptor(names[2], identities[names[2]], pinned, 2, set()).encrypt(
        terms, np.zeros(degree, np.uint32)
    )
    zeros = encrypted.decode(honest, encrypted.Upload, len(honest)).ciphertexts[parameters.ciphertext_bytes :]
    body = encrypted.pack_words(crafted, parameters) + zeros
    digest = encrypted.decode(terms, encrypted.RoundTerms, len(terms)).digest
    signed = encrypted.contribution_bytes(digest, names[2], hashlib.sha256(body).digest())
    lie = encrypted.Upload(digest, names[2], identities[names[2]].sign(signed), memoryview(body))
    aggregator.add(aggregator.check(encode(lie)))
    total = decryptor.decrypt(*aggregator.finish())

    key = (total.view(np.int32).astype(np.int64) + 2**29) // 2**30  # the true sum is far below 2**29
    key[key == 2] = -2
    assert set(key) == {-1, 0, 1}
    for upload, vector in zip(uploads, vectors):
        first = encrypted.decode(upload, encrypted.Upload, len(upload)).ciphertexts[: parameters.ciphertext_bytes]
        words = encrypted.unpack_words(first, parameters)
        plain, second = words[:degree].astype(object), words[degree:].astype(object)
        for place in np.flatnonzero(key):  # c0 + c1 * key modulo q and X**degree + 1
            plain += key[place] * np.concatenate([-second[degree - place :], second[: degree - place]])
        slots = [(value % modulus * 2**32 + modulus // 2) // modulus % 2**32 for value in plain]
        assert slots == vector.tolist()
