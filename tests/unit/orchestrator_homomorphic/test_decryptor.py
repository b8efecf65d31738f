"""The decryptor opens one sum that enough clients signed, and nothing else."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from encrypted_round import NAMES, SMALL, Round, open_round, replace

from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.errors import (
    BadSignature,
    DuplicateContribution,
    ForeignRound,
    KeySpent,
    MalformedMessage,
    SpoiledSum,
    UnknownClient,
)


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


@pytest.mark.parametrize("dim", [SMALL.poly_degree - 1, SMALL.poly_degree, 2 * SMALL.poly_degree])
def test_junk_is_told_from_a_sum_at_every_length_of_a_vector(dim):
    """Also where the vector fills its ciphertexts: there is always a slot that honest clients leave at zero."""
    round_ = open_round(dim=dim)
    noise = np.random.default_rng(3).integers(0, SMALL.coeff_modulus, SMALL.body_bytes(dim) // 7, np.uint64)
    total = messages.pack_words(noise, SMALL)
    with pytest.raises(SpoiledSum, match="does not decrypt to a sum"):
        round_.decryptor.decrypt(total, claim(round_, total))


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
