"""Changed bytes are read as they were, or refused."""

from __future__ import annotations

import hashlib

from encrypted_round import NAMES, NUM_FUZZED, REFUSALS, SMALL, Round, open_round, public, replace
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.homomorphic import messages
from orchestrator.homomorphic.aggregator import CheckedUpload
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.wire import encode


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
