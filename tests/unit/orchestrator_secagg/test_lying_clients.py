"""Attacks by clients: keys and shares in other encodings, and shares that are false."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from lying_server import NUM_SLOTS

from orchestrator.errors import BelowThreshold
from orchestrator.secagg import Policy, keys, messages, shamir
from orchestrator.secagg.client import Client
from orchestrator.secagg.recovery import Escrow
from orchestrator.secagg.server import Server
from orchestrator.wire import encode


def test_a_key_under_two_names_gives_no_common_mask():
    """Both sides refuse it; even if it were taken, masks and seals name their two parties."""
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    shared, session = keys.exchange(one, other.public_key().public_bytes_raw()), bytes(32)
    assert keys.pair_mask_seed(shared, session, 0, 2) != keys.pair_mask_seed(shared, session, 0, 1)
    sealed = keys.seal(bytes(66), shared, session, 0, 2)
    assert keys.unseal(sealed, keys.exchange(other, one.public_key().public_bytes_raw()), session, 0, 1) is None


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
