"""Attacks by a server that tells clients different things: what it may gain is counted."""

from __future__ import annotations

import msgspec
import pytest
from lying_server import LyingServer

from orchestrator.secagg import Policy, keys, messages
from orchestrator.secagg.errors import SplitView, TooFewPeers

pytestmark = pytest.mark.usefixtures("checks")


def test_clients_that_were_shown_different_rosters_share_nothing():
    """Six people, five places: two of them stand at place 4, one for client 0 and the other for clients 1 to 3.

    A server that could go on from here would give each client a cohort of its own, made of other honest people, and
    learn the sum of fewer than the threshold: with n = 10 and threshold 6 that of four clients, out of 244.
    """
    server = LyingServer(5, [0, 1, 2, 3, 4, 4])
    server.show_roster(0, [1, 2, 3, 5])
    server.show_roster(5, [0, 1, 2, 3])
    for index in (1, 2, 3):
        server.show_roster(index, [*({0, 1, 2, 3} - {index}), 4])
    with pytest.raises(TooFewPeers, match="1 neighbours' shares open, 3 needed"):  # client 5 was shown the same people
        server.deliver(0, [1, 2, 3, 5])


def test_clients_that_were_sent_different_weights_share_nothing():
    """Weights under which all the others compute a zero update would make the sum the update of one."""
    server = LyingServer(5, range(5), agreed=[b"weights", *[b"weights that train to nothing"] * 4])
    for index in range(5):
        server.show_roster(index, set(range(5)) - {index})
    with pytest.raises(TooFewPeers, match="0 neighbours' shares open, 3 needed"):
        server.deliver(0, [1, 2, 3, 4])
    server.deliver(1, [0, 2, 3, 4])  # it has three that were sent the same
    server.deliver(2, [0, 1, 3, 4])


def test_the_minimum_counts_only_survivors_whose_shares_opened():
    """Client 0 may mask with someone from another roster, who then hides nobody: not one of the crowd."""
    for minimum, is_enough in ((4, True), (5, False)):
        server = LyingServer(5, range(5), Policy(min_survivors=minimum), agreed=[b"x"] * 4 + [b"y"])
        for index in range(5):
            server.show_roster(index, set(range(5)) - {index})
        server.deliver(0, [1, 2, 3, 4])
        if is_enough:
            server.show_survivors(0, range(5))
        else:
            with pytest.raises(TooFewPeers, match="4 survivors, 5 needed"):
                server.show_survivors(0, range(5))


def test_a_consent_to_the_same_survivors_in_another_roster_does_not_count():
    server = LyingServer(5, range(5))
    for index in range(5):
        server.show_roster(index, set(range(5)) - {index})
    for index in range(4):
        server.deliver(index, set(range(5)) - {index})
    consents = {index: server.show_survivors(index, range(5)) for index in range(4)}
    elsewhere, alive = messages.bound_session(server.session, b"", []), messages.to_bitmap(range(5), 5)
    foreign = keys.sign(server.identities[4], b"survivors", elsewhere, 4, alive)
    with pytest.raises(SplitView, match="client 4 did not sign"):
        server.unmask(0, {2: consents[2], 3: consents[3], 4: foreign}, [1, 2, 3], [])
    server.unmask(1, {0: consents[0], 2: consents[2], 3: consents[3]}, [0, 2, 3], [])


def test_the_bound_session_names_all_that_clients_were_told():
    rosters = LyingServer(5, range(5)).credentials
    session, nobody = bytes(32), []
    base = messages.bound_session(session, b"", rosters)
    assert base == messages.bound_session(session, b"", rosters[::-1])  # each client knows them in another order
    others = {
        messages.bound_session(b"s" * 32, b"", rosters),
        messages.bound_session(session, b"a", rosters),
        messages.bound_session(session, b"", rosters[1:]),
        messages.bound_session(session, b"", nobody),
    }
    for name in ("identity", "channel_key", "mask_key"):
        changed = msgspec.structs.replace(rosters[2], **{name: b"k" * 32})
        others.add(messages.bound_session(session, b"", [*rosters[:2], changed, *rosters[3:]]))
    moved = [msgspec.structs.replace(rosters[0], index=1), msgspec.structs.replace(rosters[1], index=0), *rosters[2:]]
    others.add(messages.bound_session(session, b"", moved))
    assert len(others - {base, session}) == 8


def test_the_bound_session_hides_no_roster_in_what_was_agreed():
    """What is agreed may be of any length: no two pairs of it and a roster give the same bytes."""
    (first, second) = LyingServer(3, range(3)).credentials[:2]
    packed = bytes(4) + first.signed_bytes
    assert messages.bound_session(bytes(32), packed, [second]) != messages.bound_session(
        bytes(32), b"", [first, second]
    )
