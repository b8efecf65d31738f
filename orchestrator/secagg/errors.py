"""The errors of secure aggregation. No message ever holds a key, a share, a seed or a vector.

SecAggError (an OrchestratorError)   exit code 3: the protocol stopped because going on would be unsafe
├── WireError                        the bytes are no message of this protocol and version
├── UnexpectedMessage                a message that is not the next legal one, or is meant for someone else
├── ServerRefused                    a client stops here: going on could expose its update
│   ├── SessionReplayed              the client has been in this session before
│   ├── WeakParameters               the cohort, degree, threshold or minimum is below the client's own policy
│   ├── RosterRefused                a neighbour's keys are forged, repeated or unknown
│   ├── SharesRefused                shares from someone who is not a neighbour
│   ├── SurvivorsRefused             survivors without the client itself, or with peers that never shared
│   ├── SplitView                    peers did not sign the survivors that this client received
│   ├── AliveAndDead                 the server asks for both secrets of one peer, or for the wrong one
│   └── TooFewPeers                  fewer peers than the threshold; also happens to an honest server
├── ClientRefused                    the server goes on without this client
└── RecoveryFailed                   a secret that the total needs cannot be recovered from the shares

A round with too few clients raises orchestrator.errors.BelowThreshold. RecoveryFailed is a BelowThreshold, too, since a
client that deals false shares must cost a round and not the run.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import BelowThreshold, OrchestratorError


class SecAggError(OrchestratorError):
    """The root: the protocol stopped because going on would be unsafe."""

    exit_code = 3


class WireError(SecAggError):
    """The bytes are no message of this protocol and version."""


class UnexpectedMessage(SecAggError):
    """A message that is not the next legal one, or is meant for someone else."""


class ServerRefused(SecAggError):
    """A client stops here: going on could expose its update."""


class SessionReplayed(ServerRefused):
    """The client has been in this session before."""


class WeakParameters(ServerRefused):
    """The cohort, degree, threshold or minimum is below the client's own policy."""


class RosterRefused(ServerRefused):
    """A neighbour's keys are forged, repeated or unknown."""


class SharesRefused(ServerRefused):
    """Shares from someone who is not a neighbour."""


class SurvivorsRefused(ServerRefused):
    """Survivors without the client itself, or with peers that never shared."""


class SplitView(ServerRefused):
    """Peers did not sign the survivors that this client received."""


class AliveAndDead(ServerRefused):
    """The server asks for both secrets of one peer, or for the wrong one."""


class TooFewPeers(ServerRefused):
    """Fewer peers than the threshold; also happens to an honest server when many drop out."""


class ClientRefused(SecAggError):
    """The server goes on without this client."""


class RecoveryFailed(SecAggError, BelowThreshold):
    """A secret that the total needs cannot be recovered from the shares: the round is abandoned.

    Attributes:
      owner: the number of the client that dealt the shares.
      accusers: the holders that answered without a good share. If there are none, or more than can be corrupt, the
        owner lied: shares that holders changed are refused before, and one of the accusers is honest. Otherwise the
        owner or all of them did.
    """

    def __init__(self, owner: int, what: str, accusers: Iterable[int] = ()):
        super().__init__(f"client {owner} {what}")
        self.owner, self.accusers = owner, tuple(accusers)
