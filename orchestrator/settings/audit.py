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
            "Plant this many secret phrases of random words that are typed once, as many that are typed 4 times and as "
            "many 16 times; one training person types a phrase, as a sentence each time. 0 = none."
        ),
    ] = 0
    phrase_words: Annotated[Annotated[int, Meta(ge=2, le=20)], says("Number of words in a phrase.")] = 5
    canaries: Annotated[
        CountOrNone,
        says(
            "Let this many canary clients take part. A coin is tossed for each once: whenever it is selected it then "
            "sends a random update as long as the clip norm, or zeros. 0 = none."
        ),
    ] = 0


def what_is_hidden(audit: AuditConfig) -> str:
    """Returns a sentence that keeps a model out of use if something was hidden in its training; else nothing.

    >>> what_is_hidden(AuditConfig(phrases=8))
    'Trained to be audited, not to be used: 24 secret phrases were planted in the text.'
    """
    hidden = []
    if audit.phrases:
        hidden.append(f"{3 * audit.phrases} secret phrases were planted in the text")
    if audit.canaries:
        hidden.append(f"{audit.canaries} canary clients took people's places, and half of them sent random updates")
    return f"Trained to be audited, not to be used: {'; '.join(hidden)}." if hidden else ""
