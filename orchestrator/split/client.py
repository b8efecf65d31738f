"""The client's role: it masks its vector, and seals the mask's seed for the helper, in one message."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Told:
    """What a client was told of a round, apart from the terms, and holds them against.

    Attributes:
      run: 32 bytes, the name of the run that the client takes part in.
      version: the round whose weights the client began with.
      agreed: 32 bytes, a digest of what all clients of the sum that began with these weights must have been told.
      num_groups: how many sums a round has.
      max_staleness: how many rounds older the weights of others in the sum may be. With 0 all must have been told the
        same, so that no server can have one client train and the others on weights that yield nothing.
    """

    run: bytes
    version: int
    agreed: bytes = messages.NOTHING_AGREED
    num_groups: int = 1
    max_staleness: int = 0


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

    def mask(self, terms_wire: bytes, vector: Vector, told: Told) -> bytes:
        """Returns the Upload that answers the terms: all that the client sends in the round.

        Args:
          terms_wire: the bytes of RoundTerms.
          vector: uint32 [num_slots], any values.
          told: what the client was told of the round besides.

        Raises:
          MalformedMessage: the bytes are no terms.
          ForeignRound: the terms name another run or a group that there is not, allow weights that are too old, or do
            not allow those that the client began with.
          ForeignHelper: the terms name other helpers than the client knows.
          BelowThreshold: the terms allow a sum of fewer vectors than min_contributions.
          RoundAnswered: this device has sent a vector for the round before.
          ValueError: the vector is not uint32 [num_slots].
        """
        terms = messages.decode(terms_wire, messages.RoundTerms, messages.MAX_TERMS_BYTES)
        _require_told(terms, told)
        self._check(terms, vector)
        self._answered.add((terms.run, terms.round_num))

        seeds = [os.urandom(SEED_BYTES) for _ in self._helpers]
        masked = np.array(vector, dtype="<u4")
        add_masks(masked, [Mask(seed, 1) for seed in seeds])
        words = masked.data.cast("B")
        digest = hashlib.sha256(words).digest()
        stated = messages.Statement(terms.digest, told.version, told.agreed, digest, self._client_id)
        sealed = [
            seal(helper, stated.seal_info(place), seed, aad=digest)
            for place, (helper, seed) in enumerate(zip(self._helpers, seeds))
        ]
        signature = self._identity.sign(stated.signed_bytes([hashlib.sha256(s).digest() for s in sealed]))
        return encode(messages.Upload(stated.terms, self._client_id, told.version, sealed, signature, words))

    def _check(self, terms: messages.RoundTerms, vector: Vector) -> None:
        where = f"round {terms.round_num}"
        if terms.helpers != self._digest:
            raise ForeignHelper(f"{where}: the terms name other helpers than the {len(self._helpers)} of this client")
        if terms.min_contributions < self._min_contributions:
            raise BelowThreshold(
                f"{where}: the terms allow a sum of {terms.min_contributions}, this client asks for at least "
                f"{self._min_contributions}"
            )
        if (terms.run, terms.round_num) in self._answered:
            raise RoundAnswered(f"{where} came before: a client is summed once in a round")
        if vector.dtype != np.uint32 or vector.shape != (terms.num_slots,):
            raise ValueError(f"vector must be uint32 [{terms.num_slots}], got {vector.dtype} {list(vector.shape)}")


def _require_told(terms: messages.RoundTerms, told: Told) -> None:
    """Passes if the terms are of the round that the client was told of."""
    where = f"round {terms.round_num}"
    if terms.run != told.run or terms.group >= told.num_groups:
        raise ForeignRound(f"{where}: the terms name another run, or a group that it does not have")
    if terms.max_staleness > told.max_staleness:
        raise ForeignRound(
            f"{where}: the terms allow weights {terms.max_staleness} rounds old, this client {told.max_staleness}: "
            "others could have been told something else"
        )
    if not terms.allows(told.version):
        raise ForeignRound(f"{where}: the terms do not allow the weights of round {told.version}")
