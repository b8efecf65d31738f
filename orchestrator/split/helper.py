"""The helper's role: it adds up the masks of one list in each round, and sees no masked vector."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge.signatures import is_signed
from models.corpus import ClientId
from orchestrator.errors import BelowThreshold
from orchestrator.masks import Mask, add_masks
from orchestrator.split import messages
from orchestrator.split.errors import (
    BadSignature,
    DuplicateContribution,
    ForeignHelper,
    ForeignRound,
    SeedRefused,
    UnknownClient,
)
from orchestrator.split.hpke import unseal
from orchestrator.split.opened import OpenedRounds
from orchestrator.wire import encode


class MaskHelper:
    """One helper, from round to round.

    Args:
      private: its X25519 key.
      helpers: the public keys of all helpers, its own among them, in their order.
      roster: the clients that count, with their Ed25519 public keys of 32 bytes; not the aggregator's copy.
      min_contributions: the fewest contributions of which it opens the masks, whatever a list says.
      opened: the rounds that it has opened.
      num_threads: the threads with which it expands masks.

    Raises:
      ForeignHelper: its own key is none of the helpers'.
    """

    def __init__(
        self,
        private: X25519PrivateKey,
        helpers: Sequence[bytes],
        roster: Mapping[ClientId, bytes],
        min_contributions: int,
        opened: OpenedRounds,
        num_threads: int = 1,
    ) -> None:
        own = private.public_key().public_bytes_raw()
        if own not in helpers:
            raise ForeignHelper(f"the key of this helper is none of the {len(helpers)} that clients seal for")
        self._private, self._place, self._digest = private, helpers.index(own), messages.helpers_digest(helpers)
        self._num_helpers, self._roster, self._min_contributions = len(helpers), roster, min_contributions
        self._opened, self._num_threads = opened, num_threads

    def __repr__(self) -> str:
        return f"MaskHelper({self._place + 1} of {self._num_helpers})"

    def open(self, request_wire: bytes) -> bytes:
        """Returns the MaskSum of a list, once for each round. A refusal opens nothing and leaves no trace.

        Args:
          request_wire: the bytes of a MaskRequest.

        Raises:
          MalformedMessage: the bytes are no list.
          ForeignHelper: the list is for another helper, or its terms name others.
          ForeignRound: a client began with weights that the terms do not allow, or that the list does not name.
          UnknownClient, DuplicateContribution, BadSignature: a contribution does not count.
          BelowThreshold: the list has fewer contributions than this helper's minimum, or than its clients were told.
          SeedRefused: some sealed seeds are not for this round, client, vector and helper.
          RoundOpened: the round was opened before, or a client of the list is in another list of it.
          OpenedLost: the opened round can't be recorded.
        """
        most = messages.ENVELOPE_BYTES + messages.CONTRIBUTION_BYTES * len(self._roster)
        request = messages.decode(request_wire, messages.MaskRequest, most)
        terms, where = request.terms, f"round {request.terms.round_num}"
        if request.helper != self._place or terms.helpers != self._digest:
            raise ForeignHelper(f"{where}: the list is not for helper {self._place + 1} of these helpers")
        stated = self._checked_statements(request)
        needed = max(self._min_contributions, terms.min_contributions)
        if len(stated) < needed:
            raise BelowThreshold(f"{where}: a list of {len(stated)} clients, {needed} needed")
        seeds = self._opened_seeds(request, stated)
        digest = hashlib.sha256(request_wire).digest()
        # From here on no other list of the round can be opened.
        self._opened.add(terms.run, terms.round_num, terms.group, digest, [own.client_id for own in stated])
        words = np.zeros(terms.num_slots, "<u4")
        add_masks(words, (Mask(seed, 1) for seed in seeds), self._num_threads)
        return encode(messages.MaskSum(terms.digest, digest, self._place, words.data.cast("B")))

    def _checked_statements(self, request: messages.MaskRequest) -> list[messages.Statement]:
        """What each client of the list signed, in the list's order."""
        terms, where = request.terms, f"round {request.terms.round_num}"
        agreed = {model.version: model.agreed for model in request.models}
        if len(agreed) < len(request.models) or not all(map(terms.allows, agreed)):
            raise ForeignRound(f"{where}: the list names a model twice, or one that its terms do not allow")
        terms_digest, names, stated = terms.digest, set(), []
        for line in request.contributions:
            who = f"{where}: contribution of {line.client_id!r}"
            if line.client_id not in self._roster:
                raise UnknownClient(f"{who}: not on the roster")
            if line.client_id in names:
                raise DuplicateContribution(f"{who} is its second")
            if line.version not in agreed:
                raise ForeignRound(
                    f"{who} began with the weights of round {line.version}, which the list does not name"
                )
            names.add(line.client_id)
            statement = messages.Statement(
                terms_digest, line.version, agreed[line.version], line.words_sha256, line.client_id
            )
            is_own = len(line.seals) == self._num_helpers and (
                line.seals[self._place] == hashlib.sha256(line.sealed).digest()
            )
            identity = self._roster[ClientId(line.client_id)]
            if not (is_own and is_signed(line.signature, identity, statement.signed_bytes(line.seals))):
                raise BadSignature(f"{who}: the client did not sign just this, or was told something else")
            stated.append(statement)
        return stated

    def _opened_seeds(self, request: messages.MaskRequest, stated: Sequence[messages.Statement]) -> list[bytes]:
        seeds, refused = [], []
        for line, statement in zip(request.contributions, stated):
            seed = unseal(self._private, statement.seal_info(self._place), line.sealed, aad=line.words_sha256)
            if seed is None:
                refused.append(line.client_id)
            else:
                seeds.append(seed)
        if refused:
            raise SeedRefused(refused)
        return seeds
