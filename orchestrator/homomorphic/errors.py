"""The errors of the encrypted sum, each with a message of one line.

OrchestratorError
└── HomomorphicError            exit code 2
    ├── InsecureParameters      the parameters give less than 128 bits by the standard's table, or are not in it
    ├── TooManyClients          more ciphertexts than the noise leaves room for
    ├── MalformedMessage        the bytes are not the expected message
    ├── SpoiledSum              the total decrypts to no sum: some upload was no encryption of a vector
    ├── BadSignature            the party that the message names did not sign it
    ├── UnknownClient           the roster has no client of that name
    ├── ForeignRound            the message is of another session, round or key
    ├── DuplicateContribution   a client contributes a second time
    └── KeySpent                exit code 3: this key has opened its one sum, or was never made

Too few contributions raise BelowThreshold, as in every aggregator.
"""

from __future__ import annotations

from orchestrator.errors import OrchestratorError


class HomomorphicError(OrchestratorError):
    """The root of the encrypted sum's errors."""


class InsecureParameters(HomomorphicError):
    """The parameters give less than 128 bits by the homomorphic encryption standard's table, or are not in it."""


class TooManyClients(HomomorphicError):
    """More ciphertexts would be added than the noise leaves room for."""


class MalformedMessage(HomomorphicError):
    """The bytes are not the expected message: their length, form or parameters are wrong."""


class SpoiledSum(HomomorphicError):
    """The total decrypts to no sum: some upload was no encryption of a vector, or the total is made up."""


class BadSignature(HomomorphicError):
    """The party that the message names did not sign it."""


class UnknownClient(HomomorphicError):
    """The roster has no client of that name."""


class ForeignRound(HomomorphicError):
    """The message is of another session, round or key."""


class DuplicateContribution(HomomorphicError):
    """A client contributes a second time."""


class KeySpent(HomomorphicError):
    """The key has opened its one sum, or was never made."""

    exit_code = 3
