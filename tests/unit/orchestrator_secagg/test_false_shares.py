"""Shares that a client deals or returns falsely: who drops out, and when the round stops."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from secagg_session import (
    STAGES,
    Session,
    changed,
    only,
    opened,
)

from orchestrator.errors import BelowThreshold
from orchestrator.secagg import keys, messages, shamir
from orchestrator.secagg.errors import RecoveryFailed


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
