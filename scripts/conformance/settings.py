"""settings.json: each setting's type, range and default, so that a client in any language reads a run's settings."""

from __future__ import annotations

import msgspec

from models.tokeniser import LATEST
from orchestrator.network.messages import VERSION
from orchestrator.settings.run_config import KINDS, SECTIONS

_TYPES = {
    msgspec.inspect.IntType: "int",
    msgspec.inspect.FloatType: "float",
    msgspec.inspect.BoolType: "bool",
    msgspec.inspect.StrType: "text",
}
_LIMITS = ("gt", "ge", "lt", "le", "min_length")


def settings() -> dict[str, object]:
    """Returns the file's content."""
    sections = {
        section: {
            field.name: _described(field, KINDS.get(f"{section}.{field.name}"))
            for field in msgspec.structs.fields(struct)
        }
        for section, struct in SECTIONS.items()
    }
    return {"network_version": VERSION, "tokeniser": LATEST.version, "sections": sections}


def _described(field: msgspec.structs.FieldInfo, kinds: object) -> dict[str, object]:
    found = msgspec.inspect.type_info(field.type)
    bare = found.type if isinstance(found, msgspec.inspect.Metadata) else found
    limits = {limit: getattr(bare, limit, None) for limit in _LIMITS}
    if isinstance(bare, msgspec.inspect.LiteralType):
        return {"type": "text", "default": field.default, "one_of": sorted(bare.values)}
    described = {"type": _TYPES[type(bare)], "default": field.default}
    described.update((limit, value) for limit, value in limits.items() if value is not None)
    return {**described, "one_of": sorted(kinds)} if kinds else described
