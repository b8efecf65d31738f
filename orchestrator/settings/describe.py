"""The list of every setting, as `fedkeys config` prints it."""

from __future__ import annotations

import re
import textwrap
from typing import Optional

import msgspec
import tomli_w

from orchestrator.settings.kinds import one_of_words
from orchestrator.settings.presets import PRESETS
from orchestrator.settings.run_config import SECTIONS, RunConfig
from orchestrator.settings.types import Setting


def describe_config(config: Optional[RunConfig] = None, whose: str = "its default") -> str:
    """Returns every setting as TOML, with its meaning and range as a comment.

    Args:
      config: gives the values; None gives the defaults.
      whose: they are, in words.
    """
    config = config or RunConfig()
    lines = [
        f"# Every setting of a fedkeys run, with {whose}. A file need only name what it changes.",
        f"# Presets (fedkeys train --preset NAME): {', '.join(PRESETS)}. The defaults are the preset small.",
        "",
    ]
    for field in msgspec.structs.fields(RunConfig):
        if field.name not in SECTIONS:
            lines += _describe(field, getattr(config, field.name))
    for section, struct in SECTIONS.items():
        lines += [f"# {struct.__doc__}", f"[{section}]"]
        for field in msgspec.structs.fields(struct):
            lines += _describe(field, getattr(getattr(config, section), field.name))
    return "\n".join(lines[:-1]) + "\n"


def _describe(field: msgspec.structs.FieldInfo, value: Setting) -> list[str]:
    """Returns the lines of one setting: comment, `name = value`, an empty line."""
    info = msgspec.inspect.type_info(field.type)
    assert isinstance(info, msgspec.inspect.Metadata)
    text = (info.extra_json_schema or {})["description"]
    allowed = re.sub(r", at most \d{10,}", "", allowed_values(info))  # only what an array can index: not worth a word
    comment = textwrap.wrap(f"{text} ({allowed})" if allowed else text, width=98)
    return [f"# {line}" for line in comment] + [tomli_w.dumps({field.name: value}).strip(), ""]


def allowed_values(info: msgspec.inspect.Metadata) -> str:
    """Returns what a setting may be, in words: 'constant, linear or cosine', 'at least 0, below 1', or ''."""
    kind = info.type
    if info.extra:
        return one_of_words(info.extra["one_of"])
    if isinstance(kind, msgspec.inspect.LiteralType):
        return one_of_words(kind.values)
    if isinstance(kind, msgspec.inspect.StrType):
        return "a text that is not empty" if kind.min_length else ""
    words = {"ge": "at least", "gt": "above", "lt": "below", "le": "at most"}
    bounds = {name: getattr(kind, name, None) for name in words}
    return ", ".join(f"{words[name]} {bound}" for name, bound in bounds.items() if bound is not None)
