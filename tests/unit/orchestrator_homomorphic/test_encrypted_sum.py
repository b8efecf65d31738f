"""The encrypted sum: equal to the plain sum, secure parameters, what each role refuses."""

from __future__ import annotations

import copy
import gc
import hashlib
import pickle
import subprocess
import sys
import tracemalloc
import types
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import msgspec
import numpy as np
import pytest
import seal
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, DropStage, PlainSum
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.aggregator import CheckedUpload, CiphertextAggregator
from orchestrator.homomorphic.client import ClientEncryptor
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.encrypted_sum import EncryptedSum
from orchestrator.homomorphic.errors import (
    BadSignature,
    DuplicateContribution,
    ForeignRound,
    HomomorphicError,
    InsecureParameters,
    KeySpent,
    MalformedMessage,
    SpoiledSum,
    TooManyClients,
    UnknownClient,
)
from orchestrator.homomorphic.keys import PublicKey, SecretKey, generate_keys
from orchestrator.homomorphic.parameters import MAX_COEFF_MODULUS_BITS_128, PLAIN_MODULUS, BfvParameters
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


@pytest.fixture
def round_() -> Round:
    return open_round()


def replace(message: messages.Message, **changes) -> bytes:
    return encode(msgspec.structs.replace(message, **changes))


def cohort_of(num: int, min_survivors: int = 1) -> Cohort:
    return Cohort(3, tuple(ClientId(f"c{i}") for i in range(num)), min_survivors)


def both_sums(vectors, drops=None, min_survivors: int = 1, parameters: BfvParameters = SMALL):
    cohort = cohort_of(len(vectors), min_survivors)
    arrived = list(zip(cohort.members, vectors))
    drops = drops or {}
    return EncryptedSum(parameters).sum(arrived, cohort, drops), PlainSum().sum(arrived, cohort, drops)


# --- the sum -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    dim=st.one_of(st.integers(1, 50), st.sampled_from([2047, 2048, 2049, 4096, 4097])),
    num=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    stages=st.lists(st.sampled_from(list(DropStage)), min_size=5, max_size=5),
)
def test_equals_the_plain_sum_bit_for_bit(dim, num, seed, stages):
    rng = np.random.default_rng(seed)
    extremes = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    vectors = [
        np.where(rng.random(dim) < 0.5, rng.choice(extremes, dim), rng.integers(0, 2**32, dim, np.uint32))
        for _ in range(num)
    ]
    drops = {ClientId(f"c{i}"): stage for i, stage in enumerate(stages) if i > 0}  # one always stays
    encrypted, plain = both_sums(vectors, drops)
    assert encrypted.total.dtype == np.uint32
    np.testing.assert_array_equal(encrypted.total, plain.total)
    assert encrypted.survivors == plain.survivors


def test_wraps_modulo_2_to_the_32_like_twos_complement():
    signed = np.array([[-1, -(2**31), 5, 0], [1, -(2**31), -7, 0], [-3, 1, 1, 0]], np.int32)
    encrypted, _ = both_sums(list(signed.view(np.uint32)))
    assert encrypted.total.view(np.int32).tolist() == [-3, 1, -1, 0]


def test_default_parameters_sum_exactly_too():
    rng = np.random.default_rng(1)
    vectors = [rng.integers(0, 2**32, 5000, np.uint32) for _ in range(3)]
    encrypted, plain = both_sums(vectors, parameters=BfvParameters())
    np.testing.assert_array_equal(encrypted.total, plain.total)


@pytest.mark.slow
def test_a_thousand_clients_sum_exactly():
    rng = np.random.default_rng(4)
    encrypted, plain = both_sums(list(rng.integers(0, 2**32, (1000, 10), np.uint32)), min_survivors=1000)
    np.testing.assert_array_equal(encrypted.total, plain.total)


def test_too_few_survivors_stop_the_round():
    drops = {ClientId("c0"): DropStage.BEFORE_UPLOAD, ClientId("c1"): DropStage.BEFORE_SHARES}
    vectors = [np.ones(3, np.uint32)] * 3
    with pytest.raises(BelowThreshold, match="1 of 3 clients are left, 2 needed"):
        both_sums(vectors, drops, min_survivors=2)
    with pytest.raises(BelowThreshold):
        EncryptedSum(SMALL).sum([], cohort_of(3), {})


