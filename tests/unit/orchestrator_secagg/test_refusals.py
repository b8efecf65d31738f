"""A client refuses what could expose its update."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secagg_session import SMALL_ORDER, Session, changed, opened, refuses, signed_credentials

from orchestrator.secagg import Policy, keys, messages
from orchestrator.secagg.client import Client
from orchestrator.secagg.errors import (
    AliveAndDead,
    RosterRefused,
    SessionReplayed,
    SharesRefused,
    SplitView,
    SurvivorsRefused,
    TooFewPeers,
    WeakParameters,
)
from orchestrator.wire import encode

pytestmark = pytest.mark.usefixtures("checks")


def test_a_client_refuses_a_replayed_session():
    session = Session()
    wire = session.outgoing("advertise")[0]
    session.answer(0, "advertise", wire)
    session.clients[0] = Client(session.identities[0], set(session.public), Policy(), session.seen[0])
    refuses(session, 0, "advertise", wire, SessionReplayed)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_clients": 1, "degree": 0, "threshold": 0},
        {"num_clients": 2, "degree": 1, "threshold": 1},
        {"threshold": 2},
        {"threshold": 4},
        {"degree": 3},
        {"num_clients": 4},
        {"min_survivors": 1},
        {"recipient": 5},
    ],
    ids=str,
)
def test_a_client_refuses_weaker_parameters_and_a_cohort_of_one(fields):
    session = Session()
    wire = changed(session.outgoing("advertise")[0], messages.Invitation, **fields)
    refuses(session, 0, "advertise", wire, WeakParameters)


def _roster(session, change):
    wire = session.until("share")[0]
    neighbours = list(opened(wire, messages.Roster).neighbours)
    name = opened(wire, messages.Roster).session
    return changed(wire, messages.Roster, neighbours=change(neighbours, name))


def test_a_client_refuses_a_forged_key():
    """The server puts its own key in a neighbour's place; it can't sign for it."""
    session = Session()
    own = keys.X25519PrivateKey.generate().public_key().public_bytes_raw()
    for field in ("mask_key", "channel_key"):
        session = Session()
        wire = _roster(session, lambda n, _, f=field: [msgspec.structs.replace(n[0], **{f: own}), *n[1:]])
        refuses(session, 0, "share", wire, RosterRefused, "not signed")


def test_a_client_refuses_an_identity_that_is_not_enrolled():
    session = Session()
    stranger = Ed25519PrivateKey.generate()

    def change(neighbours, name):
        public = stranger.public_key().public_bytes_raw()
        body = public + neighbours[0].channel_key + neighbours[0].mask_key
        signature = keys.sign(stranger, b"advertise", name, neighbours[0].index, body)
        return [msgspec.structs.replace(neighbours[0], identity=public, signature=signature), *neighbours[1:]]

    refuses(session, 0, "share", _roster(session, change), RosterRefused, "not enrolled")


def test_a_client_refuses_keys_of_an_older_session():
    older = Session()
    wire = older.until("share")[0]
    stale = opened(wire, messages.Roster).neighbours
    session = Session()
    session.public, session.identities = older.public, older.identities
    session.clients[0] = Client(older.identities[0], set(older.public), Policy(), set())
    session.clients[0].advertise(session.outgoing("advertise")[0])
    name = session.clients[0]._session
    refuses(session, 0, "share", encode(messages.Roster(name, 0, stale)), RosterRefused, "not signed")


@pytest.mark.parametrize("which", ["neighbour", "own", "one person under two numbers"])
def test_a_client_refuses_a_repeated_key(which):
    """A colluding neighbour signs whatever the server wishes."""
    session = Session()

    def change(neighbours, name):
        second = neighbours[1]
        if which == "neighbour":
            repeated = signed_credentials(session, second.index, name, second.channel_key, neighbours[0].mask_key)
        elif which == "own":
            own = session.clients[0]._public_keys[2]
            repeated = signed_credentials(session, second.index, name, second.channel_key, own)
        else:
            fresh = [keys.X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(2)]
            body = session.public[1] + fresh[0] + fresh[1]
            signature = keys.sign(session.identities[1], b"advertise", name, second.index, body)
            repeated = messages.Credentials(second.index, session.public[1], *fresh, signature)
        return [neighbours[0], repeated, *neighbours[2:]]

    refuses(session, 0, "share", _roster(session, change), RosterRefused, "a key appears twice")


def test_a_client_refuses_a_key_of_small_order():
    for place in (0, 1):
        session = Session()

        def change(neighbours, name, place=place, session=session):
            pair = [neighbours[0].channel_key, neighbours[0].mask_key]
            pair[place] = SMALL_ORDER
            return [signed_credentials(session, neighbours[0].index, name, *pair), *neighbours[1:]]

        refuses(session, 0, "share", _roster(session, change), RosterRefused, "small order")


@pytest.mark.parametrize("place", [0, 1])
def test_a_client_refuses_another_s_key_with_the_top_bit_set(place):
    """A corrupt client signs a neighbour's key as its own: to X25519 it is the same, to a comparison it is not."""
    session = Session()

    def change(neighbours, name):
        pair = [neighbours[0].channel_key, neighbours[0].mask_key]
        other = (neighbours[1].channel_key, neighbours[1].mask_key)[place]
        pair[place] = other[:31] + bytes([other[31] | 0x80])
        return [signed_credentials(session, neighbours[0].index, name, *pair), *neighbours[1:]]

    refuses(session, 0, "share", _roster(session, change), RosterRefused, "another's, written another way")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda n, _: [n[0], *n], RosterRefused),
        (lambda n, _: [msgspec.structs.replace(n[0], index=0), *n[1:]], RosterRefused),
        (lambda n, _: [msgspec.structs.replace(n[0], index=5), *n[1:]], RosterRefused),
        (lambda n, _: n[:2], TooFewPeers),
        (lambda n, _: [], TooFewPeers),
    ],
    ids=["twice", "itself", "beyond", "two", "none"],
)
def test_a_client_refuses_a_roster_that_is_not_its_neighbours(change, error):
    session = Session()
    refuses(session, 0, "share", _roster(session, change), error)


