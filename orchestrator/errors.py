"""What orchestrator raises at a user's mistake or to stop a run, each with a message of one line.

OrchestratorError             exit code 2: bad input or configuration
├── ConfigError               a setting is unknown, of the wrong type, out of range or contradicts another
├── RunFolderError            a run folder is missing, in use, damaged or of another schema
├── FairnessError             groups that can't be read, or name people whom the text has not
├── VocabularyDiscoveryError  a word list can't be found from these settings
├── BelowThreshold            exit code 3: fewer clients are left in a round than it needs
├── Diverged                  exit code 3: the model's weights are not finite any more
└── PrivacyStop               exit code 3: a privacy rule forbids to go on
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
    """Groups that can't be read, or name people whom the text has not."""


class VocabularyDiscoveryError(OrchestratorError):
    """A word list can't be found from these settings."""


class BelowThreshold(OrchestratorError):
    """Fewer clients are left in a round than it needs."""

    exit_code = 3


class Diverged(OrchestratorError):
    """The model's weights are not finite any more."""

    exit_code = 3


class PrivacyStop(OrchestratorError):
    """A privacy rule forbids to go on."""

    exit_code = 3
