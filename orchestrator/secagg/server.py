"""The server's half of one session: it routes sealed shares, adds masked vectors, and unmasks only their sum.

`receive` takes a client's next message. Each stage is closed by the method that makes the next messages:

    invitations -> receive... -> rosters -> receive... -> deliveries -> receive... -> survivors
                -> receive... -> requests -> receive... -> total

A client that is silent when a stage closes has dropped out. A client that sends anything but its next legal message is
refused, and has dropped out, too. The server holds one running total, never the vectors.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator, Sequence, Set
from typing import TypeVar

import numpy as np

from orchestrator.aggregator import Vector
from orchestrator.errors import BelowThreshold
from orchestrator.masks import Mask, add_masks
from orchestrator.secagg import keys, messages
from orchestrator.secagg.errors import ClientRefused, SecAggError, UnexpectedMessage
from orchestrator.secagg.graph import Graph, Policy, graph_parameters
from orchestrator.secagg.recovery import Escrow
from orchestrator.wire import encode

Outbox = Iterator[tuple[int, bytes]]  # (recipient, message), made as it is read
M = TypeVar("M", bound=messages.Message)


class Stage(enum.Enum):
    """The messages that the server takes."""

    INVITE = "nothing yet"
    ADVERTISE = "advertisements"
    SHARES = "sealed shares"
    UPLOAD = "masked vectors"
    CONSISTENCY = "consents"
    UNMASK = "unmaskings"
    CLOSED = "nothing any more"


class Server:
    """One session of one cohort.

    Args:
      identities: each member's enrolled public key, 32 bytes; a client's number is its place in this sequence.
      num_slots: the length of a vector.
      policy: what the server assumes; the clients compute the same parameters from theirs.
      round_num: the round's number, which the session's name covers.
      min_survivors: the fewest vectors that may be summed; the policy's minimum also applies.
      num_threads: the threads with which it removes masks.
      agreed: what all clients must have heard; see Client.

    Raises:
      WeakParameters: the cohort is too small for the policy.
    """

    def __init__(
        self,
        identities: Sequence[bytes],
        num_slots: int,
        policy: Policy,
        round_num: int,
        min_survivors: int = 1,
        num_threads: int = 1,
        agreed: bytes = b"",
    ):
        self._identities = identities
        self._num_slots = num_slots
        self._round_num = round_num
        self._num_threads = num_threads
        self._agreed = agreed
        self._parameters = graph_parameters(len(identities), policy)
        self._min_survivors = max(min_survivors, policy.min_survivors)
        self._graph = Graph(self._parameters)
        self._nonce = os.urandom(keys.KEY_BYTES)
        self._session = self._invitation(0).session
        self._total = np.zeros(num_slots, np.uint32)
        self._expected: set[int] = set()  # whose messages may still come in this stage
        self._received: set[int] = set()  # whose have
        self._credentials: dict[int, messages.Credentials] = {}
        self._keys_in_use: set[bytes] = set()
        self._sealed: dict[int, dict[int, bytes]] = {}  # {recipient: {sender: shares}}, until delivered
        self._escrows: dict[int, Escrow] = {}
        self._consents: dict[int, bytes] = {}
        self.refused: dict[int, str] = {}  # {client: why}
        self.stage = Stage.INVITE

    def __repr__(self) -> str:
        return f"Server({self.stage.name})"

    def receive(self, sender: int, wire: bytes) -> None:
        """Takes the message of a client that the transport has authenticated as `sender`.

        Raises:
          UnexpectedMessage: it is not this client's turn; the session stays as it was.
          SecAggError: the message is wrong; the server goes on without the client.
        """
        if sender not in self._expected:
            raise UnexpectedMessage(f"a message of client {sender}; the server takes {self.stage.value} of others")
        self._expected.remove(sender)
        handlers: dict[Stage, Callable[[int, bytes], None]] = {
            Stage.ADVERTISE: self._take_advertisement,
            Stage.SHARES: self._take_shares,
            Stage.UPLOAD: self._take_vector,
            Stage.CONSISTENCY: self._take_consent,
            Stage.UNMASK: self._take_unmasking,
        }
        try:
            handlers[self.stage](sender, wire)
        except SecAggError as error:
            self.refused[sender] = str(error)
            raise
        self._received.add(sender)

    def invitations(self) -> Outbox:
        """Opens the session: an Invitation for each member."""
        self._advance(Stage.INVITE, Stage.ADVERTISE)
        self._expected = set(range(len(self._identities)))
        return ((index, encode(self._invitation(index))) for index in range(len(self._identities)))

    def rosters(self) -> Outbox:
        """Closes r0: a Roster for each client that advertised.

        Raises:
          BelowThreshold: too few clients are left. So do the methods below.
        """
        self._advertised = self._close(Stage.ADVERTISE, Stage.SHARES)
        everyone = [self._credentials[index] for index in self._advertised] if self._parameters.is_complete else []
        self._bound = messages.bound_session(self._session, self._agreed, everyone)

        def roster(index: int) -> messages.Roster:
            peers = [self._credentials[j] for j in self._neighbours(index, self._advertised)]
            return messages.Roster(self._session, index, peers)

        return ((index, encode(roster(index))) for index in sorted(self._advertised))

    def deliveries(self) -> Outbox:
        """Closes r1: a Delivery for each client that shared."""
        self._shared = self._close(Stage.SHARES, Stage.UPLOAD)

        def delivery(index: int) -> messages.Delivery:
            sealed = self._sealed.pop(index, {})
            senders = self._neighbours(index, self._shared)
            return messages.Delivery(self._session, index, [messages.DeliveredShare(j, sealed[j]) for j in senders])

        return ((index, encode(delivery(index))) for index in sorted(self._shared))

    def survivors(self) -> Outbox:
        """Closes r2: the Survivors for each client whose vector is in the total."""
        self._alive = self._close(Stage.UPLOAD, Stage.CONSISTENCY)
        self._dead = self._shared - self._alive  # their masks are in the survivors' vectors
        self._sealed.clear()
        self._bitmap = messages.to_bitmap(self._alive, len(self._identities))

        def survivors(index: int) -> messages.Survivors:
            return messages.Survivors(self._session, index, self._bitmap)

        return ((index, encode(survivors(index))) for index in sorted(self._alive))

    def requests(self) -> Outbox:
        """Closes r3: an UnmaskRequest for each client that consented."""
        consented = self._close(Stage.CONSISTENCY, Stage.UNMASK)

        def request(index: int) -> messages.UnmaskRequest:
            consents = [messages.PeerConsent(j, self._consents[j]) for j in self._neighbours(index, consented)]
            alive, dead = self._neighbours(index, self._alive), self._neighbours(index, self._dead)
            return messages.UnmaskRequest(self._session, index, consents, alive, dead)

        return ((index, encode(request(index))) for index in sorted(consented))

    def total(self) -> tuple[Vector, tuple[int, ...]]:
        """Closes r4 and returns the sum of the survivors' vectors, uint32 [num_slots], and the survivors' numbers.

        Raises:
          BelowThreshold: a secret that is needed has too few good shares; RecoveryFailed where a client's lie is why.
        """
        self._answered = self._close(Stage.UNMASK, Stage.CLOSED)
        add_masks(self._total, self._masks_left(), self._num_threads)
        return self._total, tuple(sorted(self._alive))

    def _masks_left(self) -> Iterator[Mask]:
        """Yields the masks still in the total: each survivor's own, and those between a survivor and a drop-out."""
        threshold = self._parameters.threshold
        for owner in sorted(self._alive):
            yield Mask(self._escrow(owner).self_mask_seed(threshold), -1)
        for owner in sorted(self._dead):
            peers = self._neighbours(owner, self._alive)
            if not peers:
                continue
            private = self._escrow(owner).mask_private(threshold)
            for peer in peers:  # the lower index had added the mask, the higher subtracted it
                shared = keys.exchange(private, self._credentials[peer].mask_key)
                seed = keys.pair_mask_seed(shared, self._bound, owner, peer)
                yield Mask(seed, -1 if peer < owner else 1)

    def _escrow(self, owner: int) -> Escrow:
        escrow = self._escrows[owner]
        escrow.require_shares(self._parameters.threshold, self._answered)
        if escrow.num_shares() < self._parameters.threshold:
            self._abort(f"{escrow.num_shares()} good shares of client {owner}", self._parameters.threshold)
        return escrow

    def _take_advertisement(self, sender: int, wire: bytes) -> None:
        found = self._decode(sender, wire, messages.Advertisement, max_bytes=512).credentials
        if found.index != sender or found.identity != self._identities[sender]:
            raise ClientRefused(f"client {sender} advertises as someone else")
        if not keys.is_signed(found.signature, found.identity, b"advertise", self._session, sender, found.signed_bytes):
            raise ClientRefused(f"client {sender} did not sign its keys")
        if not (keys.is_sound(found.channel_key) and keys.is_sound(found.mask_key)):
            raise ClientRefused(f"client {sender} advertises a key of small order, or not in its own writing")
        both = {found.channel_key, found.mask_key}
        if len(both) < 2 or both & self._keys_in_use:
            raise ClientRefused(f"client {sender} advertises a key that is in use")
        self._keys_in_use |= both
        self._credentials[sender] = found

    def _take_shares(self, sender: int, wire: bytes) -> None:
        max_bytes = 256 + 256 * self._parameters.degree
        message = self._decode(sender, wire, messages.SealedShares, max_bytes)
        if [share.recipient for share in message.shares] != self._neighbours(sender, self._advertised):
            raise ClientRefused(f"client {sender} shares with others than its neighbours")
        mask_key = self._credentials[sender].mask_key
        tags = {share.recipient: share.tags for share in message.shares}
        self._escrows[sender] = Escrow(self._bound, sender, mask_key, message.commitment, tags)
        for share in message.shares:
            self._sealed.setdefault(share.recipient, {})[sender] = share.sealed

    def _take_vector(self, sender: int, wire: bytes) -> None:
        num_bytes = 4 * self._num_slots
        words = self._decode(sender, wire, messages.MaskedVector, max_bytes=256 + num_bytes).words
        if words.nbytes != num_bytes:
            raise ClientRefused(f"client {sender} sent {words.nbytes} bytes of words, {num_bytes} expected")
        self._total += np.frombuffer(words, "<u4")  # wraps: modulo 2**32

    def _take_consent(self, sender: int, wire: bytes) -> None:
        signature = self._decode(sender, wire, messages.Consent, max_bytes=256).signature
        identity = self._identities[sender]
        if not keys.is_signed(signature, identity, b"survivors", self._bound, sender, self._bitmap):
            raise ClientRefused(f"client {sender} did not sign the survivors that it was told")
        self._consents[sender] = signature

    def _take_unmasking(self, sender: int, wire: bytes) -> None:
        """Keeps the good shares. A bad one may be its holder's lie or its dealer's, so it alone is left out."""
        max_bytes = 256 + 64 * self._parameters.degree
        message = self._decode(sender, wire, messages.Unmasking, max_bytes)
        owners = [share.owner for share in (*message.seed_shares, *message.key_shares)]
        alive, dead = set(self._neighbours(sender, self._alive)), set(self._neighbours(sender, self._dead))
        if (
            len(set(owners)) != len(owners)
            or not alive.issuperset(share.owner for share in message.seed_shares)
            or not dead.issuperset(share.owner for share in message.key_shares)
        ):
            raise ClientRefused(f"client {sender} sent shares that were not asked for")
        good = [self._escrows[share.owner].add_seed_share(sender, share.share) for share in message.seed_shares]
        good += [self._escrows[share.owner].add_key_share(sender, share.share) for share in message.key_shares]
        if not all(good):
            self.refused[sender] = f"{good.count(False)} shares of client {sender} are not those that were dealt"

    def _neighbours(self, index: int, among: Set[int]) -> list[int]:
        return [other for other in self._graph.neighbours(index) if other in among]

    def _decode(self, sender: int, wire: bytes, message_type: type[M], max_bytes: int) -> M:
        message = messages.decode(wire, message_type, max_bytes)
        claimed = getattr(message, "sender", sender)  # an advertisement's sender is in its credentials
        if (message.session, claimed) != (self._session, sender):  # type: ignore[attr-defined]
            raise ClientRefused(f"client {sender} sent a message of another session or in another's name")
        return message

    def _advance(self, current: Stage, to: Stage) -> None:
        if self.stage is not current:
            raise UnexpectedMessage(f"the server takes {self.stage.value}, it can't close {current.value}")
        self.stage = to

    def _close(self, current: Stage, to: Stage) -> frozenset[int]:
        """Closes a stage, and returns who sent its message; only they may send the next."""
        self._advance(current, to)
        done = frozenset(self._received)
        self._expected, self._received = set(done), set()
        needed = self._parameters.threshold + (0 if to is Stage.CLOSED else 1)
        if to in (Stage.SHARES, Stage.UPLOAD, Stage.CONSISTENCY):
            needed = max(needed, self._min_survivors)
        if len(done) < needed:
            self._abort(f"{len(done)} clients sent {current.value}", needed)
        if to is Stage.CLOSED:
            self._expected = set()
        return done

    def _abort(self, found: str, needed: int) -> None:
        self.stage, self._expected = Stage.CLOSED, set()
        raise BelowThreshold(f"round {self._round_num}: {found}, {needed} needed")

    def _invitation(self, recipient: int) -> messages.Invitation:
        graph, nonce = self._parameters, self._nonce
        limits = (graph.degree, graph.threshold, self._min_survivors, self._num_slots)
        return messages.Invitation(nonce, self._round_num, recipient, graph.num_clients, *limits)
