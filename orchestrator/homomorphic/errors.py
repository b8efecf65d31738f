"""What the encrypted sum raises, each with a message of one line.

OrchestratorError
└── HomomorphicError            exit code 2
    ├── InsecureParameters      below 128 bits by the standard's table, or not in it
    ├── TooManyClients          more ciphertexts than the noise leaves room for
    ├── MalformedMessage        bytes that are not the message they should be
    ├── SpoiledSum              a total that decrypts to no sum: some upload was no encryption of a vector
    ├── BadSignature            not signed by the one whom the message names
    ├── UnknownClient           nobody of that name is on the roster
    ├── ForeignRound            a message of another session, round or key
    ├── DuplicateContribution   a second contribution of one client
    └── KeySpent                exit code 3: this key has opened its one sum, or was never made

Too few contributions is BelowThreshold, as in every aggregator.
"""

from __future__ import annotations

from orchestrator.errors import OrchestratorError


class HomomorphicError(OrchestratorError):
    """The root of the encrypted sum's errors."""


class InsecureParameters(HomomorphicError):
    """Below 128 bits by the homomorphic encryption standard's table, or not in it."""


class TooManyClients(HomomorphicError):
    """More ciphertexts would be added than the noise leaves room for."""


class MalformedMessage(HomomorphicError):
    """Bytes that are not the message they should be: wrong length, form or parameters."""


class SpoiledSum(HomomorphicError):
    """A total that decrypts to no sum: some upload was no encryption of a vector, or the total is made up."""


class BadSignature(HomomorphicError):
    """Not signed by the one whom the message names."""


class UnknownClient(HomomorphicError):
    """Nobody of that name is on the roster."""


class ForeignRound(HomomorphicError):
    """A message of another session, round or key."""


class DuplicateContribution(HomomorphicError):
    """A second contribution of one client."""


class KeySpent(HomomorphicError):
    """The key has opened its one sum, or was never made."""

    exit_code = 3
