"""The client's role: it encrypts its vector under the decryptor's public key."""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models.corpus import ClientId
from orchestrator.aggregator import Vector
from orchestrator.errors import BelowThreshold
from orchestrator.homomorphic import messages
from orchestrator.homomorphic.errors import ForeignRound
from orchestrator.homomorphic.keys import PublicKey
from orchestrator.wire import encode


class ClientEncryptor:
    """One client, from round to round.

    Args:
      client_id: the client's name on the roster.
      identity: the client's long-term signing key.
      decryptor_identity: the decryptor's Ed25519 public key, 32 bytes, enrolled beforehand.
      min_contributions: the fewest vectors in a sum that the client takes part in, with its vector.
      seen_sessions: the sessions that this device has joined; the caller keeps the set, the client adds to it.
      agreed: 32 bytes, a digest of what all clients of the round must have heard, such as the weights that they
        train. The decryptor opens no sum of clients with different values.
    """

    def __init__(
        self,
        client_id: ClientId,
        identity: Ed25519PrivateKey,
        decryptor_identity: bytes,
        min_contributions: int,
        seen_sessions: set[bytes],
        agreed: bytes = messages.NOTHING_AGREED,
    ) -> None:
        self._client_id = client_id
        self._identity = identity
        self._decryptor_identity = decryptor_identity
        self._min_contributions = min_contributions
        self._seen_sessions = seen_sessions
        self._agreed = agreed

    def __repr__(self) -> str:
        return f"ClientEncryptor({self._client_id!r})"

    def encrypt(self, terms_wire: bytes, vector: Vector) -> bytes:
        """Returns the Upload that answers the decryptor's terms.

        Args:
          terms_wire: the bytes of RoundTerms.
          vector: uint32 [dim], any values.

        Raises:
          BadSignature, MalformedMessage, InsecureParameters: terms that this decryptor never offered, or unsafe ones.
          BelowThreshold: the terms open a sum of fewer vectors than min_contributions.
          ForeignRound: this device has answered the session before.
          ValueError: the vector is not uint32 [dim].
        """
        terms = messages.read_terms(terms_wire, self._decryptor_identity)
        parameters = terms.parameters
        if terms.min_contributions < self._min_contributions:
            raise BelowThreshold(
                f"round {terms.round_num}: the terms open a sum of {terms.min_contributions}, this client asks for "
                f"at least {self._min_contributions}"
            )
        if terms.session in self._seen_sessions:
            raise ForeignRound(f"round {terms.round_num}: session {terms.session[:4].hex()} was used before")
        if vector.dtype != np.uint32 or vector.shape != (terms.dim,):
            raise ValueError(f"vector must be uint32 [{terms.dim}], got {vector.dtype} {list(vector.shape)}")
        self._seen_sessions.add(terms.session)

        public_key = PublicKey(parameters, terms.public_key)
        step = parameters.poly_degree
        starts = range(0, parameters.num_ciphertexts(terms.dim) * step, step)
        ciphertexts = b"".join(public_key.encrypt(vector[start : start + step]) for start in starts)
        digest = hashlib.sha256(ciphertexts).digest()
        signed = messages.contribution_bytes(terms.digest, self._client_id, digest, self._agreed)
        return encode(
            messages.Upload(terms.digest, self._client_id, self._identity.sign(signed), memoryview(ciphertexts))
        )