def test_a_second_vector_of_one_client_is_refused():
    vector = np.ones(3, np.uint32)
    with pytest.raises(DuplicateContribution):
        EncryptedSum(SMALL).sum([(ClientId("c0"), vector)] * 2, cohort_of(2), {})


def test_the_bill_counts_the_bytes_that_were_sent():
    dim, num = 3000, 3
    encrypted, _ = both_sums([np.ones(dim, np.uint32)] * num)
    cost = encrypted.cost
    body = SMALL.body_bytes(dim)
    assert body < cost.per_client["upload"].bytes_up < body + 256
    assert cost.server["check"].bytes_down == num * cost.per_client["upload"].bytes_up
    assert cost.server["terms"].bytes_up == num * cost.per_client["terms"].bytes_down > num * 28_672
    assert cost.server["forward"].bytes_up == cost.decryptor["decrypt"].bytes_down > body
    assert cost.decryptor["decrypt"].bytes_up == cost.server["forward"].bytes_down == 4 * dim
    for stage in (
        cost.per_client["encrypt"],
        cost.server["check"],
        cost.server["add"],
        cost.decryptor["decrypt"],
    ):
        assert stage.cpu_s > 0


def test_upload_of_a_keyboard_model_is_at_most_4_1_times_the_vector():
    dim = 1_412_251
    assert BfvParameters().body_bytes(dim) + messages.MAX_ENVELOPE_BYTES < 4.1 * 4 * dim


def test_memory_does_not_grow_with_the_cohort():
    dim = 40_000

    def peak(num: int) -> int:
        vectors = ((ClientId(f"c{i}"), np.full(dim, i, np.uint32)) for i in range(num))
        tracemalloc.start()
        EncryptedSum(SMALL).sum(vectors, cohort_of(num), {})
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(2)  # imports and caches
    assert peak(16) - peak(2) < SMALL.body_bytes(dim) / 2  # far less than one upload for 14 more clients


# --- parameters --------------------------------------------------------------------------------------------------


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


# --- the cipher against the library that it is built on ----------------------------------------------------------


def seal_context(parameters: BfvParameters) -> seal.SEALContext:
    encryption = seal.EncryptionParameters(seal.scheme_type.bfv)
    encryption.set_poly_modulus_degree(parameters.poly_degree)
    encryption.set_coeff_modulus(seal.CoeffModulus.Create(parameters.poly_degree, [parameters.coeff_modulus_bits]))
    encryption.set_plain_modulus(PLAIN_MODULUS)
    return seal.SEALContext(encryption)


def seal_words(ciphertext: seal.Ciphertext) -> np.ndarray:
    return np.frombuffer(ciphertext.to_string()[-16 * SMALL.poly_degree :], "<u8")


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


# --- secrets -----------------------------------------------------------------------------------------------------


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


# --- the client --------------------------------------------------------------------------------------------------


def test_a_client_refuses_terms_that_its_decryptor_did_not_sign(round_):
    vector = np.ones(round_.dim, np.uint32)
    forged = open_round().terms
    with pytest.raises(BadSignature, match="the decryptor did not sign"):
        round_.client(NAMES[0]).encrypt(forged, vector)
    terms = messages.decode(round_.terms, messages.RoundTerms, 1 << 20)
    _, other_key = generate_keys(SMALL)
    for change in (
        {"public_key": other_key.to_bytes()},
        {"round_num": 8},
        {"dim": 6},
        {"min_contributions": 1},
        {"session": bytes(32)},
        {"poly_degree": 4096},
        {"coeff_modulus_bits": 50},
    ):
        with pytest.raises(BadSignature):
            round_.client(NAMES[0]).encrypt(replace(terms, **change), vector)


def test_a_client_refuses_insecure_terms_even_from_its_decryptor(round_):
    terms = messages.decode(round_.terms, messages.RoundTerms, 1 << 20)
    vector = np.ones(round_.dim, np.uint32)
    for change, error in (
        ({"coeff_modulus_bits": 60}, InsecureParameters),
        ({"poly_degree": 1024}, InsecureParameters),
        ({"coeff_modulus_bits": 20}, MalformedMessage),
        ({"public_key": b""}, MalformedMessage),
    ):
        weak = messages.sign_terms(msgspec.structs.replace(terms, **change), round_.decryptor_identity)
        with pytest.raises(error):
            round_.client(NAMES[0]).encrypt(encode(weak), vector)


