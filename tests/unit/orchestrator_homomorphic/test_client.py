"""A client refuses terms that could expose its vector."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from encrypted_round import NAMES, SMALL, open_round, replace

from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.errors import (
    BadSignature,
    ForeignRound,
    InsecureParameters,
    MalformedMessage,
)
from orchestrator.homomorphic.keys import generate_keys
from orchestrator.wire import encode


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
