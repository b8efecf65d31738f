"""The parameters are secure, and leave the room for noise that they promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pytest
import seal
from encrypted_round import FEW_ROOM, NAMES, SMALL, TINY_ROOM, both_sums, cohort_of, open_round, replace

from orchestrator.homomorphic import messages
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.encrypted_sum import EncryptedSum
from orchestrator.homomorphic.errors import (
    InsecureParameters,
    TooManyClients,
)
from orchestrator.homomorphic.keys import generate_keys
from orchestrator.homomorphic.parameters import MAX_COEFF_MODULUS_BITS_128, PLAIN_MODULUS, BfvParameters


def test_security_table_is_the_one_that_seal_has():
    for degree, bits in MAX_COEFF_MODULUS_BITS_128.items():
        assert bits == seal.CoeffModulus.MaxBitCount(degree, seal.sec_level_type.tc128)


@pytest.mark.parametrize(
    ("poly_degree", "bits"), [(1024, 40), (2048, 55), (3000, 40), (4097, 56), (0, 56), (65536, 56)]
)
def test_less_than_128_bits_of_security_is_refused(poly_degree, bits):
    with pytest.raises(InsecureParameters, match=f"coeff_modulus_bits={bits} at poly_degree={poly_degree}"):
        BfvParameters(poly_degree, bits)


@pytest.mark.parametrize("bits", [0, 33, 61, 109])
def test_a_modulus_that_no_word_or_no_plaintext_fits_is_refused(bits):
    with pytest.raises(ValueError, match=f"coeff_modulus_bits must lie in 34..60, got {bits}"):
        BfvParameters(4096, bits)


@pytest.mark.parametrize("parameters", [BfvParameters(), SMALL, FEW_ROOM, BfvParameters(8192, 60)])
def test_modulus_is_the_prime_that_seal_would_choose(parameters):
    (chosen,) = seal.CoeffModulus.Create(parameters.poly_degree, [parameters.coeff_modulus_bits])
    assert parameters.coeff_modulus == chosen.value()


def test_more_clients_than_the_noise_allows_are_refused_before_any_vector_is_asked_for():
    def vectors() -> Iterator[NoReturn]:
        raise AssertionError("asked for a vector")
        yield

    assert TINY_ROOM.max_clients == 2
    with pytest.raises(TooManyClients, match="3 clients, .* adds at most 2: raise coeff_modulus_bits"):
        EncryptedSum(TINY_ROOM).sum(vectors(), cohort_of(3), {})


def test_the_aggregator_and_the_decryptor_refuse_too_many_on_their_own():
    round_ = open_round(TINY_ROOM)
    aggregator = round_.aggregator()
    checked = [aggregator.check(round_.upload(name)) for name in NAMES[:3]]
    aggregator.add(checked[0])
    aggregator.add(checked[1])
    with pytest.raises(TooManyClients):
        aggregator.add(checked[2])
    total, wire = aggregator.finish()
    transcript = messages.decode(wire, messages.Transcript, 1 << 20)
    contributions = [*transcript.contributions, checked[2].contribution]
    with pytest.raises(TooManyClients):
        round_.decryptor.decrypt(total, replace(transcript, contributions=contributions))
    with pytest.raises(TooManyClients):
        SumDecryptor(TINY_ROOM, round_.decryptor_identity, round_.roster, min_contributions=3)


def test_the_largest_cohort_that_is_allowed_decrypts_exactly():
    rng = np.random.default_rng(2)
    num = FEW_ROOM.max_clients
    assert num == 34
    vectors = [rng.integers(0, 2**32, 4096, np.uint32) for _ in range(num)]
    encrypted, plain = both_sums(vectors, parameters=FEW_ROOM)
    np.testing.assert_array_equal(encrypted.total, plain.total)


def test_without_room_for_the_noise_a_sum_is_garbage():
    """The room check is needed: parameters that are secure and decrypt nothing rightly do exist."""
    cramped = BfvParameters(2048, 38)
    assert cramped.max_clients == 0
    secret_key, public_key = generate_keys(cramped)
    slots = np.arange(2048, dtype=np.uint32)
    words = messages.unpack_words(public_key.encrypt(slots), cramped)
    assert not np.array_equal(secret_key.decrypt(words), slots)


def test_noise_stays_inside_the_bound_that_the_room_is_computed_from():
    """The noise itself, by the secret key and exact integers. 16,384 coefficients; one false alarm in 2**64 runs."""
    secret_key, public_key = generate_keys(SMALL)
    degree, modulus = SMALL.poly_degree, SMALL.coeff_modulus
    unit = np.zeros(2 * degree, np.uint64)
    unit[degree] = modulus // PLAIN_MODULUS  # c1 = q/t: decrypts to the secret key itself
    key = secret_key.decrypt(unit).view(np.int32).tolist()
    assert set(key) == {-1, 0, 1}

    def noise() -> np.ndarray:
        words = messages.unpack_words(public_key.encrypt(np.zeros(1, np.uint32)), SMALL)
        # c0 + c1 * key in Z_q[X] / (X**degree + 1), as one product of two long integers
        pad = 10
        long_c1 = int.from_bytes(b"".join(int(word).to_bytes(pad, "little") for word in words[degree:]), "little")
        product = 0
        for sign in (1, -1):
            bits = b"".join(int(value == sign).to_bytes(pad, "little") for value in key)
            raw = (long_c1 * int.from_bytes(bits, "little")).to_bytes(2 * degree * pad, "little")
            terms = [int.from_bytes(raw[i : i + pad], "little") for i in range(0, len(raw), pad)]
            product = product + sign * (np.array(terms[:degree], object) - np.array(terms[degree:], object))
        residue = (words[:degree].astype(object) + product) % modulus
        return np.where(residue > modulus // 2, residue - modulus, residue).astype(np.float64)

    sample = np.concatenate([noise() for _ in range(8)])
    # u uniform on {-1, 0, 1} against an error of variance 10.5, twice, and that error once more
    expected = np.sqrt(10.5 * (2 * degree * 2 / 3 + 1))
    assert sample.std() == pytest.approx(expected, rel=0.1)
    assert np.abs(sample).max() < 21 * (2 * degree + 1)
