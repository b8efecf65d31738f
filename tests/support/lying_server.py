"""A server of secure aggregation that shows each client whatever it likes."""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.secagg import Policy, messages
from orchestrator.secagg.client import Client
from orchestrator.secagg.graph import graph_parameters
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
