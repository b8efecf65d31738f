"""The aggregator's role: it adds masked vectors, asks the helpers for the sum of the masks, and holds no seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.signatures import is_signed
from models.corpus import ClientId
from orchestrator.aggregator import Vector
from orchestrator.errors import BelowThreshold
from orchestrator.split import messages
from orchestrator.split.errors import (
    BadSignature,
    DuplicateContribution,
    ForeignRound,
    MalformedMessage,
    UnknownClient,
)
from orchestrator.wire import encode


@dataclass(frozen=True)
class CheckedUpload:
    """An upload that may be added: of the right length and signed. Only `check` makes one."""

    client_id: ClientId
    version: int
    words_sha256: bytes
    seals: tuple[bytes, ...]
    sealed: tuple[bytes, ...]
    signature: bytes
    words: memoryview


class MaskedAggregator:
    """Adds one round's uploads as they come; its memory grows with their number by their sealed seeds only.

    Args:
      terms: of the round.
      num_helpers: how many helpers the terms name.
      roster: the clients that may contribute, with their Ed25519 public keys of 32 bytes.
      agreed: {round whose weights a client may have begun with: 32 bytes, a digest of what such clients were told}.
    """

    def __init__(
        self,
        terms: messages.RoundTerms,
        num_helpers: int,
        roster: Mapping[ClientId, bytes],
        agreed: Mapping[int, bytes],
    ) -> None:
        self._terms, self._digest, self._num_helpers = terms, terms.digest, num_helpers
        self._roster, self._agreed = roster, {v: a for v, a in agreed.items() if terms.allows(v)}
        self._uploads: dict[ClientId, CheckedUpload] = {}  # without their words
        self._total = np.zeros(terms.num_slots, "<u4")
        self._requests: list[bytes] = []  # digests

    @property
    def members(self) -> tuple[ClientId, ...]:
        """The clients whose vectors are in the total, in the order in which they came."""
        return tuple(self._uploads)

    def check(self, wire: bytes) -> CheckedUpload:
        """Returns the upload if it may be added.

        Raises:
          MalformedMessage: the bytes are no Upload of this round's length and number of helpers.
          ForeignRound: the upload is for other terms, or began with weights that nobody was sent.
          UnknownClient: its client is not on the roster.
          DuplicateContribution: its client is in the total.
          BadSignature: its client did not sign these words and seeds, or was told something else than `agreed`.
        """
        num_bytes = 4 * self._terms.num_slots
        upload = messages.decode(wire, messages.Upload, num_bytes + messages.ENVELOPE_BYTES)
        client_id = ClientId(upload.client_id)
        who = f"round {self._terms.round_num}: upload of {upload.client_id!r}"
        if upload.terms != self._digest or upload.version not in self._agreed:
            raise ForeignRound(f"{who} is for another run, round or model")
        if client_id not in self._roster:
            raise UnknownClient(f"{who}: not on the roster")
        if client_id in self._uploads:
            raise DuplicateContribution(f"{who} is its second")
        if len(upload.words) != num_bytes or len(upload.sealed) != self._num_helpers:
            raise MalformedMessage(f"{who}: {len(upload.words)} bytes of words, {len(upload.sealed)} sealed seeds")
        digest = hashlib.sha256(upload.words).digest()
        seals = tuple(hashlib.sha256(sealed).digest() for sealed in upload.sealed)
        stated = messages.Statement(
            self._digest, upload.version, self._agreed[upload.version], digest, upload.client_id
        )
        if not is_signed(upload.signature, self._roster[client_id], stated.signed_bytes(seals)):
            raise BadSignature(f"{who}: the client did not sign just this, or was told something else")
        return CheckedUpload(
            client_id, upload.version, digest, seals, tuple(upload.sealed), upload.signature, upload.words
        )

    def add(self, upload: CheckedUpload) -> None:
        """Adds the masked vector to the total, modulo 2**32.

        Raises:
          DuplicateContribution: the upload's client is in the total.
          ForeignRound: the helpers have been asked already.
        """
        where = f"round {self._terms.round_num}"
        if upload.client_id in self._uploads:
            raise DuplicateContribution(f"{where}: upload of {upload.client_id!r} is its second")
        if self._requests:
            raise ForeignRound(f"{where}: upload of {upload.client_id!r} comes after the list went to the helpers")
        self._total += np.frombuffer(upload.words, "<u4")
        self._uploads[upload.client_id] = replace(upload, words=memoryview(b""))

    def requests(self) -> list[bytes]:
        """Returns the MaskRequest for each helper, in the helpers' order. The list is closed from then on.

        Raises:
          BelowThreshold: the total has fewer contributions than the terms ask for.
        """
        terms, uploads = self._terms, self._uploads.values()
        if len(uploads) < terms.min_contributions:
            raise BelowThreshold(
                f"round {terms.round_num}: {len(uploads)} contributions, {terms.min_contributions} needed"
            )
        versions = sorted({upload.version for upload in uploads})
        models = [messages.Model(version, self._agreed[version]) for version in versions]
        wires = [
            encode(
                messages.MaskRequest(
                    terms,
                    place,
                    models,
                    [
                        messages.Contribution(
                            u.client_id, u.version, u.words_sha256, list(u.seals), u.sealed[place], u.signature
                        )
                        for u in uploads
                    ],
                )
            )
            for place in range(self._num_helpers)
        ]
        self._requests = [hashlib.sha256(wire).digest() for wire in wires]
        return wires

    def finish(self, answers: Sequence[bytes]) -> Vector:
        """Returns the sum of the vectors, uint32 [num_slots] modulo 2**32.

        Args:
          answers: the MaskSum of each helper, in the helpers' order.

        Raises:
          MalformedMessage: an answer is no MaskSum of this round's length.
          ForeignRound: an answer is to another list or round, or of another helper.
        """
        terms, num_bytes = self._terms, 4 * self._terms.num_slots
        if len(answers) != len(self._requests):
            raise ForeignRound(f"round {terms.round_num}: {len(answers)} answers to {len(self._requests)} lists")
        total = self._total.copy()
        for place, (answer, request) in enumerate(zip(answers, self._requests)):
            found = messages.decode(answer, messages.MaskSum, num_bytes + messages.ENVELOPE_BYTES)
            who = f"round {terms.round_num}: answer of helper {place + 1}"
            if (found.terms, found.request_sha256, found.helper) != (self._digest, request, place):
                raise ForeignRound(f"{who} is to another list or round, or of another helper")
            if len(found.words) != num_bytes:
                raise MalformedMessage(f"{who}: {len(found.words)} bytes of words, not {num_bytes}")
            total -= np.frombuffer(found.words, "<u4")
        return total.astype(np.uint32, copy=False)
