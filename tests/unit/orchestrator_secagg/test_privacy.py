"""What the server sees of one client is uniform and does not depend on who sent what; nothing shows a secret."""

from __future__ import annotations

import base64
import gc
import logging

import numpy as np
import pytest
from scipy import stats

from models.corpus import ClientId
from orchestrator.aggregator import Cohort, DropStage
from orchestrator.masks import Mask, add_masks
from orchestrator.secagg import Policy, SecAgg, keys, messages
from orchestrator.secagg.client import Client
from orchestrator.secagg.errors import SecAggError
from orchestrator.secagg.server import Server

FALSE_ALARM = 1e-9  # of each test that draws random numbers
MEMBERS = tuple(ClientId(f"client-{i}") for i in range(5))
COHORT = Cohort(round_num=1, members=MEMBERS)


def _chi_square_limit(num_cells: int) -> float:
    return float(stats.chi2(num_cells - 1).isf(FALSE_ALARM))


def _uploads(vectors, drops=None) -> dict[ClientId, np.ndarray]:
    """The words that the server receives of each client."""
    seen = {}

    def observe(stage, client_id, wire):
        if stage == "upload":
            words = messages.decode(wire, messages.MaskedVector, len(wire)).words
            seen[client_id] = np.frombuffer(words, "<u4").copy()

    SecAgg(observer=observe).sum(iter(vectors.items()), COHORT, drops or {})
    return seen


@pytest.mark.parametrize("value", [0, 1, 2**32 - 1])
def test_a_masked_vector_is_uniform(value):
    """One client's 250,000 words, all equal before masking: each of their four bytes in 256 bins (n = 250,000), and
    neighbouring low bytes' high nibbles in pairs (n = 249,999). Chi-square, false-alarm rate 1e-9 a test, so below
    1e-7 for the 75 of them."""
    vectors = {member: np.full(250_000, value, np.uint32) for member in MEMBERS}
    for words in _uploads(vectors).values():
        for column in words.view(np.uint8).reshape(-1, 4).T:
            assert stats.chisquare(np.bincount(column, minlength=256)).statistic < _chi_square_limit(256)
        nibbles = words >> 4 & 15
        pairs = np.bincount(nibbles[1:] * 16 + nibbles[:-1], minlength=256)
        assert stats.chisquare(pairs).statistic < _chi_square_limit(256)


def test_two_masked_copies_of_one_vector_have_nothing_in_common():
    """n = 250,000 words each of two clients and of one client in two sessions: equal words number about
    250,000 / 2**32, so more than 3 with probability below 1e-18; equal low bytes are binomial(n, 1/256)."""
    vectors = {member: np.full(250_000, 7, np.uint32) for member in MEMBERS}
    first, second = _uploads(vectors), _uploads(vectors)
    low, high = stats.binom(250_000, 1 / 256).interval(1 - FALSE_ALARM)
    for one, other in ((first[MEMBERS[0]], first[MEMBERS[1]]), (first[MEMBERS[0]], second[MEMBERS[0]])):
        assert np.count_nonzero(one == other) <= 3
        assert low <= np.count_nonzero(one % 256 == other % 256) <= high


def without_mask(vector, seed) -> np.ndarray:
    unmasked = vector.copy()
    add_masks(unmasked, [Mask(seed, -1)])
    return unmasked


def _server_view(values) -> tuple[np.ndarray, np.ndarray]:
    """What a server knows at the end of a session: the vectors without the self masks, which it recovered; the total.

    uint32 [5, num_slots] and [num_slots]. The pair masks are all that protects a client now.
    """
    num_slots = 100_000
    identities = [keys.Ed25519PrivateKey.generate() for _ in values]
    public = [identity.public_key().public_bytes_raw() for identity in identities]
    clients = [Client(identity, set(public), Policy(), set()) for identity in identities]
    server = Server(public, num_slots, Policy(), round_num=1)
    masked = []
    for outbox, answer in (
        (server.invitations, Client.advertise),
        (server.rosters, Client.share),
        (server.deliveries, None),
        (server.survivors, Client.consent),
        (server.requests, Client.unmask),
    ):
        for index, wire in outbox():
            if answer is None:
                reply = clients[index].mask(wire, np.full(num_slots, values[index], np.uint32))
                words = messages.decode(reply, messages.MaskedVector, len(reply)).words
                masked.append(np.frombuffer(words, "<u4"))
            else:
                reply = answer(clients[index], wire)
            server.receive(index, reply)
    seeds = [server._escrows[index].self_mask_seed(server._parameters.threshold) for index in range(len(values))]
    total, _ = server.total()
    return np.stack([without_mask(vector, seed) for vector, seed in zip(masked, seeds)]), total


def test_the_view_does_not_change_when_two_inputs_are_swapped():
    """Inputs (0, 9, ..) and (9, 0, ..), equal in sum. n = 100,000 slots each: the joint low nibbles of the two clients
    in 256 cells, two samples; each client's low byte in 256 bins. Chi-square, false-alarm rate 1e-9 a test."""
    view, total = _server_view([0, 9, 5, 5, 5])
    swapped, swapped_total = _server_view([9, 0, 5, 5, 5])
    assert np.array_equal(total, swapped_total)
    assert set(total) == {24}
    assert np.array_equal(view.sum(axis=0, dtype=np.uint32), total)

    def cells(v):
        return np.bincount((v[0] & 15) * 16 + (v[1] & 15), minlength=256)

    statistic, *_ = stats.chi2_contingency([cells(view), cells(swapped)])
    assert statistic < _chi_square_limit(256)
    for row in (*view, *swapped):
        assert stats.chisquare(np.bincount(row & 255, minlength=256)).statistic < _chi_square_limit(256)


