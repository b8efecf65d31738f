"""The server refuses what is not the next legal message, and goes on without its sender."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from secagg_session import (
    CLIENT_MESSAGES,
    NUM_SLOTS,
    SMALL_ORDER,
    STAGES,
    Session,
    changed,
    only,
    opened,
    signed_credentials,
)

from orchestrator.secagg import messages
from orchestrator.secagg.errors import (
    ClientRefused,
    UnexpectedMessage,
    WireError,
)
from orchestrator.wire import encode


# Clients that lie
@pytest.mark.parametrize(
    "garbage", [b"", b"\xff" * 40, b"\x90", b"x" * 1_000_000], ids=["empty", "junk", "array", "big"]
)
@pytest.mark.parametrize("stage", STAGES)
def test_garbage_drops_its_sender_and_the_rest_finish(stage, garbage):
    session = Session()
    for earlier in STAGES[: STAGES.index(stage)]:
        session.run(earlier)
    session.run(stage, forge=only(1, lambda reply: garbage))
    total, survivors = session.finish(after=stage)
    assert isinstance(session.errors[1], WireError)
    assert 1 in session.server.refused
    counted = stage in ("consent", "unmask")  # its vector was in by then
    assert survivors == ((0, 1, 2, 3, 4) if counted else (0, 2, 3, 4))
    assert np.array_equal(total, session.sum_of(survivors))


@pytest.mark.parametrize("stage", STAGES)
def test_a_message_of_another_session_or_in_anothers_name_is_refused(stage):
    message_type = CLIENT_MESSAGES[stage]
    lies = [lambda reply: changed(reply, message_type, session=bytes(32))]
    if stage != "advertise":
        lies.append(lambda reply: changed(reply, message_type, sender=0))
    for lie in lies:
        session = Session()
        for earlier in STAGES[: STAGES.index(stage)]:
            session.run(earlier)
        session.run(stage, forge=only(1, lie))
        total, survivors = session.finish(after=stage)
        assert isinstance(session.errors[1], ClientRefused)
        assert np.array_equal(total, session.sum_of(survivors))


def _credentials(**fields):
    def lie(reply):
        credentials = opened(reply, messages.Advertisement).credentials
        return changed(reply, messages.Advertisement, credentials=msgspec.structs.replace(credentials, **fields))

    return lie


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"signature": bytes(64)}, "did not sign"),
        ({"mask_key": b"\x09" + bytes(31)}, "did not sign"),
        ({"identity": b"\x07" * 32}, "as someone else"),
        ({"index": 0}, "as someone else"),
    ],
)
def test_a_bad_advertisement_drops_its_sender(fields, text):
    session = Session()
    session.run("advertise", forge=only(1, _credentials(**fields)))
    total, survivors = session.finish(after="advertise")
    assert isinstance(session.errors[1], ClientRefused)
    assert text in str(session.errors[1])
    assert survivors == (0, 2, 3, 4)
    assert np.array_equal(total, session.sum_of(survivors))


@pytest.mark.parametrize("which", ["small order", "of another", "of another, with the top bit set", "twice the same"])
def test_a_signed_advertisement_of_bad_keys_drops_its_sender(which):
    session = Session()
    first = {}

    def forge(index, reply):
        credentials = opened(reply, messages.Advertisement).credentials
        first.setdefault("keys", (credentials.channel_key, credentials.mask_key))
        if index != 1:
            return reply
        name = opened(reply, messages.Advertisement).session
        pair = {
            "small order": (credentials.channel_key, SMALL_ORDER),
            "of another": (credentials.channel_key, first["keys"][1]),
            "of another, with the top bit set": (
                credentials.channel_key,
                first["keys"][1][:31] + bytes([first["keys"][1][31] | 0x80]),
            ),
            "twice the same": (credentials.channel_key, credentials.channel_key),
        }[which]
        return encode(messages.Advertisement(name, signed_credentials(session, 1, name, *pair)))

    session.run("advertise", forge=forge)
    total, survivors = session.finish(after="advertise")
    assert isinstance(session.errors[1], ClientRefused)
    assert survivors == (0, 2, 3, 4)
    assert np.array_equal(total, session.sum_of(survivors))


@pytest.mark.parametrize("num_bytes", [0, 4, 4 * NUM_SLOTS - 1, 4 * NUM_SLOTS - 4, 4 * NUM_SLOTS + 4])
def test_a_vector_of_another_length_drops_its_sender(num_bytes):
    session = Session()
    session.run("advertise")
    session.run("share")
    lie = only(1, lambda reply: changed(reply, messages.MaskedVector, words=memoryview(bytes(num_bytes))))
    session.run("mask", forge=lie)
    total, survivors = session.finish(after="mask")
    assert str(session.errors[1]) == f"client 1 sent {num_bytes} bytes of words, {4 * NUM_SLOTS} expected"
    assert survivors == (0, 2, 3, 4)
    assert np.array_equal(total, session.sum_of(survivors))


def test_a_bad_consent_drops_its_sender():
    session = Session()
    for stage in STAGES[:3]:
        session.run(stage)
    session.run("consent", forge=only(1, lambda reply: changed(reply, messages.Consent, signature=bytes(64))))
    total, survivors = session.finish(after="consent")
    assert isinstance(session.errors[1], ClientRefused)
    assert survivors == (0, 1, 2, 3, 4)  # its vector had arrived
    assert np.array_equal(total, session.sum_of(survivors))


@pytest.mark.parametrize("stage", STAGES)
def test_a_second_message_of_a_stage_is_refused_and_the_first_counts(stage):
    session = Session()
    wires = session.until(stage)
    for index, wire in wires.items():
        reply = session.answer(index, stage, wire)
        session.server.receive(index, reply)
        with pytest.raises(UnexpectedMessage):
            session.server.receive(index, reply)
    total, survivors = session.finish(after=stage)
    assert survivors == (0, 1, 2, 3, 4)
    assert np.array_equal(total, session.sum_of(survivors))


def test_a_stranger_or_a_late_client_is_refused():
    session = Session()
    with pytest.raises(UnexpectedMessage):
        session.server.receive(0, b"")
    session.run("advertise", silent={4})
    session.outgoing("share")
    for sender in (4, 5, -1):
        with pytest.raises(UnexpectedMessage):
            session.server.receive(sender, b"")


@pytest.mark.parametrize("stage", STAGES[1:])
def test_the_server_closes_its_stages_in_order(stage):
    with pytest.raises(UnexpectedMessage):
        Session().outgoing(stage)
