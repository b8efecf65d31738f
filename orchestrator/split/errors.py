"""The errors of the split sum, each with a message of one line. None holds a seed, a key or a vector.

OrchestratorError
└── SplitError                  exit code 3: going on could expose a client
    ├── MalformedMessage        the bytes are not the expected message
    ├── ForeignRound            the message is of another run, round, model or list
    ├── ForeignHelper           the message is for other helpers than these
    ├── RoundAnswered           the client has sent a vector for this round before
    ├── UnknownClient           the roster has no client of that name
    ├── BadSignature            the client did not sign just this
    ├── DuplicateContribution   a client stands in a list twice
    ├── SeedRefused             a sealed seed is not for this client, round, vector and helper
    ├── RoundOpened             the helper has opened this round before
    └── OpenedLost              the helper's file of opened rounds is damaged

A list that is too short raises BelowThreshold, as in every aggregator.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import OrchestratorError


class SplitError(OrchestratorError):
    """The root of the split sum's errors: going on could expose a client."""

    exit_code = 3


class MalformedMessage(SplitError):
    """The bytes are not the expected message: their length or form is wrong."""


class ForeignRound(SplitError):
    """The message is of another run, round, model or list."""


class ForeignHelper(SplitError):
    """The message is for other helpers than these, or for another one of them."""


class RoundAnswered(SplitError):
    """The client has sent a vector for this round before."""


class UnknownClient(SplitError):
    """The roster has no client of that name."""


class BadSignature(SplitError):
    """The client did not sign just this, or was told something else for the round."""


class DuplicateContribution(SplitError):
    """A client stands in a list twice."""


class SeedRefused(SplitError):
    """A sealed seed is not for this client, round, vector and helper.

    Attributes:
      client_ids: whose seeds they are; they signed them, so each of them has lied, or the helper does.
    """

    def __init__(self, client_ids: Sequence[str]):
        super().__init__(f"sealed seeds do not open: those of {', '.join(client_ids)}")
        self.client_ids = tuple(client_ids)


class RoundOpened(SplitError):
    """The helper has opened this round before: two lists of one round would give away by whom they differ."""


class OpenedLost(SplitError):
    """The helper's file of opened rounds is damaged, so that it could open one twice."""
