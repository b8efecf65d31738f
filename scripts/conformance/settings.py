"""settings.json: each setting's type, range and default, so that a client in any language reads a run's settings."""

from __future__ import annotations

import json

import msgspec

from models.tokeniser import LATEST
from models.vocabulary import POOLED
from orchestrator.network.messages import VERSION
from orchestrator.settings import files
from orchestrator.settings.run_config import KINDS, SECTIONS
from orchestrator.settings.sections import RuntimeConfig

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
    return {"network_version": VERSION, "tokeniser": LATEST.version, "name": _naming(), "sections": sections}


def _naming() -> dict[str, object]:
    """What does not enter a run's name, which orchestrator/run/identity.py makes of its settings.

    left_out: sections, and settings of a section, that are left out at their defaults.
    left_out_at: settings that are left out at these values.
    replaced: what stands in place of a setting; runtime: in place of that section, as JSON.
    """
    return {
        "left_out": files._LATER,
        "left_out_at": files._BEFORE,
        "replaced": {"data.source": "-", "data.vocabulary": POOLED},
        "runtime": msgspec.json.encode(RuntimeConfig()).decode(),
    }


def _described(field: msgspec.structs.FieldInfo, kinds: object) -> dict[str, object]:
    found = msgspec.inspect.type_info(field.type)
    bare = found.type if isinstance(found, msgspec.inspect.Metadata) else found
    limits = {limit: getattr(bare, limit, None) for limit in _LIMITS}
    if isinstance(bare, msgspec.inspect.LiteralType):
        return {"type": "text", "default": field.default, "one_of": sorted(bare.values)}
    described = {"type": _TYPES[type(bare)], "default": field.default}
    described.update((limit, value) for limit, value in limits.items() if value is not None)
    return {**described, "one_of": sorted(kinds)} if kinds else described


_KINDS = {"int": "FK_INT", "float": "FK_FLOAT", "bool": "FK_BOOL", "text": "FK_TEXT"}


def c_header() -> str:
    """Returns the same for C: a table of the settings, and their places in it."""
    found = settings()
    rows = [(section, name, described) for section, own in found["sections"].items() for name, described in own.items()]
    places = [_place(section, name) for section, name, _ in rows]
    lists = [f"static const char *const {_place(s, n)}_KINDS[] = {_c_list(d)};" for s, n, d in rows if "one_of" in d]
    return "\n".join(
        [
            "/* What edge/conformance/settings.json says, for C; `make vectors` writes both. */",
            "#ifndef FK_SETTINGS_H",
            "#define FK_SETTINGS_H",
            "",
            f'#define FK_NETWORK_VERSION "{found["network_version"]}"',
            f"#define FK_TOKENISER {found['tokeniser']}",
            "",
            "enum {",
            *(f"  {place}," for place in places),
            "  FK_NUM_SETTINGS",
            "};",
            "",
            "#ifdef FK_SETTINGS_TABLE",
            *lists,
            "static const fk_setting FK_SETTINGS[FK_NUM_SETTINGS] = {",
            *(f"  {_row(*row)}," for row in rows),
            "};",
            "#endif",
            "",
            "#ifdef FK_NAMING_TABLE",
            f"static const char FK_NAMING_RUNTIME[] = {_c_text(found['name']['runtime'])};",
            "static const fk_naming FK_NAMING[FK_NUM_SETTINGS] = {",
            *(f"  {_naming_row(found['name'], *row)}," for row in rows),
            "};",
            "#endif",
            "",
            "#endif",
            "",
        ]
    )


def _place(section: str, name: str) -> str:
    return f"FK_{section}_{name}".upper()


def _c_list(described: dict[str, object]) -> str:
    return "{" + "".join(f'"{kind}", ' for kind in described["one_of"]) + "NULL}"


def _c_text(value: str) -> str:
    return json.dumps(value, ensure_ascii=True)


def _written(value: object) -> str:
    """A value as Python writes it in JSON, as a text of C."""
    return _c_text(msgspec.json.encode(value).decode())


def _naming_row(naming: dict[str, dict[str, object]], section: str, name: str, described: dict[str, object]) -> str:
    setting = f"{section}.{name}"
    flags = f"{int(section in naming['left_out'])}, {int(setting in naming['left_out'])}"
    at, replaced = naming["left_out_at"].get(setting), naming["replaced"].get(setting)
    texts = ", ".join("NULL" if value is None else _written(value) for value in (at, replaced))
    return f'{{"{section}", "{name}", {_written(described["default"])}, {flags}, {texts}}}'


def _row(section: str, name: str, described: dict[str, object]) -> str:
    least = described.get("gt", described.get("ge", "-INFINITY"))
    most = described.get("lt", described.get("le", "INFINITY"))
    usual = 0 if described["type"] == "text" else float(described["default"])
    kinds = f"{_place(section, name)}_KINDS" if "one_of" in described else "NULL"
    limits = f"{least}, {most}, {int('gt' in described)}, {int('lt' in described)}, {described.get('min_length', 0)}"
    return f'{{"{section}", "{name}", {_KINDS[described["type"]]}, {limits}, {kinds}, {usual!r}}}'
