"""The types that settings are made of: ranges, and the description of a field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Union

from msgspec import Meta

# Types that several settings share. A description belongs to a field, a range to a type.
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
CountOrNone = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShareBelowOne = Annotated[float, Meta(ge=0, lt=1)]
ShareInside = Annotated[float, Meta(gt=0, lt=1)]
VocabularySize = Annotated[int, Meta(ge=5, le=2**31 - 1)]  # four special ids and a word


def says(text: str) -> Meta:
    """Returns the description of a field, as `fedkeys config` prints it."""
    return Meta(description=text)


def one_of(kinds: Mapping[str, object]) -> Meta:
    """Returns the type of a setting that names a kind: it may be any key that the dict has when the setting is read."""
    return Meta(extra={"one_of": kinds})


Setting = Union[str, int, float, bool]
Rule = tuple[bool, tuple[str, ...], str]  # holds, the settings that it joins, what to change
