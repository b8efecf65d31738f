"""The settings of an audit that has to begin before training: secret phrases planted in people's text."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from orchestrator.setting_types import CountOrNone, says


class AuditConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Secret phrases planted in people's text, for `fedkeys audit` to look for in the model; not for a model in use."""

    phrases: Annotated[
        CountOrNone,
        says(
            "So many phrases of random words are typed once, as many 4 times and as many 16 times, each by one "
            "training person, a sentence each time; 0 = none."
        ),
    ] = 0
    phrase_words: Annotated[Annotated[int, Meta(ge=2, le=20)], says("Words of a phrase.")] = 5