def test_a_client_refuses_more_neighbours_than_the_degree():
    """On a regular graph: a server that adds neighbours could choose them all."""
    session = Session(30, Policy(complete_up_to=0, security_bits=10, correctness_bits=10))
    wire = session.until("share")[0]
    roster = opened(wire, messages.Roster)
    assert len(roster.neighbours) < 29
    known = {0, *(peer.index for peer in roster.neighbours)}
    extra = next(session.server._credentials[i] for i in range(30) if i not in known)
    wire = changed(wire, messages.Roster, neighbours=[*roster.neighbours, extra])
    refuses(session, 0, "share", wire, RosterRefused, "neighbours, at most")


def test_a_client_refuses_misrouted_shares():
    """Shares sealed for client 1 given to client 0 open for nobody: as good as withheld, and too few are left."""
    session = Session()
    wires = session.until("mask")
    for_another = opened(wires[1], messages.Delivery).shares  # of clients 0, 2, 3, 4
    misrouted = [share for share in for_another if share.sender != 0]
    wire = changed(wires[0], messages.Delivery, shares=misrouted)
    refuses(session, 0, "mask", wire, TooFewPeers, "0 neighbours' shares open, 3 needed")


@pytest.mark.parametrize("sender", [0, 4, 9])
def test_a_client_refuses_shares_of_strangers_and_repeated_ones(sender):
    session = Session()
    wire = session.until("mask")[0]
    shares = opened(wire, messages.Delivery).shares
    wire = changed(wire, messages.Delivery, shares=[*shares, messages.DeliveredShare(sender, shares[0].sealed)])
    refuses(session, 0, "mask", wire, SharesRefused)


@pytest.mark.parametrize(
    ("alive", "error", "text"),
    [
        ({1, 2, 3, 4}, SurvivorsRefused, "leave out this client"),
        ({0, 1, 2}, TooFewPeers, "2 neighbours survive, 3 needed"),
        ({0}, TooFewPeers, "1 survivors, 2 needed"),
        (set(), SurvivorsRefused, "leave out this client"),
    ],
    ids=str,
)
def test_a_client_refuses_survivors_that_would_expose_it(alive, error, text):
    session = Session()
    wire = changed(session.until("consent")[0], messages.Survivors, alive=messages.to_bitmap(alive, 5))
    refuses(session, 0, "consent", wire, error, text)


