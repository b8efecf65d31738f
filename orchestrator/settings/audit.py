"""The settings of an audit that has to begin before training: secret phrases in people's text, canary clients."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from orchestrator.settings.types import CountOrNone, says

MIN_CANARIES = 20


class AuditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is hidden in the training, for `fedkeys audit` to look for in what comes out; not for a model in use."""

    phrases: Annotated[
        CountOrNone,
        says(
            "So many phrases of random words are typed once, as many 4 times and as many 16 times, each by one "
            "training person, a sentence each time; 0 = none."
        ),
    ] = 0
    phrase_words: Annotated[Annotated[int, Meta(ge=2, le=20)], says("Words of a phrase.")] = 5
    canaries: Annotated[
        CountOrNone,
        says(
            "So many canary clients are people of the run, too: each sends a random update of the clip norm whenever "
            "it is selected, or zeros, by the toss of a coin; 0 = none."
        ),
    ] = 0


def what_is_hidden(audit: AuditConfig) -> str:
    """A sentence that keeps a model out of use if something was hidden in its training; else nothing.

    >>> what_is_hidden(AuditConfig(phrases=8))
    'Trained to be audited, not to be used: 24 secret phrases were planted in the text.'
    """
    hidden = []
    if audit.phrases:
        hidden.append(f"{3 * audit.phrases} secret phrases were planted in the text")
    if audit.canaries:
        hidden.append(f"{audit.canaries} canary clients took people's places, and half of them sent random updates")
    return f"Trained to be audited, not to be used: {'; '.join(hidden)}." if hidden else ""
