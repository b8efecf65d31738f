"""What goes wrong at the edge: a user's mistake, told in one line that says what, where and what to change.

EdgeError                     exit code 2: bad input
├── ExportError               a model that can't be exported, or an export that must not be written
├── BundleError               a phone bundle that is missing, damaged, unsigned or of another schema
├── DeviceDataError           a file of token batches, of an update, or of a phone's figures, that can't be used
├── ClientError               the C client can't be built or refuses what it is given
│   └── Diverged              its training made weights that are not finite
└── FleetError                a fleet of phones that can't be: its settings, or a trace that can't be used

A bad argument (a programmer's mistake) is a ValueError with the name and the value in it.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Root of the errors that edge raises; `exit_code` is what the command line ends with."""

    exit_code: int = 2


class ExportError(EdgeError):
    """A model that can't be exported, or an export that must not be written."""


class BundleError(EdgeError):
    """A phone bundle that is missing, damaged, unsigned or of another schema."""


class DeviceDataError(EdgeError):
    """A file of token batches, of an update, or of a phone's figures, that can't be used."""


class ClientError(EdgeError):
    """The C client can't be built or refuses what it is given."""


class Diverged(ClientError):
    """The C client's training made weights that are not finite."""


class FleetError(EdgeError):
    """A fleet of phones that can't be: its settings, or a trace that can't be used."""