def test_a_client_refuses_a_survivor_whose_shares_were_withheld():
    session = Session()
    wires = session.until("mask")
    shares = opened(wires[0], messages.Delivery).shares
    wires[0] = changed(wires[0], messages.Delivery, shares=shares[:-1])
    for index, wire in wires.items():
        session.server.receive(index, session.answer(index, "mask", wire))
    refuses(session, 0, "consent", session.outgoing("consent")[0], SurvivorsRefused, "never delivered")


def test_a_client_refuses_a_survivor_that_never_advertised():
    """On the complete graph it knows everyone: invented survivors can't fill up the minimum."""
    session = Session()
    session.run("advertise", silent={4})
    for stage in ("share", "mask"):
        session.run(stage)
    wire = changed(session.outgoing("consent")[0], messages.Survivors, alive=messages.to_bitmap(range(5), 5))
    refuses(session, 0, "consent", wire, SurvivorsRefused, "never delivered")


def test_a_client_refuses_a_split_view_of_the_survivors():
    """Clients 0 to 3 are told that 4 is dead, and 4 that all live: its neighbours' consents are to another set."""
    session = Session()
    wires = session.until("consent")
    without = messages.to_bitmap({0, 1, 2, 3}, 5)
    consents = {}
    for index, wire in wires.items():
        told = wire if index == 4 else changed(wire, messages.Survivors, alive=without)
        consents[index] = opened(session.answer(index, "consent", told), messages.Consent).signature
    name = session.clients[4]._session
    peers = [messages.PeerConsent(i, consents[i]) for i in range(4)]
    request = encode(messages.UnmaskRequest(name, 4, peers, alive=[0, 1, 2, 3], dead=[]))
    refuses(session, 4, "unmask", request, SplitView)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"dead": [3]}, AliveAndDead),
        ({"alive": [1, 2], "dead": [3]}, AliveAndDead),
        ({"alive": [0, 1, 2, 3], "dead": []}, AliveAndDead),
        ({"alive": [1, 2, 3, 3], "dead": []}, AliveAndDead),
        ({"alive": [1, 2, 3, 4]}, AliveAndDead),
        ({"alive": [1, 2, 3, 4], "dead": []}, AliveAndDead),
        ({"dead": [4, 4]}, AliveAndDead),
        ({"dead": [9]}, AliveAndDead),
        ({"consents": []}, TooFewPeers),
    ],
    ids=str,
)
def test_a_client_refuses_requests_for_the_wrong_secrets(fields, error):
    """Client 4 dropped out before its upload; the honest request is alive=[1, 2, 3], dead=[4]."""
    session = Session()
    for stage in ("advertise", "share"):
        session.run(stage)
    session.run("mask", silent={4})
    session.run("consent")
    wire = session.outgoing("unmask")[0]
    request = opened(wire, messages.UnmaskRequest)
    assert (request.alive, request.dead) == ([1, 2, 3], [4])
    refuses(session, 0, "unmask", changed(wire, messages.UnmaskRequest, **fields), error)


@pytest.mark.parametrize("which", ["own", "dropped out", "twice", "forged", "fewer"])
def test_a_client_refuses_consents_that_are_not_its_living_neighbours(which):
    session = Session()
    for stage in ("advertise", "share"):
        session.run(stage)
    session.run("mask", silent={4})
    session.run("consent")
    wire = session.outgoing("unmask")[0]
    consents = list(opened(wire, messages.UnmaskRequest).consents)
    lies = {
        "own": [*consents, messages.PeerConsent(0, consents[0].signature)],
        "dropped out": [*consents, messages.PeerConsent(4, consents[0].signature)],
        "twice": [consents[0], consents[0], consents[1]],
        "forged": [messages.PeerConsent(consents[0].sender, bytes(64)), *consents[1:]],
        "fewer": consents[:2],
    }
    error = TooFewPeers if which == "fewer" else SplitView
    refuses(session, 0, "unmask", changed(wire, messages.UnmaskRequest, consents=lies[which]), error)
