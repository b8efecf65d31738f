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

from orchestrator.errors import BelowThreshold
from orchestrator.secagg import keys, messages, shamir
from orchestrator.secagg.errors import (
    ClientRefused,
    RecoveryFailed,
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


@pytest.mark.parametrize("which", ["small order", "of another", "twice the same"])
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
            "twice the same": (credentials.channel_key, credentials.channel_key),
        }[which]
        return encode(messages.Advertisement(name, signed_credentials(session, 1, name, *pair)))

    session.run("advertise", forge=forge)
    total, survivors = session.finish(after="advertise")
    assert isinstance(session.errors[1], ClientRefused)
    assert survivors == (0, 2, 3, 4)
    assert np.array_equal(total, session.sum_of(survivors))


def test_shares_for_others_than_the_neighbours_drop_their_sender():
    def fewer(reply):
        return changed(reply, messages.SealedShares, shares=opened(reply, messages.SealedShares).shares[1:])

    def twice(reply):
        shares = opened(reply, messages.SealedShares).shares
        return changed(reply, messages.SealedShares, shares=[shares[0], shares[0], *shares[2:]])

    for lie in (fewer, twice):
        session = Session()
        session.run("advertise")
        session.run("share", forge=only(1, lie))
        total, survivors = session.finish(after="share")
        assert "shares with others than its neighbours" in str(session.errors[1])
        assert survivors == (0, 2, 3, 4)
        assert np.array_equal(total, session.sum_of(survivors))


def _bad_seals(reply, holders):
    shares = [
        msgspec.structs.replace(share, sealed=bytes(94)) if share.recipient in holders else share
        for share in opened(reply, messages.SealedShares).shares
    ]
    return changed(reply, messages.SealedShares, shares=shares)


@pytest.mark.parametrize("vanishes", [False, True])
def test_a_seal_that_does_not_open_harms_nobody_else(vanishes):
    session = Session()
    session.run("advertise")
    session.run("share", forge=only(1, lambda reply: _bad_seals(reply, holders={3})))
    session.run("mask", silent={1} if vanishes else ())
    total, survivors = session.finish(after="mask")
    assert survivors == ((0, 2, 3, 4) if vanishes else (0, 1, 2, 3, 4))
    assert np.array_equal(total, session.sum_of(survivors))


def test_seals_that_open_for_nobody_stop_the_round_and_name_the_dealer():
    session = Session()
    session.run("advertise")
    session.run("share", forge=only(1, lambda reply: _bad_seals(reply, holders={0, 2, 3, 4})))
    with pytest.raises(RecoveryFailed, match="client 1 dealt 4 clients 0 good shares, 3 needed") as caught:
        session.finish(after="share")
    assert (caught.value.owner, caught.value.accusers) == (1, (0, 2, 3, 4))


def test_true_shares_with_false_tags_stop_the_round_and_name_the_dealer():
    def false_tags(reply):
        shares = [msgspec.structs.replace(s, tags=bytes(32)) for s in opened(reply, messages.SealedShares).shares]
        return changed(reply, messages.SealedShares, shares=shares)

    session = Session()
    session.run("advertise")
    session.run("share", forge=only(1, false_tags))
    with pytest.raises(RecoveryFailed, match="client 1 dealt 4 clients 0 good shares, 3 needed"):
        session.finish(after="share")


def test_shares_of_another_secret_stop_the_round_and_name_the_dealer():
    session = Session()
    session.run("advertise")
    session.run("share", forge=only(1, lambda reply: changed(reply, messages.SealedShares, commitment=bytes(32))))
    with pytest.raises(RecoveryFailed, match="client 1 dealt shares of another secret"):
        session.finish(after="share")


def test_shares_of_another_key_stop_the_round_and_name_the_dealer():
    session = Session()
    for index, wire in session.outgoing("advertise").items():
        session.server.receive(index, session.answer(index, "advertise", wire))
    for index, wire in session.outgoing("share").items():
        if index == 1:
            session.clients[1]._mask_private = keys.X25519PrivateKey.generate()  # not the one that it advertised
        session.server.receive(index, session.answer(index, "share", wire))
    session.run("mask", silent={1})
    with pytest.raises(RecoveryFailed, match="client 1 dealt shares of another key"):
        session.finish(after="mask")


def test_shares_that_are_no_polynomial_stop_the_round_and_name_the_dealer(monkeypatch):
    session = Session()
    session.run("advertise")
    honest = shamir.split

    def split(secret, threshold, points):
        top = shamir.PRIME - 1  # a value at 0 beyond 32 bytes
        return shamir.evaluate([top, *([0] * (threshold - 1))], points)

    for index, wire in session.outgoing("share").items():
        monkeypatch.setattr(shamir, "split", split if index == 1 else honest)
        session.server.receive(index, session.answer(index, "share", wire))
    with pytest.raises(RecoveryFailed, match="client 1 dealt shares that do not fit together"):
        session.finish(after="share")


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


def _wrong_share(reply):
    shares = opened(reply, messages.Unmasking).seed_shares
    wrong = [messages.OwnedShare(shares[0].owner, b"\0" + b"w" * 32), *shares[1:]]
    return changed(reply, messages.Unmasking, seed_shares=wrong)


def test_a_wrong_share_is_left_out_and_the_rest_finish():
    session = Session()
    for stage in STAGES[:4]:
        session.run(stage)
    session.run("unmask", forge=only(1, _wrong_share))
    total, survivors = session.server.total()
    assert session.server.refused == {1: "1 shares of client 1 are not those that were dealt"}
    assert np.array_equal(total, session.sum_of(survivors))


def test_a_wrong_share_too_many_stops_the_round():
    session = Session()
    for stage in STAGES[:4]:
        session.run(stage)
    session.run("unmask", forge=lambda index, reply: _wrong_share(reply) if index else reply)
    with pytest.raises(BelowThreshold, match="client 0 dealt 4 clients 0 good shares, 3 needed"):
        session.server.total()


@pytest.mark.parametrize("kind", ["itself", "twice", "the other secret"])
def test_a_share_that_was_not_asked_for_drops_its_sender(kind):
    def lie(reply):
        shares = opened(reply, messages.Unmasking).seed_shares
        return {
            "itself": lambda: changed(
                reply, messages.Unmasking, seed_shares=[messages.OwnedShare(1, shares[0].share), *shares]
            ),
            "twice": lambda: changed(reply, messages.Unmasking, seed_shares=[shares[0], *shares]),
            "the other secret": lambda: changed(reply, messages.Unmasking, key_shares=shares[:1], seed_shares=[]),
        }[kind]()

    session = Session()
    for stage in STAGES[:4]:
        session.run(stage)
    session.run("unmask", forge=only(1, lie))
    total, survivors = session.server.total()
    assert "not asked for" in str(session.errors[1])
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
