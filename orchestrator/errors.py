"""The errors that orchestrator raises at a user's mistake or to stop a run, each with a message of one line.

OrchestratorError             exit code 2: bad input or configuration
├── ConfigError               a setting is unknown, of the wrong type, out of range or contradicts another
├── RunFolderError            a run folder is missing, in use, damaged or of another schema
├── FairnessError             the groups can't be read, or name people who are not in the text
├── VocabularyDiscoveryError  these settings can't find a word list
├── BelowThreshold            exit code 3: a round has fewer clients left than it needs
├── ImplausibleSum            exit code 3: no honest clients can give this sum
├── Diverged                  exit code 3: updates or the model's weights are no longer finite
└── PrivacyStop               exit code 3: a privacy rule forbids the next step
"""

from __future__ import annotations


class OrchestratorError(Exception):
    """The root: catch this to catch them all. `exit_code` is what the command line ends with."""

    exit_code: int = 2


class ConfigError(OrchestratorError):
    """A setting is unknown, of the wrong type, out of range or contradicts another."""


class RunFolderError(OrchestratorError):
    """A run folder is missing, in use, damaged or of another schema."""


class FairnessError(OrchestratorError):
    """The groups can't be read, or name people who are not in the text."""


class VocabularyDiscoveryError(OrchestratorError):
    """These settings can't find a word list."""


class BelowThreshold(OrchestratorError):
    """A round has fewer clients left than it needs."""

    exit_code = 3


class ImplausibleSum(OrchestratorError):
    """No honest clients can give this sum: somebody sent a vector that no update encodes to."""

    exit_code = 3


class Diverged(OrchestratorError):
    """The updates or the model's weights are no longer finite."""

    exit_code = 3


class PrivacyStop(OrchestratorError):
    """A privacy rule forbids the next step."""

    exit_code = 3