def test_a_client_refuses_to_hide_among_too_few(round_):
    with pytest.raises(BelowThreshold, match="a sum of 2, this client asks for at least 3"):
        round_.client(NAMES[0], min_contributions=3).encrypt(round_.terms, np.ones(round_.dim, np.uint32))


def test_a_client_answers_a_session_once(round_):
    client, vector = round_.client(NAMES[0]), np.ones(round_.dim, np.uint32)
    client.encrypt(round_.terms, vector)
    with pytest.raises(ForeignRound, match="was used before"):
        client.encrypt(round_.terms, vector)


@pytest.mark.parametrize("vector", [np.ones(4, np.uint32), np.ones(5, np.int64), np.ones((5, 1), np.uint32)])
def test_a_client_refuses_a_vector_that_is_not_the_rounds(round_, vector):
    with pytest.raises(ValueError, match=r"vector must be uint32 \[5\], got"):
        round_.client(NAMES[0]).encrypt(round_.terms, vector)


# --- the aggregator ----------------------------------------------------------------------------------------------


def test_changed_short_long_and_foreign_uploads_are_refused(round_):
    wire = round_.upload(NAMES[0])
    aggregator = round_.aggregator()
    upload = messages.decode(wire, messages.Upload, 1 << 20)
    body = bytes(upload.ciphertexts)
    flipped = bytearray(body)
    flipped[0] ^= 1
    too_large = b"\xff" * SMALL.word_bytes + body[SMALL.word_bytes :]
    elsewhere = open_round(BfvParameters()).upload(NAMES[0])
    for wrong, error in (
        (replace(upload, ciphertexts=memoryview(flipped)), BadSignature),
        (replace(upload, client_id=NAMES[1]), BadSignature),
        (replace(upload, signature=bytes(64)), BadSignature),
        (replace(upload, client_id="stranger"), UnknownClient),
        (replace(upload, terms=bytes(32)), ForeignRound),
        (open_round().upload(NAMES[0]), ForeignRound),
        (elsewhere, MalformedMessage),
        (round_.signed_upload(NAMES[0], body[:-1]), MalformedMessage),
        (round_.signed_upload(NAMES[0], body + b"\0"), MalformedMessage),
        (round_.signed_upload(NAMES[0], b""), MalformedMessage),
        (round_.signed_upload(NAMES[0], too_large), MalformedMessage),
        (wire + bytes(messages.MAX_ENVELOPE_BYTES), MalformedMessage),
        (wire + b"\0", MalformedMessage),
        (wire[:-1], MalformedMessage),
        (b"", MalformedMessage),
    ):
        with pytest.raises(error):
            aggregator.check(wrong)
    aggregator.add(aggregator.check(wire))  # none of them was added, or stands in the way
    aggregator.add(aggregator.check(round_.upload(NAMES[1])))
    assert round_.decryptor.decrypt(*aggregator.finish()).tolist() == [2] * round_.dim


def test_a_second_upload_of_one_client_is_refused(round_):
    aggregator = round_.aggregator()
    first, second = (aggregator.check(round_.upload(NAMES[0])) for _ in range(2))
    aggregator.add(first)
    with pytest.raises(DuplicateContribution):
        aggregator.add(second)
    with pytest.raises(DuplicateContribution):
        aggregator.check(round_.upload(NAMES[0]))
    assert aggregator.num_contributions == 1


def test_the_aggregator_stops_below_the_minimum(round_):
    aggregator = round_.aggregator()
    with pytest.raises(BelowThreshold, match="0 contributions, 2 needed"):
        aggregator.finish()
    aggregator.add(aggregator.check(round_.upload(NAMES[0])))
    with pytest.raises(BelowThreshold, match="1 contributions, 2 needed"):
        aggregator.finish()


# --- the decryptor -----------------------------------------------------------------------------------------------


def test_a_sum_is_opened_once(round_):
    total, transcript = round_.total()
    assert round_.decryptor.decrypt(total, transcript).tolist() == [10] * round_.dim
    assert repr(round_.decryptor) == "SumDecryptor(no key)"
    with pytest.raises(KeySpent):
        round_.decryptor.decrypt(total, transcript)


def test_a_transcript_of_an_earlier_round_is_refused(round_):
    total, transcript = round_.total()
    round_.decryptor.open_round(8, round_.dim)
    with pytest.raises(ForeignRound):
        round_.decryptor.decrypt(total, transcript)


