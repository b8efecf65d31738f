"""A client sends one message, and refuses terms that could expose it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.stats import chi2
from split_round import AGREED, NAMES, Parties, opened

from orchestrator.errors import BelowThreshold
from orchestrator.split import messages
from orchestrator.split.client import Told
from orchestrator.split.errors import ForeignHelper, ForeignRound, MalformedMessage, RoundAnswered
from orchestrator.wire import encode

FALSE_ALARMS = 1e-9


def test_terms_that_could_expose_it_are_refused_and_leave_no_trace():
    parties, answered = Parties(), set()
    client, vector = parties.client(NAMES[0], 3, answered), parties.vector(NAMES[0])
    good = parties.terms(min_contributions=3)
    other = messages.helpers_digest([b"x" * 32])
    for terms, version, error in (
        (parties.terms(min_contributions=2), 7, BelowThreshold),
        (parties.terms(min_contributions=3, helpers=other), 7, ForeignHelper),
        (parties.terms(min_contributions=3, run=b"s" * 32), 7, ForeignRound),
        (parties.terms(min_contributions=3, group=2), 7, ForeignRound),
        (good, 6, ForeignRound),
        (good, 8, ForeignRound),
        (parties.terms(min_contributions=3, max_staleness=2), 4, ForeignRound),
        (parties.terms(min_contributions=3, max_staleness=3), 7, ForeignRound),
        (parties.terms(min_contributions=3, num_slots=7), 7, ValueError),
    ):
        with pytest.raises(error):
            client.mask(encode(terms), vector, Told(parties.run, version, AGREED, num_groups=2, max_staleness=2))
    with pytest.raises(MalformedMessage):
        client.mask(b"no terms", vector, Told(parties.run, 7, AGREED))
    assert not answered
    client.mask(encode(good), vector, Told(parties.run, 7, AGREED))
    assert answered == {(parties.run, 7)}


def test_a_round_is_answered_once_whatever_its_terms():
    """A second vector of one round would differ by who else is in the sum."""
    parties, answered = Parties(), set()
    vector = parties.vector(NAMES[0])
    parties.client(NAMES[0], answered=answered).mask(encode(parties.terms()), vector, Told(parties.run, 7, AGREED))
    again = parties.client(NAMES[0], answered=answered)
    for terms in (parties.terms(), parties.terms(min_contributions=4)):
        with pytest.raises(RoundAnswered, match="^round 7 came before"):
            again.mask(encode(terms), vector, Told(parties.run, 7, AGREED))
    again.mask(encode(parties.terms(round_num=8)), vector, Told(parties.run, 8, AGREED))


def test_a_client_of_synchronous_rounds_is_in_no_list_with_others_who_were_told_otherwise():
    """The server would send one the real weights as round 7 and the others void ones as round 8, and sum as round 9."""
    parties = Parties()
    terms = encode(parties.terms(round_num=9, max_staleness=2))
    with pytest.raises(ForeignRound, match="allow weights 2 rounds old, this client 0: others could have been told"):
        parties.client(NAMES[0]).mask(terms, parties.vector(NAMES[0]), Told(parties.run, 7, AGREED))


def test_the_digest_of_terms_covers_each_field():
    parties = Parties()
    changes = (
        {"run": b"s" * 32},
        {"round_num": 8},
        {"group": 1},
        {"max_staleness": 1},
        {"num_slots": 7},
        {"min_contributions": 3},
        {"helpers": bytes(32)},
    )
    digests = {parties.terms().digest, *(parties.terms(**change).digest for change in changes)}
    assert len(digests) == 1 + len(changes) == 1 + len(messages.RoundTerms.__struct_fields__)


def test_the_helpers_must_be_one_to_five_different_keys():
    keys = [bytes([i]) * 32 for i in range(6)]
    assert len({messages.helpers_digest(keys[:n]) for n in range(1, 6)}) == 5
    assert messages.helpers_digest(keys[:2]) != messages.helpers_digest(keys[1::-1])  # their order counts
    for wrong in ([], keys, [keys[0], keys[0]]):
        with pytest.raises(ValueError, match="^helpers must be 1 to 5 different keys"):
            messages.helpers_digest(wrong)


def test_a_masked_vector_is_uniform_and_two_of_the_same_vector_are_independent():
    """Chi-square over the values of 400,000 bytes each; a false alarm is rarer than one in a thousand million."""
    parties = Parties(num_slots=100_000)
    vector = np.zeros(100_000, np.uint32)
    uploads = [
        parties.client(NAMES[0]).mask(encode(parties.terms()), vector, Told(parties.run, 7, AGREED)) for _ in range(2)
    ]
    words = [np.frombuffer(messages.decode(wire, messages.Upload, 1 << 20).words, np.uint8) for wire in uploads]
    for octets in (*words, words[0] - words[1]):
        counts = np.bincount(octets, minlength=256)
        expected = octets.size / 256
        assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(FALSE_ALARMS, 255)


def test_the_upload_is_as_long_as_the_vector_and_a_few_hundred_bytes():
    for num_helpers, most in ((1, 260), (5, 600)):
        parties = Parties(num_helpers)
        assert len(parties.upload(NAMES[0])) - 4 * parties.num_slots < most
    assert 1 + 260 / (4 * 1_422_251) < 1.0005


def test_no_seed_or_vector_is_shown(caplog):
    parties = Parties()
    with caplog.at_level(logging.DEBUG):
        upload = opened(parties.upload(NAMES[0]), messages.Upload)
    assert repr(upload) == "Upload(...)"
    assert repr(parties.client(NAMES[0])) == "SplitClient('client-0')"
    assert repr(parties.helpers[0]) == "MaskHelper(1 of 1)"
    assert not caplog.records
