"""The aggregator adds each upload of the round once, and nothing else."""

from __future__ import annotations

import pytest
from encrypted_round import NAMES, SMALL, open_round, replace

from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.errors import (
    BadSignature,
    DuplicateContribution,
    ForeignRound,
    MalformedMessage,
    UnknownClient,
)
from orchestrator.homomorphic.parameters import BfvParameters


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
