"""A client's half of one session: it masks its vector and helps to unmask the sum, but never one client's vector.

Each method takes the server's next message and returns the answer. The client refuses every other message (see
refusals.py). A refusal ends the session for this client: it forgets its secrets, and can only join another session.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from orchestrator.masks import Mask
from orchestrator.secagg import keys, messages, refusals, shamir
from orchestrator.secagg.errors import RosterRefused, SessionReplayed, UnexpectedMessage
from orchestrator.secagg.graph import Policy
from orchestrator.wire import encode

MAX_BYTES = 1 << 28  # of a message from the server: a roster of a million neighbours
_SECRETS = ("_channel_private", "_mask_private", "_secret", "_neighbours", "_held")
M = TypeVar("M", bound=messages.Message)


class ClientState(enum.Enum):
    """The message that the client waits for."""

    INVITATION = "an invitation"
    ROSTER = "the roster"
    DELIVERY = "the delivery of shares"
    SURVIVORS = "the survivors"
    UNMASK_REQUEST = "the unmask request"
    DONE = "nothing: it has unmasked"
    CLOSED = "nothing: it has refused"


class _Neighbour(NamedTuple):
    """What a client keeps of a neighbour; its repr shows nothing, since two fields are secret."""

    identity: bytes
    channel: bytes  # the Diffie-Hellman value that seals both ways derive from
    mask_seed: bytes

    def __repr__(self) -> str:
        return "_Neighbour(...)"


class Client:
    """One client in one session.

    Args:
      identity: the client's long-term key, enrolled beforehand.
      enrolled: the identities that may take part, as public keys of 32 bytes.
      policy: what this client insists on, whatever the server asks for.
      seen_sessions: the sessions that this device has joined; the caller keeps the set, the client adds to it.
      agreed: what all clients of the session must have heard, such as a digest of the weights that they train;
        clients with different values share no masks. Otherwise a server could send all clients but one weights that
        give a zero update, and the sum would be that one client's update.
      operations: how to check, agree and mask; only a simulation gives others than its own.
    """

    def __init__(
        self,
        identity: Ed25519PrivateKey,
        enrolled: Container[bytes],
        policy: Policy,
        seen_sessions: set[bytes],
        agreed: bytes = b"",
        operations: Optional[keys.Operations] = None,
    ):
        self._identity = identity
        self._enrolled = enrolled
        self._policy = policy
        self._seen_sessions = seen_sessions
        self._agreed = agreed
        self._operations = operations or keys.Operations()
        self.state = ClientState.INVITATION

    def __repr__(self) -> str:
        return f"Client({self.state.name})"

    def advertise(self, wire: bytes) -> bytes:
        """Answers an Invitation with an Advertisement (r0).

        Raises:
          SessionReplayed: this device has been in the session before.
          WeakParameters: see refusals.checked_parameters.
        """
        with self._step(ClientState.INVITATION, then=ClientState.ROSTER):
            invitation = messages.decode(wire, messages.Invitation, MAX_BYTES)
            session = invitation.session
            if session in self._seen_sessions:
                raise SessionReplayed(f"session {session[:4].hex()} was used before")
            self._seen_sessions.add(session)
            self._parameters = refusals.checked_parameters(invitation, self._policy)
            self._invitation, self._session, self._index = invitation, session, invitation.recipient
            self._bound = session  # what keys, seals and signatures are bound to

            self._channel_private = X25519PrivateKey.generate()
            self._mask_private = X25519PrivateKey.generate()
            self._public_keys = (
                self._identity.public_key().public_bytes_raw(),
                self._channel_private.public_key().public_bytes_raw(),
                self._mask_private.public_key().public_bytes_raw(),
            )
            signature = self._sign(b"advertise", b"".join(self._public_keys))
            self._credentials = messages.Credentials(self._index, *self._public_keys, signature)
            return encode(messages.Advertisement(session, self._credentials))

    def share(self, wire: bytes) -> bytes:
        """Answers a Roster with SealedShares: shares of the self-mask secret and of the mask key (r1).

        Raises:
          RosterRefused, TooFewPeers: see refusals.check_roster.
        """
        with self._step(ClientState.ROSTER, then=ClientState.DELIVERY):
            roster = self._decode(wire, messages.Roster)
            is_signed = self._operations.is_signed
            refusals.check_roster(roster, self._public_keys, self._enrolled, self._parameters, is_signed)
            everyone = [self._credentials, *roster.neighbours] if self._parameters.is_complete else []
            self._bound = messages.bound_session(self._session, self._agreed, everyone)
            self._secret = os.urandom(shamir.SECRET_BYTES)
            try:
                self._neighbours = {peer.index: self._agree(peer) for peer in roster.neighbours}
                shares = self._sealed_shares()
            except keys.UnsoundKey as error:
                raise RosterRefused(f"a neighbour has {error}") from None
            commitment = keys.commitment(self._secret, self._bound, self._index)
            return encode(messages.SealedShares(self._session, self._index, commitment, shares))

    def mask(self, wire: bytes, vector: NDArray[np.uint32]) -> bytes:
        """Answers a Delivery with a MaskedVector (r2).

        The client treats a share that it can't decrypt as missing: it can't help to recover that neighbour, but still
        masks with it, so that a neighbour that lies harms itself only.

        Raises:
          SharesRefused: see refusals.checked_senders.
          TooFewPeers: the client can decrypt fewer shares than the threshold.
          ValueError: the vector is not uint32 of the session's length.
        """
        with self._step(ClientState.DELIVERY, then=ClientState.SURVIVORS):
            num_slots = self._invitation.num_slots
            if vector.dtype != np.uint32 or vector.shape != (num_slots,):
                raise ValueError(f"vector must be uint32 [{num_slots}], got {vector.dtype} {list(vector.shape)}")
            delivery = self._decode(wire, messages.Delivery)
            self._peers = refusals.checked_senders(delivery, self._neighbours.keys())
            self._held = self._open(delivery)
            refusals.require_threshold(len(self._held), "neighbours' shares open", self._parameters)
            masked = np.array(vector, dtype="<u4")
            self._operations.add_masks(masked, self._masks())
            self._identities = {index: peer.identity for index, peer in self._neighbours.items()}
            self._forget(*(name for name in _SECRETS if name != "_held"))
            words = masked.data.cast("B")
            return encode(messages.MaskedVector(self._session, self._index, words))

    def consent(self, wire: bytes) -> bytes:
        """Answers Survivors with a Consent (r3).

        Raises:
          SurvivorsRefused, TooFewPeers: see refusals.checked_survivors.
        """
        with self._step(ClientState.SURVIVORS, then=ClientState.UNMASK_REQUEST):
            survivors = self._decode(wire, messages.Survivors)
            self._alive = refusals.checked_survivors(
                survivors,
                self._identities.keys(),
                self._peers,
                self._held.keys(),
                self._parameters,
                self._invitation.min_survivors,
            )
            self._bitmap = survivors.alive
            signature = self._sign(b"survivors", self._bitmap)
            return encode(messages.Consent(self._session, self._index, signature))

    def unmask(self, wire: bytes) -> bytes:
        """Answers an UnmaskRequest with an Unmasking (r4), once a session.

        Raises:
          SplitView, AliveAndDead, TooFewPeers: see refusals.check_request.
        """
        with self._step(ClientState.UNMASK_REQUEST, then=ClientState.DONE):
            request = self._decode(wire, messages.UnmaskRequest)
            dead = self._peers - self._alive
            signed = (self._bound, self._bitmap)
            refusals.check_request(
                request, signed, self._identities, self._alive, dead, self._parameters, self._operations.is_signed
            )
            held = self._held
            seed_shares = [messages.OwnedShare(i, held[i][0]) for i in request.alive if i in held]
            key_shares = [messages.OwnedShare(i, held[i][1]) for i in request.dead if i in held]
            self._forget(*_SECRETS)
            answer = messages.Unmasking(self._session, self._index, seed_shares, key_shares)
            return encode(answer)

    @contextmanager
    def _step(self, expected: ClientState, then: ClientState) -> Iterator[None]:
        """Runs a step in the expected state only; a failure inside closes the session for this client."""
        if self.state is not expected:
            raise UnexpectedMessage(f"the client waits for {self.state.value}, not for {expected.value}")
        self.state = ClientState.CLOSED
        try:
            yield
        except BaseException:
            self._forget(*_SECRETS)
            raise
        self.state = then

    def _forget(self, *names: str) -> None:
        for name in names:
            self.__dict__.pop(name, None)

    def _decode(self, wire: bytes, message_type: type[M]) -> M:
        message = messages.decode(wire, message_type, MAX_BYTES)
        if (message.session, message.recipient) != (self._session, self._index):  # type: ignore[attr-defined]
            raise UnexpectedMessage(f"a {message_type.__name__} of another session or for another client")
        return message

    def _sign(self, purpose: bytes, body: bytes) -> bytes:
        return keys.sign(self._identity, purpose, self._bound, self._index, body)

    def _agree(self, peer: messages.Credentials) -> _Neighbour:
        shared = self._operations.exchange(self._mask_private, peer.mask_key)
        seed = keys.pair_mask_seed(shared, self._bound, self._index, peer.index)
        return _Neighbour(peer.identity, self._operations.exchange(self._channel_private, peer.channel_key), seed)

    def _sealed_shares(self) -> list[messages.SealedShare]:
        """Returns both secrets, shared among the neighbours: a holder's point is its index + 1."""
        threshold, points = self._parameters.threshold, [holder + 1 for holder in self._neighbours]
        seed_shares = shamir.split(self._secret, threshold, points)
        key_shares = shamir.split(self._mask_private.private_bytes_raw(), threshold, points)
        sealed_shares = []
        for (holder, peer), pair in zip(self._neighbours.items(), zip(seed_shares, key_shares)):
            sealed = keys.seal(b"".join(pair), peer.channel, self._bound, self._index, holder)
            tags = [keys.share_tag(share, self._bound, self._index, holder) for share in pair]
            sealed_shares.append(messages.SealedShare(holder, sealed, b"".join(tags)))
        return sealed_shares

    def _open(self, delivery: messages.Delivery) -> dict[int, tuple[bytes, bytes]]:
        """Returns {neighbour: (its self-mask share, its key share)} of those that open."""
        held = {}
        for share in delivery.shares:
            channel = self._neighbours[share.sender].channel
            plain = keys.unseal(share.sealed, channel, self._bound, share.sender, self._index)
            if plain is not None:
                held[share.sender] = (plain[: shamir.SHARE_BYTES], plain[shamir.SHARE_BYTES :])
        return held

    def _masks(self) -> Iterator[Mask]:
        """Yields the self mask, and one with each peer: added by the lower index, subtracted by the higher."""
        yield Mask(keys.self_mask_seed(self._secret, self._bound, self._index), 1)
        for peer in sorted(self._peers):
            yield Mask(self._neighbours[peer].mask_seed, 1 if self._index < peer else -1)
