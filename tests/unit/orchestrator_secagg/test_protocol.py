"""The protocol as it is run: drop-outs at every stage, clients that lie, and servers that lie.

A session here is made of the real client and server; a test takes the bytes of one message and changes them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, DropStage, PlainSum
from orchestrator.errors import BelowThreshold
from orchestrator.secagg import Policy, SecAgg, keys, messages, shamir
from orchestrator.secagg.client import Client, ClientState
from orchestrator.secagg.errors import (
    AliveAndDead,
    ClientRefused,
    RecoveryFailed,
    RosterRefused,
    SecAggError,
    SessionReplayed,
    SharesRefused,
    SplitView,
    SurvivorsRefused,
    TooFewPeers,
    UnexpectedMessage,
    WeakParameters,
    WireError,
)
from orchestrator.secagg.server import Server, Stage
from orchestrator.wire import encode

NUM_SLOTS = 50
SMALL_ORDER = bytes(32)
SEMI_HONEST = Policy(semi_malicious=False)
STAGES = ("advertise", "share", "mask", "consent", "unmask")
CLIENT_MESSAGES = dict(
    zip(
        STAGES,
        (
            messages.Advertisement,
            messages.SealedShares,
            messages.MaskedVector,
            messages.Consent,
            messages.Unmasking,
        ),
    )
)
SERVER_MESSAGES = dict(
    zip(
        STAGES,
        (
            messages.Invitation,
            messages.Roster,
            messages.Delivery,
            messages.Survivors,
            messages.UnmaskRequest,
        ),
    )
)


class Session:
    """Five clients and a server, stage by stage."""

    def __init__(self, num_clients=5, policy=None, min_survivors=1):
        policy = policy or Policy()
        self.identities = [Ed25519PrivateKey.generate() for _ in range(num_clients)]
        self.public = [identity.public_key().public_bytes_raw() for identity in self.identities]
        self.seen = [set() for _ in range(num_clients)]
        self.clients = [
            Client(identity, set(self.public), policy, seen) for identity, seen in zip(self.identities, self.seen)
        ]
        self.server = Server(self.public, NUM_SLOTS, policy, round_num=3, min_survivors=min_survivors)
        rng = np.random.default_rng(0)
        self.vectors = rng.integers(0, 2**32, (num_clients, NUM_SLOTS), dtype=np.uint32)
        self.errors = {}

    def outgoing(self, stage) -> dict[int, bytes]:
        server = self.server
        outbox = {
            "advertise": server.invitations,
            "share": server.rosters,
            "mask": server.deliveries,
            "consent": server.survivors,
            "unmask": server.requests,
        }[stage]
        return dict(outbox())

    def answer(self, index, stage, wire) -> bytes:
        client = self.clients[index]
        return client.mask(wire, self.vectors[index]) if stage == "mask" else getattr(client, stage)(wire)

    def run(self, stage, silent=(), forge=None):
        """One stage; forge(index, reply) may change what a client sends."""
        for index, wire in self.outgoing(stage).items():
            if index not in silent:
                reply = self.answer(index, stage, wire)
                reply = forge(index, reply) if forge else reply
                try:
                    self.server.receive(index, reply)
                except SecAggError as error:
                    self.errors[index] = error

    def until(self, stage) -> dict[int, bytes]:
        """Runs the stages before `stage` and returns the server's messages that open it."""
        for earlier in STAGES[: STAGES.index(stage)]:
            self.run(earlier)
        return self.outgoing(stage)

    def finish(self, after):
        for stage in STAGES[STAGES.index(after) + 1 :]:
            self.run(stage)
        return self.server.total()

    def sum_of(self, indices) -> np.ndarray:
        return self.vectors[list(indices)].sum(axis=0, dtype=np.uint32)


def changed(wire, message_type, **fields) -> bytes:
    return encode(msgspec.structs.replace(messages.decode(wire, message_type, 1 << 20), **fields))


def opened(wire, message_type):
    return messages.decode(wire, message_type, 1 << 20)


def only(liar, lie):
    """A forgery by one client."""
    return lambda index, reply: lie(reply) if index == liar else reply


# Honest runs


@pytest.mark.parametrize("num_clients", [3, 5, 12])
def test_the_total_is_the_sum(num_clients):
    session = Session(num_clients)
    for stage in STAGES:
        session.run(stage)
    total, survivors = session.server.total()
    assert np.array_equal(total, session.sum_of(range(num_clients)))
    assert survivors == tuple(range(num_clients))
    assert not session.server.refused
    assert {client.state for client in session.clients} == {ClientState.DONE}