def test_the_swap_test_would_notice_a_missing_pair_mask():
    """The same statistic on the bare inputs is far beyond its limit."""
    bare = [np.bincount(np.full(100_000, cell), minlength=256)[:256] + 1 for cell in (9, 144)]
    assert stats.chi2_contingency(bare)[0] > 100 * _chi_square_limit(256)


def test_a_dropped_clients_vector_stays_hidden():
    """The server has the upload of a client that vanished before the unmasking, and its survivors' shares: it may
    recover the self mask only, never the mask key as well."""
    server_side = {}

    def observe(stage, client_id, wire):
        if stage == "unmask":
            message = messages.decode(wire, messages.Unmasking, len(wire))
            server_side[client_id] = ({s.owner for s in message.seed_shares}, {s.owner for s in message.key_shares})

    vectors = {member: np.ones(10, np.uint32) for member in MEMBERS}
    SecAgg(observer=observe).sum(iter(vectors.items()), COHORT, {MEMBERS[4]: DropStage.BEFORE_UNMASK})
    assert len(server_side) == 4
    for seed_owners, key_owners in server_side.values():
        assert 4 in seed_owners
        assert not key_owners


def _secrets_of(clients) -> set[bytes]:
    """Everything in the clients' memory that nobody may see, in the middle of a session."""
    found = set()
    for client in clients:
        for name in ("_channel_private", "_mask_private"):
            if name in vars(client):
                found.add(vars(client)[name].private_bytes_raw())
        found.add(vars(client).get("_secret", b""))
        found.update(peer.mask_seed for peer in vars(client).get("_neighbours", {}).values())
        found.update(share for pair in vars(client).get("_held", {}).values() for share in pair)
        found.add(client._identity.private_bytes_raw())
    return found - {b""}


def test_no_secret_is_in_a_log_a_repr_or_an_exception(caplog):
    """Runs a session whose clients and server meet lies at every stage, and looks at every text that comes out."""
    caplog.set_level(logging.DEBUG)
    secrets, texts = set(), []
    for lying_stage in range(5):
        identities = [keys.Ed25519PrivateKey.generate() for _ in range(8)]
        public = [identity.public_key().public_bytes_raw() for identity in identities]
        clients = [Client(identity, set(public), Policy(), set()) for identity in identities]
        server = Server(public, 10, Policy(), round_num=1)
        steps = (
            (server.invitations, Client.advertise),
            (server.rosters, Client.share),
            (server.deliveries, lambda client, wire: client.mask(wire, np.arange(10, dtype=np.uint32))),
            (server.survivors, Client.consent),
            (server.requests, Client.unmask),
        )
        for stage, (outbox, answer) in enumerate(steps):
            for index, wire in outbox():
                lie = stage == lying_stage and index == 0
                try:
                    reply = answer(clients[index], wire[:-1] + b"?" if lie else wire)
                    server.receive(index, reply[:-1] + b"?" if stage == lying_stage and index == 1 else reply)
                except SecAggError as error:
                    texts += [str(error), repr(error), repr(error.__cause__)]
            secrets |= _secrets_of(clients)
            texts += [repr(thing) for thing in (*clients, server, *server._escrows.values(), server.refused)]
            texts += [repr(vars(client).get("_neighbours")) for client in clients]
    texts += [repr(thing) for thing in gc.get_objects() if isinstance(thing, (messages.Message, Mask))]
    texts += [record.getMessage() for record in caplog.records]

    text = "\n".join(texts)
    assert len(secrets) > 100
    assert "that are not such a message" in text
    for secret in secrets:
        forms = (secret.hex(), repr(secret), base64.b64encode(secret).decode(), str(int.from_bytes(secret, "big")))
        assert not [form for form in forms if form.strip("=") in text]


def test_secrets_are_forgotten_when_they_are_no_longer_needed():
    identities = [keys.Ed25519PrivateKey.generate() for _ in MEMBERS]
    public = [identity.public_key().public_bytes_raw() for identity in identities]
    clients = [Client(identity, set(public), Policy(), set()) for identity in identities]
    server = Server(public, 10, Policy(), round_num=1)
    for outbox, answer in ((server.invitations, Client.advertise), (server.rosters, Client.share)):
        for index, wire in outbox():
            server.receive(index, answer(clients[index], wire))
    for index, wire in server.deliveries():
        server.receive(index, clients[index].mask(wire, np.zeros(10, np.uint32)))
        assert not {"_secret", "_mask_private", "_channel_private", "_neighbours"} & set(vars(clients[index]))
    for outbox, answer in ((server.survivors, Client.consent), (server.requests, Client.unmask)):
        for index, wire in outbox():
            server.receive(index, answer(clients[index], wire))
    assert not any("_held" in vars(client) for client in clients)
