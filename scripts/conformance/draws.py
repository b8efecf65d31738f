"""Randomness that is the same each time, recorded as it is drawn, so that a port draws the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from orchestrator.secagg import shamir


class Draws:
    """A stream of bytes that its name fixes.

    Attributes:
      drawn: what was drawn so far, in order.
    """

    def __init__(self, name: str):
        self._name, self.drawn = name, list[bytes]()

    def draw(self, count: int) -> bytes:
        """Returns the next `count` bytes."""
        found = hashlib.shake_256(f"fedkeys vectors {self._name} {len(self.drawn)}".encode()).digest(count)
        self.drawn.append(found)
        return found

    @contextmanager
    def used(self) -> Iterator[None]:
        """Lets everything inside draw from here in place of the operating system."""

        def below(limit: int) -> int:
            """257 bits, drawn until they are below the prime; the topmost of 33 bytes gives one bit."""
            assert limit == shamir.PRIME
            while True:
                octets = self.draw(shamir.SHARE_BYTES)
                value = int.from_bytes(bytes([octets[0] & 1]) + octets[1:], "big")
                if value < limit:
                    return value

        def private() -> X25519PrivateKey:
            return X25519PrivateKey.from_private_bytes(self.draw(32))

        with (
            mock.patch("os.urandom", self.draw),
            mock.patch("secrets.randbelow", below),
            mock.patch.object(X25519PrivateKey, "generate", private),
        ):
            yield
