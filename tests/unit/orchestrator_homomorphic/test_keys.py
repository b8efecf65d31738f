"""The cipher agrees with the library that it is built on, and its secrets stay where they are."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import seal
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from encrypted_round import NAMES, SMALL, open_round, seal_context, seal_words
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.homomorphic import messages
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.errors import (
    MalformedMessage,
)
from orchestrator.homomorphic.keys import PublicKey, SecretKey, generate_keys
from orchestrator.homomorphic.parameters import BfvParameters


def test_slots_are_the_coefficients_of_seals_polynomials(round_):
    context = seal_context(SMALL)
    generator = seal.KeyGenerator(context)
    encryptor = seal.Encryptor(context, generator.create_public_key())
    packed = messages.pack_words(
        np.frombuffer(generator.secret_key().to_string()[-8 * SMALL.poly_degree :], "<u8"), SMALL
    )
    slots = SecretKey(SMALL, packed).decrypt(seal_words(encryptor.encrypt(seal.Plaintext("FFFFFFFFx^3 + 5x^1 + 7"))))
    assert slots[:5].tolist() == [7, 5, 0, 2**32 - 1, 0]
    assert not slots[5:].any()


def test_adding_uploads_is_what_seals_evaluator_does():
    context = seal_context(SMALL)
    encryptor = seal.Encryptor(context, seal.KeyGenerator(context).create_public_key())
    ciphertexts = [encryptor.encrypt(seal.Plaintext(f"{value}x^9 + 1")) for value in (3, 4, 5)]
    by_seal = seal.Evaluator(context).add_many(ciphertexts)

    round_ = open_round()
    aggregator = round_.aggregator()
    for name, ciphertext in zip(NAMES, ciphertexts):
        packed = messages.pack_words(seal_words(ciphertext), SMALL)
        aggregator.add(aggregator.check(round_.signed_upload(name, packed)))
    total, _ = aggregator.finish()
    np.testing.assert_array_equal(messages.unpack_words(total, SMALL), seal_words(by_seal))


@given(
    words=st.lists(st.integers(0, 2**50 - 1), min_size=1, max_size=20),
    bits=st.sampled_from([50, 54, 56, 57, 60]),
)
def test_words_survive_packing(words, bits):
    parameters = BfvParameters(4096, bits)
    packed = messages.pack_words(np.array(words, np.uint64), parameters)
    assert len(packed) == len(words) * parameters.word_bytes
    assert messages.unpack_words(packed, parameters).tolist() == words


def test_a_public_key_survives_its_bytes():
    secret_key, public_key = generate_keys(SMALL)
    again = PublicKey(SMALL, public_key.to_bytes())
    assert again.to_bytes() == public_key.to_bytes()
    ciphertext = again.encrypt(np.array([1, 2**32 - 1], np.uint32))
    assert secret_key.decrypt(messages.unpack_words(ciphertext, SMALL))[:3].tolist() == [1, 2**32 - 1, 0]


@pytest.mark.parametrize(("key_type", "num_polynomials"), [(PublicKey, 2), (SecretKey, 1)])
def test_bytes_that_are_no_key_are_refused(key_type, num_polynomials):
    packed = messages.pack_words(np.ones(num_polynomials * SMALL.poly_degree, np.uint64), SMALL)
    for wrong in (b"", packed[:-1], packed + b"\0", b"\xff" * len(packed)):
        with pytest.raises(MalformedMessage):
            key_type(SMALL, wrong)
    with pytest.raises(MalformedMessage):
        key_type(BfvParameters(), packed)


def test_a_ciphertext_looks_random_and_never_repeats():
    """Chi-square over 196,608 bytes, the top one of each word left out; one false alarm in 10**6 runs."""
    public_key = generate_keys(SMALL)[1]
    slots = np.zeros(2048, np.uint32)
    ciphertexts = [public_key.encrypt(slots) for _ in range(8)]
    assert len(set(ciphertexts)) == len(ciphertexts)
    low = np.frombuffer(b"".join(ciphertexts), np.uint8).reshape(-1, SMALL.word_bytes)[:, :-1]
    counts = np.bincount(low.reshape(-1), minlength=256)
    assert counts.sum() == 196_608
    expected = 196_608 / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 377.1  # chi-square with 255 degrees of freedom exceeds this once in 10**6


def reachable(root: object) -> list[object]:
    """All that an object holds, directly or not; code and classes left out."""
    code = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
    found: dict[int, object] = {}
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) not in found and not isinstance(thing, code):
            found[id(thing)] = thing
            todo += gc.get_referents(thing)
    return list(found.values())


def test_no_secret_key_is_reachable_from_the_aggregator(round_):
    aggregator = round_.aggregator()
    for name in NAMES:
        aggregator.add(aggregator.check(round_.upload(name)))
    for thing in reachable(aggregator):
        assert not isinstance(thing, (SecretKey, PublicKey, SumDecryptor, Ed25519PrivateKey))
        assert type(thing).__module__ != "seal"
    assert any(isinstance(thing, SecretKey) for thing in reachable(round_.decryptor))  # the search does find keys


def test_the_aggregator_runs_without_the_library():
    program = (
        "import sys, orchestrator.homomorphic.aggregator\n"
        "assert 'numpy' in sys.modules\n"
        "assert not {'seal', 'orchestrator.homomorphic.keys', 'orchestrator.homomorphic.decryptor'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_the_secret_key_is_not_printed_pickled_or_copied(round_):
    secret_key = generate_keys(SMALL)[0]
    assert repr(secret_key) == str(secret_key) == "SecretKey(...)"
    assert repr(round_.decryptor) == "SumDecryptor(key for one sum)"
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            duplicate(secret_key)
    with pytest.raises(TypeError):
        pickle.dumps(round_.decryptor)
