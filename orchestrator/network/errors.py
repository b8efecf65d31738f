"""The errors between processes, each with a message of one line.

OrchestratorError
└── NetworkError            exit code 2
    ├── KeysError           a key file is missing, damaged or already there
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
