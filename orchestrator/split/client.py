"""The client's role: it masks its vector, and seals the mask's seed for the helper, in one message."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.corpus import ClientId
from orchestrator.aggregator import Vector
from orchestrator.errors import BelowThreshold
from orchestrator.masks import SEED_BYTES, Mask, add_masks
from orchestrator.split import messages
from orchestrator.split.errors import ForeignHelper, ForeignRound, RoundAnswered
from orchestrator.split.hpke import seal
from orchestrator.wire import encode


class SplitClient:
    """One client, from round to round.

    Args:
      client_id: the client's name on the roster.
      identity: the client's long-term signing key.
      helpers: the helpers' X25519 public keys, 32 bytes each, in their order, enrolled beforehand.
      min_contributions: the fewest vectors in a sum that the client takes part in, with its vector.
      answered: the rounds that this device has sent a vector for; the caller keeps the set, the client adds to it.
    """

    def __init__(
        self,
        client_id: ClientId,
        identity: Ed25519PrivateKey,
        helpers: Sequence[bytes],
        min_contributions: int,
        answered: set[tuple[bytes, int]],
    ) -> None:
        self._client_id, self._identity = client_id, identity
        self._helpers, self._digest = tuple(helpers), messages.helpers_digest(helpers)
        self._min_contributions, self._answered = min_contributions, answered

    def __repr__(self) -> str:
        return f"SplitClient({self._client_id!r})"

    def mask(
        self,
        terms_wire: bytes,
        vector: Vector,
        version: int,
        run: bytes,
        agreed: bytes = messages.NOTHING_AGREED,
        num_groups: int = 1,
    ) -> bytes:
        """Returns the Upload that answers the terms: all that the client sends in the round.

        Args:
          terms_wire: the bytes of RoundTerms.
          vector: uint32 [num_slots], any values.
          version: the round whose weights the client began with.
          run: 32 bytes, the name of the run that the client takes part in.
          agreed: 32 bytes, a digest of what all clients of the sum that began with these weights must have been told.
          num_groups: how many sums a round has.

        Raises:
          MalformedMessage: the bytes are no terms.
          ForeignHelper: the terms name other helpers than the client knows.
          BelowThreshold: the terms allow a sum of fewer vectors than min_contributions.
          ForeignRound: the terms name another run or one group too many, or do not allow the weights that the client
            began with.
          RoundAnswered: this device has sent a vector for the round before.
          ValueError: the vector is not uint32 [num_slots].
        """
        terms = messages.decode(terms_wire, messages.RoundTerms, messages.MAX_TERMS_BYTES)
        if terms.run != run or terms.group >= num_groups:
            raise ForeignRound(f"round {terms.round_num}: the terms name another run, or a group that it does not have")
        self._check(terms, vector, version)
        self._answered.add((terms.run, terms.round_num))

        seeds = [os.urandom(SEED_BYTES) for _ in self._helpers]
        masked = np.array(vector, dtype="<u4")
        add_masks(masked, [Mask(seed, 1) for seed in seeds])
        words = masked.data.cast("B")
        digest = hashlib.sha256(words).digest()
        stated = messages.Statement(terms.digest, version, agreed, digest, self._client_id)
        sealed = [
            seal(helper, stated.seal_info(place), seed, aad=digest)
            for place, (helper, seed) in enumerate(zip(self._helpers, seeds))
        ]
        signature = self._identity.sign(stated.signed_bytes([hashlib.sha256(s).digest() for s in sealed]))
        return encode(messages.Upload(stated.terms, self._client_id, version, sealed, signature, words))

    def _check(self, terms: messages.RoundTerms, vector: Vector, version: int) -> None:
        where = f"round {terms.round_num}"
        if terms.helpers != self._digest:
            raise ForeignHelper(f"{where}: the terms name other helpers than the {len(self._helpers)} of this client")
        if terms.min_contributions < self._min_contributions:
            raise BelowThreshold(
                f"{where}: the terms allow a sum of {terms.min_contributions}, this client asks for at least "
                f"{self._min_contributions}"
            )
        if not terms.allows(version):
            raise ForeignRound(f"{where}: the terms do not allow the weights of round {version}")
        if (terms.run, terms.round_num) in self._answered:
            raise RoundAnswered(f"{where} came before: a client is summed once in a round")
        if vector.dtype != np.uint32 or vector.shape != (terms.num_slots,):
            raise ValueError(f"vector must be uint32 [{terms.num_slots}], got {vector.dtype} {list(vector.shape)}")
