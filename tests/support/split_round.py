"""A round of the split sum, its parties at hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from models.corpus import ClientId
from orchestrator.errors import BelowThreshold
from orchestrator.split import messages
from orchestrator.split.aggregator import MaskedAggregator
from orchestrator.split.client import SplitClient, Told
from orchestrator.split.errors import SplitError
from orchestrator.split.helper import MaskHelper
from orchestrator.split.hpke import seal
from orchestrator.split.opened import OpenedRounds
from orchestrator.wire import encode

NAMES = tuple(ClientId(f"client-{i}") for i in range(5))
AGREED = b"a" * 32
REFUSALS = (SplitError, BelowThreshold)
NUM_SLOTS = 6


def public(key) -> bytes:
    return key.public_key().public_bytes_raw()


@dataclass
class Parties:
    """Everybody's keys; rounds of one run."""

    num_helpers: int = 1
    min_contributions: int = 2  # of the helpers
    run: bytes = b"r" * 32
    num_slots: int = NUM_SLOTS
    identities: dict[ClientId, Ed25519PrivateKey] = field(
        default_factory=lambda: {name: Ed25519PrivateKey.generate() for name in NAMES}
    )

    def __post_init__(self):
        self.private = [X25519PrivateKey.generate() for _ in range(self.num_helpers)]
        self.public = [public(key) for key in self.private]
        self.roster = {name: public(identity) for name, identity in self.identities.items()}
        self.helpers = [self.helper(place, OpenedRounds()) for place in range(self.num_helpers)]

    def helper(self, place: int, opened: OpenedRounds) -> MaskHelper:
        return MaskHelper(self.private[place], self.public, self.roster, self.min_contributions, opened)

    def terms(self, round_num: int = 7, max_staleness: int = 0, **changes) -> messages.RoundTerms:
        names = messages.helpers_digest(self.public)
        terms = messages.RoundTerms(self.run, round_num, 0, max_staleness, self.num_slots, 2, names)
        return msgspec.structs.replace(terms, **changes)

    def vector(self, name: ClientId) -> np.ndarray:
        return np.random.default_rng(NAMES.index(name)).integers(0, 2**32, self.num_slots, dtype=np.uint32)

    def sum_of(self, names) -> list[int]:
        return sum(self.vector(name) for name in names).tolist()

    def client(self, name: ClientId, min_contributions: int = 2, answered=None) -> SplitClient:
        own = set() if answered is None else answered
        return SplitClient(name, self.identities[name], self.public, min_contributions, own)

    def upload(self, name: ClientId, terms=None, version=None, agreed: bytes = AGREED) -> bytes:
        terms = terms or self.terms()
        version = terms.round_num if version is None else version
        return self.client(name).mask(encode(terms), self.vector(name), Told(terms.run, version, agreed, 2, 3))

    def aggregator(self, terms=None, agreed=None) -> MaskedAggregator:
        terms = terms or self.terms()
        return MaskedAggregator(terms, self.num_helpers, self.roster, agreed or {terms.round_num: AGREED})

    def total(self, names=NAMES, terms=None) -> MaskedAggregator:
        """An aggregator that has the uploads of these clients."""
        aggregator = self.aggregator(terms)
        for name in names:
            aggregator.add(aggregator.check(self.upload(name, terms)))
        return aggregator

    def forged_line(self, name: ClientId, line: messages.Contribution) -> messages.Contribution:
        """A line of whatever bytes under this client's name, rightly signed by it: what a corrupt client can do."""
        stated = messages.Statement(self.terms().digest, line.version, AGREED, line.words_sha256, name)
        signature = self.identities[name].sign(stated.signed_bytes(line.seals))
        return msgspec.structs.replace(line, client_id=name, signature=signature)

    def sealed_line(self, name: ClientId, sealed: bytes) -> messages.Contribution:
        """A line with these sealed bytes for the only helper and words whose digest is zero, rightly signed."""
        seals = [hashlib.sha256(sealed).digest()]
        return self.forged_line(name, messages.Contribution(name, 7, bytes(32), seals, sealed, bytes(64)))

    def seal_for(self, name: ClientId, plain: bytes, info_of: int = 0) -> bytes:
        """Bytes sealed to the only helper as this client would, for the words whose digest is zero."""
        stated = messages.Statement(self.terms().digest, 7, AGREED, bytes(32), name)
        return seal(self.public[0], stated.seal_info(info_of), plain, aad=bytes(32))


def opened(wire: bytes, message_type):
    return messages.decode(wire, message_type, 1 << 20)


def changed(wire: bytes, message_type, **fields) -> bytes:
    return encode(msgspec.structs.replace(opened(wire, message_type), **fields))


def words_of(wire: bytes) -> np.ndarray:
    """The words of a MaskSum or an Upload."""
    return np.frombuffer(wire[-4 * NUM_SLOTS :], "<u4")
