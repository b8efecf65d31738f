"""The aggregator's role: it adds ciphertexts, holds no secret key and does not import the library."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.errors import DuplicateContribution, ForeignRound, UnknownClient
from orchestrator.wire import encode


@dataclass(frozen=True)
class CheckedUpload:
    """An upload that may be added: of the right length, below the modulus and signed. Only `check` makes one."""

    contribution: messages.Contribution
    ciphertexts: memoryview


class CiphertextAggregator:
    """Adds one round's uploads as they come; its memory does not grow with their number.

    Args:
      terms_wire: RoundTerms.
      decryptor_identity: the decryptor's Ed25519 public key, 32 bytes.
      roster: the clients that may contribute, with their Ed25519 public keys of 32 bytes.
      agreed: 32 bytes, a digest of what all clients must have heard; see ClientEncryptor.

    Raises:
      BadSignature, MalformedMessage, InsecureParameters: terms that this decryptor never offered, or unsafe ones.
    """

    def __init__(
        self,
        terms_wire: bytes,
        decryptor_identity: bytes,
        roster: Mapping[ClientId, bytes],
        agreed: bytes = messages.NOTHING_AGREED,
    ) -> None:
        self._terms = messages.read_terms(terms_wire, decryptor_identity)
        self._digest = self._terms.digest
        self._parameters = self._terms.parameters
        self._roster = roster
        self._agreed = agreed
        self._contributions: dict[str, messages.Contribution] = {}
        self._total: Optional[NDArray[np.uint64]] = None  # [num_ciphertexts, 2 * poly_degree]

    @property
    def num_contributions(self) -> int:
        """The number of uploads in the total."""
        return len(self._contributions)

    def check(self, wire: bytes) -> CheckedUpload:
        """Returns the upload if it may be added.

        Raises:
          MalformedMessage: the bytes are no Upload of this round's length and modulus.
          ForeignRound: the upload is for other terms.
          UnknownClient: its client is not on the roster.
          BadSignature: its client did not sign it, or heard something else than `agreed`.
          DuplicateContribution: its client is in the total.
        """
        parameters, dim = self._parameters, self._terms.dim
        upload = messages.decode(wire, messages.Upload, parameters.body_bytes(dim) + messages.MAX_ENVELOPE_BYTES)
        who = f"round {self._terms.round_num}: upload of {upload.client_id!r}"
        if upload.terms != self._digest:
            raise ForeignRound(f"{who} is for another session, round or key")
        if upload.client_id not in self._roster:
            raise UnknownClient(f"{who}: not on the roster")
        if upload.client_id in self._contributions:
            raise DuplicateContribution(f"{who} is its second")
        messages.require_ciphertexts(upload.ciphertexts, parameters, dim, who)
        digest = hashlib.sha256(upload.ciphertexts).digest()
        signed = messages.contribution_bytes(self._digest, upload.client_id, digest, self._agreed)
        messages.require_signature(upload.signature, self._roster[ClientId(upload.client_id)], signed, who)
        contribution = messages.Contribution(upload.client_id, digest, upload.signature)
        return CheckedUpload(contribution, upload.ciphertexts)

    def add(self, upload: CheckedUpload) -> None:
        """Adds the ciphertexts to the total, coefficient by coefficient modulo q: BFV addition is nothing else.

        Raises:
          TooManyClients: one more would drown the total in noise.
          DuplicateContribution: the upload's client is in the total.
        """
        self._parameters.require_room(len(self._contributions) + 1)
        client_id = upload.contribution.client_id
        if client_id in self._contributions:
            raise DuplicateContribution(f"round {self._terms.round_num}: upload of {client_id!r} is its second")
        if self._total is None:
            shape = (self._parameters.num_ciphertexts(self._terms.dim), 2 * self._parameters.poly_degree)
            self._total = np.zeros(shape, np.uint64)
        modulus = np.uint64(self._parameters.coeff_modulus)
        for total, words in zip(self._total, messages.split_ciphertexts(upload.ciphertexts, self._parameters)):
            total += words
            # below q the difference wraps to something huge, so the smaller one is the residue
            np.minimum(total, np.subtract(total, modulus, out=words), out=total)
        self._contributions[client_id] = upload.contribution

    def finish(self) -> tuple[bytes, bytes]:
        """Returns (the total's ciphertexts, the Transcript) for the decryptor.

        Raises:
          BelowThreshold: the total has fewer contributions than the terms ask for.
        """
        terms = self._terms
        if self._total is None or self.num_contributions < terms.min_contributions:
            raise BelowThreshold(
                f"round {terms.round_num}: {self.num_contributions} contributions, {terms.min_contributions} needed"
            )
        total = b"".join(messages.pack_words(words, self._parameters) for words in self._total)
        transcript = messages.Transcript(
            session=terms.session,
            round_num=terms.round_num,
            terms=self._digest,
            agreed=self._agreed,
            total_sha256=hashlib.sha256(total).digest(),
            contributions=list(self._contributions.values()),
        )
        return total, encode(transcript)