def _aggregate(aggregator, num_clients, drops, min_survivors=1):
    members = tuple(ClientId(f"client-{i}") for i in range(num_clients))
    rng = np.random.default_rng(num_clients)
    vectors = [(member, rng.integers(0, 2**32, 7, dtype=np.uint32)) for member in members]
    by_member = {members[i]: stage for i, stage in enumerate(drops)}
    return aggregator.sum(iter(vectors), Cohort(1, members, min_survivors), by_member)


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "needed"), [(Policy(), 4), (SEMI_HONEST, 3)], ids=["semi-malicious", "semi-honest"])
def test_every_pattern_of_drop_outs_for_five(policy, needed):
    """All 4**5 patterns: the sum is that of the survivors if `threshold` neighbours of each are left, else none."""
    aggregator = SecAgg(policy, num_threads=1)
    outcomes = Counter()
    for drops in itertools.product(DropStage, repeat=5):
        if drops.count(DropStage.NONE) >= needed:
            found, expected = _aggregate(aggregator, 5, drops), _aggregate(PlainSum(), 5, drops)
            assert np.array_equal(found.total, expected.total)
            assert found.survivors == expected.survivors
            outcomes["summed"] += 1
        else:
            with pytest.raises(BelowThreshold):
                _aggregate(aggregator, 5, drops)
            outcomes["stopped"] += 1
    assert outcomes["summed"] + outcomes["stopped"] == 4**5
    assert min(outcomes.values()) >= 16


@settings(max_examples=25, deadline=None)
@given(data=st.data(), num_clients=st.integers(6, 24), complete=st.booleans(), semi_malicious=st.booleans())
def test_random_drop_outs_of_larger_cohorts(data, num_clients, complete, semi_malicious):
    """Complete and regular graphs: the survivors' sum, or a stop; never another sum."""
    policy = Policy(
        security_bits=3,  # so that a graph on so few clients is not complete
        correctness_bits=3,
        semi_malicious=semi_malicious,
        complete_up_to=100 if complete else 0,
    )
    stage = st.sampled_from(DropStage)
    drops = [data.draw(stage) if data.draw(st.integers(0, 4)) == 0 else DropStage.NONE for _ in range(num_clients)]
    try:
        found = _aggregate(SecAgg(policy), num_clients, drops)
    except BelowThreshold:
        return
    expected = _aggregate(PlainSum(), num_clients, drops)
    assert set(found.survivors) <= set(expected.survivors)
    members = [f"client-{i}" for i in range(num_clients)]
    kept = [stage if m in found.survivors else DropStage.BEFORE_UPLOAD for m, stage in zip(members, drops)]
    assert np.array_equal(found.total, _aggregate(PlainSum(), num_clients, kept).total)


def test_a_regular_graph_sums_too():
    policy = Policy(complete_up_to=0, security_bits=20)
    drops = [DropStage.NONE] * 120
    drops[5:8] = (DropStage.BEFORE_SHARES, DropStage.BEFORE_UPLOAD, DropStage.BEFORE_UNMASK)
    found, expected = _aggregate(SecAgg(policy), 120, drops), _aggregate(PlainSum(), 120, drops)
    assert np.array_equal(found.total, expected.total)
    assert found.survivors == expected.survivors
    assert found.cost.per_client["shares"].bytes_up < 119 * 100  # not the complete graph


@pytest.mark.slow
def test_drop_outs_within_the_assumed_share_do_not_stop_a_hundred():
    drops = [DropStage.NONE] * 90 + [DropStage.BEFORE_UPLOAD] * 5 + [DropStage.BEFORE_UNMASK] * 5
    found, expected = _aggregate(SecAgg(), 100, drops), _aggregate(PlainSum(), 100, drops)
    assert np.array_equal(found.total, expected.total)


def test_a_client_may_consent_and_then_vanish():
    session = Session()
    for stage in STAGES[:-1]:
        session.run(stage)
    session.run("unmask", silent={4})
    total, survivors = session.server.total()
    assert np.array_equal(total, session.sum_of(range(5)))
    assert survivors == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("stage", STAGES)
def test_below_the_threshold_the_round_stops_with_a_reason(stage):
    session = Session()
    for earlier in STAGES[: STAGES.index(stage)]:
        session.run(earlier)
    session.run(stage, silent={0, 1, 2})
    closing = [*STAGES[1:], None][STAGES.index(stage)]
    with pytest.raises(BelowThreshold, match=r"^round 3: 2 .* needed$"):
        session.outgoing(closing) if closing else session.server.total()
    assert session.server.stage is Stage.CLOSED


def test_fewer_survivors_than_the_cohorts_minimum_stop_the_round():
    session = Session(min_survivors=5)
    for stage in ("advertise", "share"):
        session.run(stage)
    session.run("mask", silent={2})
    with pytest.raises(BelowThreshold, match="4 clients sent masked vectors, 5 needed"):
        session.outgoing("consent")


@pytest.mark.parametrize("num_clients", [1, 2])
def test_a_cohort_of_one_or_two_is_no_cohort(num_clients):
    with pytest.raises(WeakParameters):
        _aggregate(SecAgg(), num_clients, [DropStage.NONE] * num_clients)


def test_no_vectors_at_all_is_below_the_threshold():
    with pytest.raises(BelowThreshold, match="0 of 5 clients"):
        SecAgg().sum(iter([]), Cohort(1, tuple(ClientId(str(i)) for i in range(5))), {})


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