def test_no_round_no_decryption(round_):
    idle = SumDecryptor(SMALL, round_.decryptor_identity, round_.roster, 2)
    with pytest.raises(KeySpent):
        idle.decrypt(*round_.total())


def test_transcripts_that_do_not_show_enough_contributions_are_refused(round_):
    total, wire = round_.total()
    transcript = messages.decode(wire, messages.Transcript, 1 << 20)
    first, second, third, _ = transcript.contributions
    stranger = Ed25519PrivateKey.generate()
    invented = messages.Contribution(
        "stranger",
        first.ciphertexts_sha256,
        stranger.sign(messages.contribution_bytes(transcript.terms, "stranger", first.ciphertexts_sha256)),
    )
    earlier = open_round()
    old = messages.decode(earlier.total()[1], messages.Transcript, 1 << 20).contributions[1]
    for change, error in (
        ({"contributions": []}, BelowThreshold),
        ({"contributions": [first]}, BelowThreshold),
        ({"contributions": [first, first]}, DuplicateContribution),
        ({"contributions": [first, invented]}, UnknownClient),
        ({"contributions": [first, old]}, BadSignature),
        ({"contributions": [first, replace_name(second, third.client_id)]}, BadSignature),
        ({"session": bytes(32)}, ForeignRound),
        ({"round_num": 8}, ForeignRound),
        ({"terms": bytes(32)}, ForeignRound),
        ({"agreed": b"x" * 32}, BadSignature),
        ({"total_sha256": bytes(32)}, MalformedMessage),
    ):
        with pytest.raises(error):
            round_.decryptor.decrypt(total, replace(transcript, **change))
    assert round_.decryptor.decrypt(total, wire).tolist() == [10] * round_.dim  # a refusal opens nothing


def test_clients_that_were_told_different_things_are_in_no_sum_together(round_):
    """A server that gives one client the real weights and the others some that train to nothing gets no sum of them."""
    real, void, vector = b"r" * 32, b"v" * 32, np.ones(round_.dim, np.uint32)
    told = {NAMES[0]: real, NAMES[1]: void, NAMES[2]: void}
    uploads = {name: round_.client(name, agreed=agreed).encrypt(round_.terms, vector) for name, agreed in told.items()}
    aggregator = round_.aggregator(void)
    with pytest.raises(BadSignature):
        aggregator.check(uploads[NAMES[0]])
    for name in NAMES[1:3]:
        aggregator.add(aggregator.check(uploads[name]))
    total, wire = aggregator.finish()
    transcript = messages.decode(wire, messages.Transcript, 1 << 20)
    alone = messages.decode(uploads[NAMES[0]], messages.Upload, 1 << 20)
    smuggled = messages.Contribution(NAMES[0], hashlib.sha256(alone.ciphertexts).digest(), alone.signature)
    for agreed in (real, void):  # an aggregator that lies can't say either
        lie = replace(transcript, contributions=[smuggled, *transcript.contributions], agreed=agreed)
        with pytest.raises(BadSignature):
            round_.decryptor.decrypt(total, lie)
    assert round_.decryptor.decrypt(total, wire).tolist() == [2] * round_.dim


def replace_name(contribution: messages.Contribution, client_id: str) -> messages.Contribution:
    return msgspec.structs.replace(contribution, client_id=client_id)


def test_another_total_than_the_transcripts_is_refused(round_):
    total, wire = round_.total()
    for wrong in (b"", total[:-1], total + b"\0", b"\xff" * len(total), bytes(len(total))):
        with pytest.raises(MalformedMessage):
            round_.decryptor.decrypt(wrong, wire)


def claim(round_: Round, total: bytes) -> bytes:
    """The full transcript with another total: what an aggregator that lies can send."""
    transcript = messages.decode(round_.total()[1], messages.Transcript, 1 << 20)
    return replace(transcript, total_sha256=hashlib.sha256(total).digest())


def test_what_decrypts_to_no_sum_is_not_released(round_):
    noise = np.random.default_rng(3).integers(0, SMALL.coeff_modulus, 2 * SMALL.poly_degree, np.uint64)
    total = messages.pack_words(noise, SMALL)
    with pytest.raises(SpoiledSum, match="does not decrypt to a sum"):
        round_.decryptor.decrypt(total, claim(round_, total))
    assert repr(round_.decryptor) == "SumDecryptor(no key)"


