"""Recovers one client's secret for the server: the self-mask secret if its vector arrived, else the mask key.

The server never recovers both, since together they would unmask that client's vector alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Set

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.secagg import keys, shamir
from orchestrator.secagg.errors import RecoveryFailed


class Escrow:
    """The shares of one client's secret, as its neighbours hand them in.

    Args:
      session: the session's name as bound; see messages.bound_session.
      owner: the client whose secrets these are.
      mask_key: the public key that it advertised.
      commitment: what it committed to as its self-mask secret.
      tags: {holder: two tags}, by which a share shows that it is the one that the owner dealt.
    """

    def __init__(self, session: bytes, owner: int, mask_key: bytes, commitment: bytes, tags: Mapping[int, bytes]):
        self._session = session
        self._owner = owner
        self._mask_key = mask_key
        self._commitment = commitment
        self._tags = tags
        self._seed_shares: dict[int, bytes] = {}
        self._key_shares: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"Escrow(owner={self._owner})"

    def add_seed_share(self, holder: int, share: bytes) -> bool:
        """Keeps a holder's share of the self-mask secret; False if it is not the one that was dealt."""
        return self._add(self._seed_shares, holder, share, self._tags[holder][: keys.TAG_BYTES])

    def add_key_share(self, holder: int, share: bytes) -> bool:
        """Keeps a holder's share of the mask key; False if it is not the one that was dealt."""
        return self._add(self._key_shares, holder, share, self._tags[holder][keys.TAG_BYTES :])

    def num_shares(self) -> int:
        """Returns the number of good shares so far."""
        return len(self._seed_shares) + len(self._key_shares)

    def require_shares(self, threshold: int, answered: Set[int]) -> None:
        """Passes if there are enough good shares, or if they are few because holders vanished.

        Args:
          threshold: how many are needed.
          answered: the clients that answered the unmask request.

        Raises:
          RecoveryFailed: enough holders answered, but not with the shares that the owner vouched for.
        """
        good, held = self.num_shares(), answered & self._tags.keys()
        if good < threshold <= len(held):
            accusers = sorted(held - self._seed_shares.keys() - self._key_shares.keys())
            what = f"dealt {len(held)} clients {good} good shares, {threshold} needed"
            raise RecoveryFailed(self._owner, what, accusers)

    def self_mask_seed(self, threshold: int) -> bytes:
        """Returns the seed of the owner's own mask.

        Raises:
          RecoveryFailed: the shares give another secret than the owner committed to.
        """
        secret = self._combine(self._seed_shares, threshold)
        found = keys.commitment(secret, self._session, self._owner)
        if not hmac.compare_digest(found, self._commitment):
            raise RecoveryFailed(self._owner, "dealt shares of another secret than it committed to")
        return keys.self_mask_seed(secret, self._session, self._owner)

    def mask_private(self, threshold: int) -> X25519PrivateKey:
        """Returns the owner's mask key.

        Raises:
          RecoveryFailed: the shares give another key than the owner advertised.
        """
        private = X25519PrivateKey.from_private_bytes(self._combine(self._key_shares, threshold))
        if private.public_key().public_bytes_raw() != self._mask_key:
            raise RecoveryFailed(self._owner, "dealt shares of another key than it advertised")
        return private

    def _add(self, kept: dict[int, bytes], holder: int, share: bytes, tag: bytes) -> bool:
        if not hmac.compare_digest(keys.share_tag(share, self._session, self._owner, holder), tag):
            return False
        kept[holder] = share
        assert not (self._seed_shares and self._key_shares)
        return True

    def _combine(self, shares: Mapping[int, bytes], threshold: int) -> bytes:
        holders = sorted(shares)[:threshold]
        try:
            return shamir.combine({holder + 1: shares[holder] for holder in holders})
        except ValueError:
            raise RecoveryFailed(self._owner, "dealt shares that do not fit together") from None
