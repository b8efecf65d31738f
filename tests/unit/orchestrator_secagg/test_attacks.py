"""Attacks on the protocol by servers and clients that know it well; each is tried, and what it may gain is counted.

Sessions here are driven by a server of the test's own, which shows each client whatever it likes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from models.corpus import ClientId
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages as encrypted
from orchestrator.homomorphic.aggregator import CiphertextAggregator
from orchestrator.homomorphic.client import ClientEncryptor
from orchestrator.homomorphic.decryptor import SumDecryptor
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.secagg import Policy, keys, messages, shamir
from orchestrator.secagg.client import Client
from orchestrator.secagg.errors import SecAggError, SplitView, TooFewPeers
from orchestrator.secagg.graph import graph_parameters
from orchestrator.secagg.recovery import Escrow
from orchestrator.secagg.server import Server
from orchestrator.wire import encode

NUM_SLOTS = 6


class LyingServer:
    """Honest clients, and a server that may show each of them another roster, delivery and set of survivors.

    Args:
      num_clients: what each client is told.
      places: the number that each client is given; two may get the same one.
      agreed: what each client was told otherwise, if not all the same.
    """

    def __init__(self, num_clients, places, policy=None, agreed=None):
        policy = policy or Policy()
        self.places, self.num_clients = places, num_clients
        self.identities = [Ed25519PrivateKey.generate() for _ in places]
        enrolled = {identity.public_key().public_bytes_raw() for identity in self.identities}
        self.clients = [
            Client(identity, enrolled, policy, set(), agreed[i] if agreed else b"")
            for i, identity in enumerate(self.identities)
        ]
        parameters = graph_parameters(num_clients, policy)
        self.threshold = parameters.threshold
        limits = (parameters.degree, parameters.threshold, policy.min_survivors, NUM_SLOTS)
        nonce = os.urandom(32)
        self.invitations = [messages.Invitation(nonce, 1, place, num_clients, *limits) for place in places]
        self.session = self.invitations[0].session
        self.credentials = [
            self._ask(i, Client.advertise, invitation, messages.Advertisement).credentials
            for i, invitation in enumerate(self.invitations)
        ]
        self.shares = {}  # {(dealer, holder): sealed}

    def _ask(self, index, method, message, answer_type, *args):
        return messages.decode(method(self.clients[index], encode(message), *args), answer_type, 1 << 20)

    def show_roster(self, index, others):
        others = sorted(others, key=lambda other: self.places[other])
        roster = messages.Roster(self.session, self.places[index], [self.credentials[other] for other in others])
        dealt = self._ask(index, Client.share, roster, messages.SealedShares)
        for other, share in zip(others, dealt.shares):
            self.shares[index, other] = share.sealed

    def deliver(self, index, senders):
        shares = [messages.DeliveredShare(self.places[other], self.shares[other, index]) for other in senders]
        delivery = messages.Delivery(self.session, self.places[index], shares)
        self._ask(index, Client.mask, delivery, messages.MaskedVector, np.zeros(NUM_SLOTS, np.uint32))

    def show_survivors(self, index, alive):
        bitmap = messages.to_bitmap(alive, self.num_clients)
        survivors = messages.Survivors(self.session, self.places[index], bitmap)
        return self._ask(index, Client.consent, survivors, messages.Consent).signature

    def unmask(self, index, consents, alive, dead):
        peers = [messages.PeerConsent(other, signature) for other, signature in consents.items()]
        request = messages.UnmaskRequest(self.session, self.places[index], peers, alive, dead)
        return self._ask(index, Client.unmask, request, messages.Unmasking)


# What clients must be told alike


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


# A server that shows each client survivors and deliveries of its choice, on the complete graph


def _lie(rng, num_clients, policy) -> tuple[set[int], list[int], bool]:
    """One session: up to two sets of survivors, each client told one of them after a delivery of some shares, all
    consents forwarded to whoever may take them.

    Returns (clients of whom the server has both secrets, the sizes of the crowds whose sums it can read, whether it
    told two sets and got something nevertheless).
    """
    server = LyingServer(num_clients, range(num_clients), policy)
    everyone, threshold = set(range(num_clients)), server.threshold
    for index in everyone:
        server.show_roster(index, everyone - {index})
    sizes = rng.integers(threshold + 1, num_clients + 1, 2)
    views = [frozenset(rng.permutation(num_clients)[:size].tolist()) for size in sizes]
    peers, told, consents = {}, {}, {}
    for index in everyone:
        told[index] = view = views[int(rng.random() < 0.4)]
        others = rng.permutation(sorted(everyone - view - {index})).tolist()
        spare = others[: rng.integers(0, len(others) + 1)]
        peers[index] = (view | set(spare)) - {index}  # the client insists on its survivors' shares
        server.deliver(index, peers[index])
        with contextlib.suppress(SecAggError):
            consents[index] = server.show_survivors(index, view)
    seed_holders, key_holders = {i: set() for i in everyone}, {i: set() for i in everyone}
    for index in consents:
        view = told[index]
        same = {i: consents[i] for i in peers[index] & view & consents.keys() if told[i] == view}
        try:
            got = server.unmask(index, same, sorted(peers[index] & view), sorted(peers[index] - view))
        except TooFewPeers:
            continue
        for share in got.seed_shares:
            seed_holders[share.owner].add(index)
        for share in got.key_shares:
            key_holders[share.owner].add(index)
    seed_known = {i for i in everyone if len(seed_holders[i]) >= threshold}
    key_known = {i for i in everyone if len(key_holders[i]) >= threshold}
    sizes = _readable_crowds({i: peers[i] - key_known for i in everyone}, seed_known)
    return seed_known & key_known, sizes, bool(seed_known) and len({told[i] for i in consents}) > 1


def _readable_crowds(masked_with, seed_known) -> list[int]:
    """The sizes of the sets of clients whose masks cancel within: each one's sum can be read.

    masked_with: {client: those with whom it shares a mask that can't be recovered}, as the client itself had it.
    """
    sizes = []
    for target in seed_known:
        crowd, todo = {target}, [target]
        while todo:
            found = masked_with[todo.pop()] - crowd
            crowd |= found
            todo += found
        cancels = all(index in masked_with[other] for index in crowd for other in masked_with[index])
        if cancels and crowd <= seed_known:
            sizes.append(len(crowd))
    return sizes


@pytest.mark.parametrize("num_clients", [5, 8])
def test_no_mixture_of_views_gives_both_secrets_of_one_or_the_sum_of_too_few(num_clients):
    """60 sessions each. By the shares that it gets, the server never has both secrets of a client, and what it can
    read is a sum of at least threshold + 1."""
    rng, got_something = np.random.default_rng(num_clients), 0
    least = graph_parameters(num_clients, Policy()).threshold + 1
    for _ in range(60):
        both, crowds, lied = _lie(rng, num_clients, Policy())
        assert not both
        assert min(crowds, default=least) >= least
        got_something += lied
    assert got_something >= 5  # lies that were not all refused


def test_a_lower_threshold_would_not_withstand_that():
    """The same server against the threshold that trusts it: it gets both secrets of someone."""
    rng, policy = np.random.default_rng(1), Policy(semi_malicious=False)
    assert any(_lie(rng, 8, policy)[0] for _ in range(60))


# Keys and shares in other encodings


def test_another_encoding_of_a_key_gives_no_common_mask():
    """X25519 ignores a public key's top bit, so a copy of a key can look new; masks name their two parties."""
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = other.public_key().public_bytes_raw()
    twin = public[:-1] + bytes([public[-1] ^ 0x80])
    assert keys.agree(one, twin, b"") == keys.agree(one, public, b"")
    session = bytes(32)
    assert keys.pair_mask_seed(one, twin, session, 0, 2) != keys.pair_mask_seed(one, public, session, 0, 1)
    sealed = keys.seal(bytes(66), one, twin, session, 0, 2)
    assert keys.unseal(sealed, other, one.public_key().public_bytes_raw(), session, 0, 1) is None


def _escrow():
    session, secret, private = bytes(32), os.urandom(32), X25519PrivateKey.generate()
    shares = list(zip(*(shamir.split(s, 2, [2, 3]) for s in (secret, private.private_bytes_raw()))))
    tags = {
        holder: b"".join(keys.share_tag(share, session, 0, holder) for share in pair)
        for holder, pair in zip((1, 2), shares)
    }
    public = private.public_key().public_bytes_raw()
    return Escrow(session, 0, public, keys.commitment(secret, session, 0), tags), shares


def test_a_share_in_another_encoding_or_of_the_other_secret_is_not_the_one_dealt():
    escrow, shares = _escrow()
    seed_share, key_share = shares[0]
    beyond = (int.from_bytes(seed_share, "big") + shamir.PRIME).to_bytes(33, "big")  # the same element of the field
    assert not escrow.add_seed_share(1, beyond)
    assert not escrow.add_seed_share(1, key_share)
    assert not escrow.add_key_share(1, seed_share)
    assert not escrow.add_seed_share(2, seed_share)
    assert escrow.num_shares() == 0
    assert escrow.add_seed_share(1, seed_share)
    assert escrow.add_seed_share(2, shares[1][0])
    assert len(escrow.self_mask_seed(threshold=2)) == 32


# A client that costs a round must not cost the run


def test_false_shares_abandon_the_round_like_too_few_clients():
    """training.py goes on after a BelowThreshold; any other error would let one client end the run."""
    identities = [Ed25519PrivateKey.generate() for _ in range(5)]
    public = [identity.public_key().public_bytes_raw() for identity in identities]
    clients = [Client(identity, set(public), Policy(), set()) for identity in identities]
    server = Server(public, NUM_SLOTS, Policy(), round_num=1)
    steps = (
        (server.invitations, Client.advertise),
        (server.rosters, Client.share),
        (server.deliveries, lambda client, wire: client.mask(wire, np.zeros(NUM_SLOTS, np.uint32))),
        (server.survivors, Client.consent),
        (server.requests, Client.unmask),
    )
    for outbox, answer in steps:
        for index, wire in outbox():
            reply = answer(clients[index], wire)
            if answer is Client.share and index == 1:
                dealt = messages.decode(reply, messages.SealedShares, len(reply))
                reply = encode(msgspec.structs.replace(dealt, commitment=bytes(32)))
            server.receive(index, reply)
    with pytest.raises(BelowThreshold, match="client 1 dealt shares of another secret"):
        server.total()


# The encrypted sum


def test_the_limit_of_the_encrypted_sum_one_client_that_lies_can_have_the_total_carry_the_secret_key():
    """Aggregator and decryptor follow the protocol. One client sends a ciphertext that is no encryption: with c0 = 0
    and c1 = q / 4 it decrypts to 2**30 times the secret key. Whoever sees the total and kept the uploads reads each.

    Nothing short of a proof that uploads are well formed prevents it, so no client may collude with the aggregator.
    """
    parameters = BfvParameters(2048, 54)
    degree, modulus = parameters.poly_degree, parameters.coeff_modulus
    names = [ClientId(f"client-{i}") for i in range(3)]
    identities = {name: Ed25519PrivateKey.generate() for name in names}
    roster = {name: identity.public_key().public_bytes_raw() for name, identity in identities.items()}
    signing_key = Ed25519PrivateKey.generate()
    pinned = signing_key.public_key().public_bytes_raw()
    decryptor = SumDecryptor(parameters, signing_key, roster, min_contributions=3)
    terms = decryptor.open_round(round_num=1, dim=degree)
    aggregator = CiphertextAggregator(terms, pinned, roster)
    vectors = np.random.default_rng(0).integers(-(2**20), 2**20, (2, degree), np.int32).view(np.uint32)
    uploads = []
    for name, vector in zip(names, vectors):
        uploads.append(ClientEncryptor(name, identities[name], pinned, 2, set()).encrypt(terms, vector))
        aggregator.add(aggregator.check(uploads[-1]))

    crafted = np.zeros(2 * degree, np.uint64)
    crafted[degree] = modulus // 4
    body = encrypted.pack_words(crafted, parameters)
    digest = encrypted.decode(terms, encrypted.RoundTerms, len(terms)).digest
    signed = encrypted.contribution_bytes(digest, names[2], hashlib.sha256(body).digest())
    lie = encrypted.Upload(digest, names[2], identities[names[2]].sign(signed), memoryview(body))
    aggregator.add(aggregator.check(encode(lie)))
    total = decryptor.decrypt(*aggregator.finish())

    key = (total.view(np.int32).astype(np.int64) + 2**29) // 2**30  # the true sum is far below 2**29
    key[key == 2] = -2
    assert set(key) == {-1, 0, 1}
    for upload, vector in zip(uploads, vectors):
        words = encrypted.unpack_words(encrypted.decode(upload, encrypted.Upload, len(upload)).ciphertexts, parameters)
        plain, second = words[:degree].astype(object), words[degree:].astype(object)
        for place in np.flatnonzero(key):  # c0 + c1 * key modulo q and X**degree + 1
            plain += key[place] * np.concatenate([-second[degree - place :], second[: degree - place]])
        slots = [(value % modulus * 2**32 + modulus // 2) // modulus % 2**32 for value in plain]
        assert slots == vector.tolist()
