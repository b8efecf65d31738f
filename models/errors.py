"""What goes wrong in models: a user's mistake, told in one line that says what, where and what to change.

ModelsError
├── CorpusError        text that can't be read, cleaned or split by person
├── OwnNetworkError    a network of somebody's own that is not loaded, or can't be trained
├── RoleError          a weight that this kind of network does not have
├── SegmenterError     text that this machine can't cut into words
└── VocabularyError    a vocabulary file that can't be read, or words that can't make one

A bad argument (a programmer's mistake) is a ValueError with the name and the value in it.
"""

from __future__ import annotations


class ModelsError(Exception):
    """Root of the errors that models raises."""


class CorpusError(ModelsError):
    """Text that can't be read, cleaned or split by person."""


class OwnNetworkError(ModelsError):
    """A network of somebody's own: its code is not loaded, raises, or gives what can't be trained."""


class RoleError(ModelsError):
    """Something needs a weight, such as the output bias, that this kind of network does not have."""


class SegmenterError(ModelsError):
    """Text that this machine can't cut into words, since a package is missing."""


class VocabularyError(ModelsError):
    """A vocabulary file that can't be read, or words that can't make one."""
