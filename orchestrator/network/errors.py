"""The errors between processes, each with a message of one line.

OrchestratorError
└── NetworkError            exit code 2
    ├── KeysError           a key file is missing, damaged or already there
    ├── UntrustedRoster       exit code 3: who may take part is not what the operator signed last
    │   ├── UnsignedRoster  nobody signed it, and the client knows the operator's key
    │   ├── ForeignRoster   it is of other keys than those that the client is enrolled with
    │   ├── ForgedRoster    it was changed, or another than the operator signed it
    │   ├── OldRoster       the client has seen a newer one
    │   ├── ForkedRoster    the client has seen another one of the same number
    │   └── NotOnRoster     the client is not on it
    ├── PortInUse           the server can't listen there
    ├── BadCertificate      whoever listens there has no certificate of our CA for that name
    ├── UnknownClient       the server has no such client enrolled, or not with this key
    ├── ServerGone          nobody listens there, or the connection was lost
    ├── EnrolmentRefused    a phone's request to enrol is not taken
    ├── WireError           the bytes are no message of this version
    ├── RunChanged          exit code 3: the server goes on with other settings or words than it began with
    └── DemandRefused       exit code 3: the server asks for another sum, or for more work, than the client does
"""

from __future__ import annotations

from orchestrator.errors import OrchestratorError


class NetworkError(OrchestratorError):
    """The root: something went wrong between processes."""


class KeysError(NetworkError):
    """A key file is missing, damaged or already there."""


class UntrustedRoster(NetworkError):
    """Who may take part is not what the operator signed last."""

    exit_code = 3


class UnsignedRoster(UntrustedRoster):
    """Nobody signed the roster, and the client knows the operator's key."""


class ForeignRoster(UntrustedRoster):
    """The roster is of other keys than those that the client is enrolled with."""


class ForgedRoster(UntrustedRoster):
    """The roster was changed, or another than the operator signed it."""


class OldRoster(UntrustedRoster):
    """The client has seen a newer roster."""


class ForkedRoster(UntrustedRoster):
    """The client has seen another roster of the same number."""


class NotOnRoster(UntrustedRoster):
    """The client is not on the roster."""


class PortInUse(NetworkError):
    """The server can't listen there."""


class BadCertificate(NetworkError):
    """Whoever listens there has no certificate of our CA for that name."""


class UnknownClient(NetworkError):
    """The server has no such client enrolled, or not with this key."""


class ServerGone(NetworkError):
    """Nobody listens there, or the connection was lost."""


class EnrolmentRefused(NetworkError):
    """A phone's request to enrol is not taken."""


class WireError(NetworkError):
    """The bytes are no message of this version."""


class RunChanged(NetworkError):
    """The server goes on with other settings or words than it began with."""

    exit_code = 3


class DemandRefused(NetworkError):
    """The server asks for another sum, or for more work, than the client takes part in."""

    exit_code = 3