def test_the_limit_that_docs_security_states_an_aggregator_that_lies_can_open_one_vector(round_):
    """The transcript proves who contributed, not that the total is their sum: the aggregator is trusted to add."""
    upload = messages.decode(round_.upload(NAMES[0], value=42), messages.Upload, 1 << 20)
    alone = bytes(upload.ciphertexts)
    assert round_.decryptor.decrypt(alone, claim(round_, alone)).tolist() == [42] * round_.dim


def test_anyone_with_the_uploads_can_recompute_the_total(round_):
    uploads = [round_.upload(name, value) for value, name in enumerate(NAMES)]
    totals = []
    for order in (uploads, uploads[::-1]):
        aggregator = round_.aggregator()
        for upload in order:
            aggregator.add(aggregator.check(upload))
        totals.append(aggregator.finish()[0])
    assert totals[0] == totals[1]


# --- decoders under garbage --------------------------------------------------------------------------------------


def mangled(wire: bytes):
    """Wire bytes with some changed, cut, doubled or replaced by others altogether."""
    at = st.integers(0, len(wire) - 1)
    head = st.one_of(st.integers(0, min(200, len(wire) - 1)), at)  # most fields are near the front
    edits = st.lists(st.tuples(head, st.integers(0, 255)), min_size=1, max_size=8)

    def edit(changes):
        changed = bytearray(wire)
        for place, value in changes:
            changed[place] = value
        return bytes(changed)

    return st.one_of(
        edits.map(edit),
        head.map(lambda cut: wire[:cut]),
        head.map(lambda cut: wire[cut:]),
        st.tuples(head, st.binary(max_size=40)).map(lambda x: wire[: x[0]] + x[1] + wire[x[0] :]),
        st.binary(max_size=300),
    )


REFUSALS = (HomomorphicError, BelowThreshold)
FUZZED_ROUND = open_round()
FUZZED_TOTAL, FUZZED_TRANSCRIPT = FUZZED_ROUND.total()
FUZZED_UPLOAD = FUZZED_ROUND.upload(NAMES[0])


@settings(max_examples=NUM_FUZZED, deadline=None)
@given(mangled(FUZZED_ROUND.terms))
def test_fuzzed_terms_are_read_as_they_were_or_refused(wire):
    try:
        terms = messages.read_terms(wire, public(FUZZED_ROUND.decryptor_identity))
    except REFUSALS:
        return
    assert encode(terms) == FUZZED_ROUND.terms


@settings(max_examples=NUM_FUZZED, deadline=None)
@given(mangled(FUZZED_UPLOAD))
def test_fuzzed_uploads_are_read_as_they_were_or_refused(wire):
    try:
        checked = FUZZED_ROUND.aggregator().check(wire)
    except REFUSALS:
        return
    assert isinstance(checked, CheckedUpload)
    assert bytes(checked.ciphertexts) == FUZZED_UPLOAD[-SMALL.body_bytes(FUZZED_ROUND.dim) :]


@settings(max_examples=NUM_FUZZED, deadline=None)
@given(mangled(FUZZED_TRANSCRIPT))
def test_fuzzed_transcripts_open_nothing_or_the_true_sum(wire):
    try:
        total = open_again(FUZZED_ROUND).decrypt(FUZZED_TOTAL, wire)
    except REFUSALS:
        return
    assert total.tolist() == [10] * FUZZED_ROUND.dim


@settings(max_examples=NUM_FUZZED, deadline=None)
@given(mangled(FUZZED_TOTAL))
def test_fuzzed_totals_never_crash_the_native_parser(total):
    """With a transcript that vouches for whatever bytes they are, so that they get as far as they can."""
    transcript = messages.decode(FUZZED_TRANSCRIPT, messages.Transcript, 1 << 20)
    wire = replace(transcript, total_sha256=hashlib.sha256(total).digest())
    try:
        vector = open_again(FUZZED_ROUND).decrypt(total, wire)
    except REFUSALS:
        return
    assert vector.shape == (FUZZED_ROUND.dim,)


def open_again(round_: Round) -> SumDecryptor:
    """A decryptor with the round's key, so that one round serves many fuzzed inputs."""
    twin = SumDecryptor(SMALL, round_.decryptor_identity, round_.roster, 2)
    twin._terms, twin._secret_key = round_.decryptor._terms, round_.decryptor._secret_key
    return twin
