"""The decryptor's role: it holds the secret key of a round and opens one sum with it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Optional

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.corpus import ClientId
from orchestrator.aggregator import Vector
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.errors import (
    DuplicateContribution,
    ForeignRound,
    KeySpent,
    MalformedMessage,
    SpoiledSum,
    UnknownClient,
)
from orchestrator.homomorphic.keys import SecretKey, generate_keys
from orchestrator.homomorphic.parameters import BfvParameters
from orchestrator.wire import encode

_CONTRIBUTION_BYTES = 1024  # the most that one line of a transcript takes


class SumDecryptor:
    """Makes a key for a round, opens one sum with it and forgets it.

    Since a key opens one sum only, there is nothing to replay, nothing to learn from a second query, and no key to read
    recorded uploads with later.

    Args:
      parameters: the cipher's parameters.
      identity: the decryptor's long-term signing key; clients know the public half.
      roster: the clients that count, with their Ed25519 public keys of 32 bytes; not the aggregator's copy.
      min_contributions: the fewest contributions in a sum that it opens, whatever a transcript says.
    """

    def __init__(
        self,
        parameters: BfvParameters,
        identity: Ed25519PrivateKey,
        roster: Mapping[ClientId, bytes],
        min_contributions: int,
    ) -> None:
        if min_contributions < 1:
            raise ValueError(f"min_contributions must be at least 1, got {min_contributions}")
        parameters.require_room(min_contributions)
        self._parameters = parameters
        self._identity = identity
        self._roster = roster
        self._min_contributions = min_contributions
        self._terms: Optional[messages.RoundTerms] = None
        self._secret_key: Optional[SecretKey] = None

    def __repr__(self) -> str:
        return f"SumDecryptor({'key for one sum' if self._secret_key else 'no key'})"

    def open_round(self, round_num: int, dim: int) -> bytes:
        """Returns the RoundTerms of a fresh key; forgets an earlier key that opened nothing.

        Args:
          round_num: the round's number.
          dim: the number of slots of a vector.
        """
        self._secret_key, public_key = generate_keys(self._parameters)
        terms = messages.RoundTerms(
            session=secrets.token_bytes(32),
            round_num=round_num,
            poly_degree=self._parameters.poly_degree,
            coeff_modulus_bits=self._parameters.coeff_modulus_bits,
            dim=dim,
            min_contributions=self._min_contributions,
            public_key=public_key.to_bytes(),
        )
        self._terms = messages.sign_terms(terms, self._identity)
        return encode(self._terms)

    def decrypt(self, total: bytes, transcript_wire: bytes) -> Vector:
        """Returns the sum, uint32 [dim] modulo 2**32, and forgets the key.

        A refusal opens nothing and leaves the key; only SpoiledSum uses it up.

        Args:
          total: the summed ciphertexts.
          transcript_wire: the bytes of the Transcript.

        Raises:
          KeySpent: no round is open.
          MalformedMessage: the bytes are of another form, length, modulus or digest.
          SpoiledSum: the total decrypts to no sum.
          ForeignRound: the transcript is of another session, round or key.
          UnknownClient, BadSignature, DuplicateContribution: a contribution does not count, for example because its
            client heard something else than the transcript says.
          BelowThreshold: the transcript shows fewer contributions than this decryptor's minimum.
          TooManyClients: the noise leaves no room for so many contributions.
        """
        if self._terms is None or self._secret_key is None:
            raise KeySpent("no key is left: it opened its one sum, or no round was opened")
        parameters, dim = self._parameters, self._terms.dim
        transcript = messages.decode(
            transcript_wire, messages.Transcript, _CONTRIBUTION_BYTES * (1 + len(self._roster))
        )
        self._require_contributions(transcript)
        what = f"round {self._terms.round_num}: total"
        messages.require_ciphertexts(total, parameters, dim, what)
        if hashlib.sha256(total).digest() != transcript.total_sha256:
            raise MalformedMessage(f"{what}: not the one of the transcript")

        secret_key, self._terms, self._secret_key = self._secret_key, None, None
        slots = np.empty((parameters.num_ciphertexts(dim), parameters.poly_degree), np.uint32)
        for row, words in zip(slots, messages.split_ciphertexts(total, parameters)):
            row[:] = secret_key.decrypt(words)
        vector = slots.reshape(-1)
        if vector[dim:].any():  # every client encrypts zeros there
            raise SpoiledSum(f"{what}: does not decrypt to a sum")
        return vector[:dim]

    def _require_contributions(self, transcript: messages.Transcript) -> None:
        """Passes if the transcript is of the open round and shows enough contributions that count."""
        assert self._terms is not None
        terms, what = self._terms, f"round {self._terms.round_num}: transcript"
        digest = terms.digest
        if (transcript.session, transcript.round_num, transcript.terms) != (
            terms.session,
            terms.round_num,
            digest,
        ):
            raise ForeignRound(f"{what} is of another session, round or key")
        seen: set[str] = set()
        for contribution in transcript.contributions:
            client_id = contribution.client_id
            if client_id in seen:
                raise DuplicateContribution(f"{what} counts {client_id!r} twice")
            if client_id not in self._roster:
                raise UnknownClient(f"{what} counts {client_id!r}, who is not on the roster")
            seen.add(client_id)
            signed = messages.contribution_bytes(digest, client_id, contribution.ciphertexts_sha256, transcript.agreed)
            messages.require_signature(
                contribution.signature, self._roster[ClientId(client_id)], signed, f"{what}: {client_id!r}"
            )
        if len(seen) < self._min_contributions:
            raise BelowThreshold(f"{what} shows {len(seen)} contributions, {self._min_contributions} needed")
        self._parameters.require_room(len(seen))
