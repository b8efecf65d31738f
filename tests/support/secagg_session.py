"""A session of secure aggregation that a test drives message by message."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.secagg import Policy, keys, messages
from orchestrator.secagg.client import Client, ClientState
from orchestrator.secagg.errors import (
    SecAggError,
    UnexpectedMessage,
)
from orchestrator.secagg.server import Server
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


def signed_credentials(session, index, session_name, channel_key, mask_key) -> messages.Credentials:
    """Credentials with keys of the liar's choice, well signed."""
    identity = session.identities[index]
    body = session.public[index] + channel_key + mask_key
    signature = keys.sign(identity, b"advertise", session_name, index, body)
    return messages.Credentials(index, session.public[index], channel_key, mask_key, signature)