def _signed(session, index, session_name, channel_key, mask_key) -> messages.Credentials:
    """Credentials with keys of the liar's choice, well signed."""
    identity = session.identities[index]
    body = session.public[index] + channel_key + mask_key
    signature = keys.sign(identity, b"advertise", session_name, index, body)
    return messages.Credentials(index, session.public[index], channel_key, mask_key, signature)


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
        return encode(messages.Advertisement(name, _signed(session, 1, name, *pair)))

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
    with pytest.raises(BelowThreshold, match="0 good shares of client 1, 3 needed"):
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
    with pytest.raises(BelowThreshold, match="good shares of client 0, 3 needed"):
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


# Servers that lie


def refuses(session, index, stage, wire, error, text=None):
    """The client raises the named error, closes, forgets its secrets and answers nothing more."""
    with pytest.raises(error, match=text):
        session.answer(index, stage, wire)
    client = session.clients[index]
    assert client.state is ClientState.CLOSED
    assert not {"_secret", "_mask_private", "_channel_private", "_neighbours", "_held"} & set(vars(client))
    with pytest.raises(UnexpectedMessage):
        session.answer(index, stage, wire)


@pytest.mark.parametrize("stage", STAGES)
def test_a_client_takes_only_the_next_message(stage):
    """Each of the other four methods is refused and changes nothing."""
    session = Session()
    wires = session.until(stage)
    for other in STAGES:
        if other != stage:
            with pytest.raises(UnexpectedMessage, match="the client waits for"):
                session.answer(0, other, wires[0])
    for index, wire in wires.items():
        session.server.receive(index, session.answer(index, stage, wire))
    assert np.array_equal(session.finish(after=stage)[0], session.sum_of(range(5)))


@pytest.mark.parametrize("stage", STAGES)
def test_a_client_refuses_garbage(stage):
    session = Session()
    wire = session.until(stage)[0]
    refuses(session, 0, stage, wire[:-1], WireError)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_client_refuses_what_is_meant_for_another_client_or_session(stage):
    session = Session()
    wires = session.until(stage)
    refuses(session, 0, stage, wires[1], UnexpectedMessage)
    refuses(session, 2, stage, changed(wires[2], SERVER_MESSAGES[stage], session=bytes(32)), UnexpectedMessage)


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
            repeated = _signed(session, second.index, name, second.channel_key, neighbours[0].mask_key)
        elif which == "own":
            own = session.clients[0]._public_keys[2]
            repeated = _signed(session, second.index, name, second.channel_key, own)
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
            return [_signed(session, neighbours[0].index, name, *pair), *neighbours[1:]]

        refuses(session, 0, "share", _roster(session, change), RosterRefused, "small order")


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


def test_a_client_unmasks_once():
    session = Session()
    wire = session.until("unmask")[0]
    session.answer(0, "unmask", wire)
    with pytest.raises(UnexpectedMessage, match="it has unmasked"):
        session.answer(0, "unmask", wire)
    other = changed(wire, messages.UnmaskRequest, alive=[], dead=[])
    with pytest.raises(UnexpectedMessage, match="it has unmasked"):
        session.answer(0, "unmask", other)


def test_a_client_reveals_one_secret_of_a_neighbour_and_never_its_own():
    session = Session()
    for stage in ("advertise", "share"):
        session.run(stage)
    session.run("mask", silent={4})
    session.run("consent")
    for index, wire in session.outgoing("unmask").items():
        answer = opened(session.answer(index, "unmask", wire), messages.Unmasking)
        assert {share.owner for share in answer.seed_shares} == {0, 1, 2, 3} - {index}
        assert {share.owner for share in answer.key_shares} == {4}


def test_a_vector_of_another_shape_is_an_error_of_the_caller():
    session = Session()
    wire = session.until("mask")[0]
    session.vectors = session.vectors.astype(np.int64)
    with pytest.raises(ValueError, match=r"vector must be uint32 \[50\], got int64 \[50\]"):
        session.answer(0, "mask", wire)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), stage=st.sampled_from(STAGES))
def test_fuzz_what_the_server_receives(data, stage):
    """300 messages, each changed in up to three places, at a random stage: refused by name, or the session goes on."""
    session = FUZZED[stage]
    index, reply = 1, session.replies[1]
    wire = bytearray(reply)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(wire) - 1))
        wire[place] = data.draw(st.integers(0, 255))
    session.server._expected.add(index)  # as if it had not sent anything yet
    with contextlib.suppress(SecAggError):
        session.server.receive(index, bytes(wire))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), stage=st.sampled_from(STAGES))
def test_fuzz_what_a_client_receives(data, stage):
    """100 messages, each changed in one place, at a random stage: refused by name, or answered."""
    session = Session()
    wire = bytearray(session.until(stage)[0])
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(SecAggError):
        session.answer(0, stage, bytes(wire))


class _Waiting(dict):
    """Sessions that wait at a stage with the honest replies at hand, made when first asked for."""

    def __missing__(self, stage):
        session = Session()
        wires = session.until(stage)
        session.replies = {index: session.answer(index, stage, wire) for index, wire in wires.items()}
        self[stage] = session
        return session


FUZZED = _Waiting()
