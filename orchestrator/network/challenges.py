"""Nonces for clients to sign. The server keeps none of them: whoever asks for many, holds nothing and keeps nobody out.

A nonce is the time of its making, random bytes, and a MAC over both under a key of this process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from typing import Callable

from models.corpus import ClientId
from orchestrator.network.messages import NONCE_BYTES

LIFE_S = 60.0  # from the nonce to the proof
_TIME_BYTES, _MAC_BYTES = 8, 16


class Challenges:
    """Makes nonces, and takes each once.

    >>> challenges = Challenges(clock_ns=iter(range(3)).__next__)
    >>> nonce = challenges.make()
    >>> challenges.take(nonce, "ann"), challenges.take(nonce, "ann")
    (True, False)
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns):
        self._clock_ns = clock_ns
        self._key = secrets.token_bytes(32)
        self._last_taken: dict[ClientId, int] = {}  # when the last nonce that a client proved itself with was made

    def make(self) -> bytes:
        """Returns a new nonce of NONCE_BYTES."""
        stamp = self._clock_ns().to_bytes(_TIME_BYTES, "big")
        body = stamp + secrets.token_bytes(NONCE_BYTES - _TIME_BYTES - _MAC_BYTES)
        return body + self._mac(body)

    def take(self, nonce: bytes, client_id: ClientId) -> bool:
        """Returns whether the nonce is fresh, and takes it; the client must have signed it.

        A client takes its nonces in the order of their making, so that one number a client tells the used ones.
        """
        body, mac = nonce[:-_MAC_BYTES], nonce[-_MAC_BYTES:]
        if len(nonce) != NONCE_BYTES or not hmac.compare_digest(mac, self._mac(body)):
            return False
        made = int.from_bytes(body[:_TIME_BYTES], "big")
        is_fresh = self._last_taken.get(client_id, -1) < made >= self._clock_ns() - int(LIFE_S * 1e9)
        if is_fresh:
            self._last_taken[client_id] = made
        return is_fresh

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_MAC_BYTES]
