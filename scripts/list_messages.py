"""Writes the tables of docs/protocol.md from the code: each message, its fields in their order, and their types.

python scripts/list_messages.py [--check]     --check writes nothing, and exits with 1 if the page is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator.network import messages as network  # noqa: E402
from orchestrator.secagg import messages as secagg  # noqa: E402
from orchestrator.split import messages as split  # noqa: E402
from orchestrator.wire import Wire  # noqa: E402

PAGE = ROOT / "docs" / "protocol.md"
PROTOCOLS = {"network": network, "secagg": secagg, "split": split}
NOT_A_CLIENT_S = {"SumToOpen", "RoundToOpen", "MasksOpened", "SeedsRefused"}  # between server, decryptor and helpers
BLOCK = re.compile(r"(<!-- (\w+): written by scripts/list_messages\.py -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def structs_of(module: ModuleType) -> Iterator[type[Wire]]:
    """Yields a protocol's messages and their parts, in the order in which they are written."""
    for found in vars(module).values():
        own = isinstance(found, type) and issubclass(found, Wire) and found.__module__ == module.__name__
        if own and found.__name__ != "Message" and found.__name__ not in NOT_A_CLIENT_S:
            yield found


def name_of(struct: type[Wire]) -> str:
    """Returns a message's tag, or a part's name."""
    tag = struct.__struct_config__.tag
    return f"`{tag}`" if tag else f"{struct.__name__}, a part"


def type_of(found: msgspec.inspect.Type) -> str:
    """Returns a type as the page names it.

    >>> type_of(msgspec.inspect.type_info(secagg.Key)), type_of(msgspec.inspect.type_info(secagg.Index))
    ('bytes, 32', 'integer, 0 to 1048575')
    """
    bare = found.type if isinstance(found, msgspec.inspect.Metadata) else found
    if isinstance(bare, msgspec.inspect.StructType):
        return bare.cls.__name__
    if isinstance(bare, msgspec.inspect.FloatType):
        return "float"
    if isinstance(bare, msgspec.inspect.ListType):
        items = type_of(bare.item_type)
        return f"list of {items if items.isalpha() else f'({items})'}{_length(bare)}"
    if isinstance(bare, msgspec.inspect.IntType):
        most = bare.le if bare.lt is None else bare.lt - 1
        return f"integer, {bare.ge} to {most}"
    if isinstance(bare, msgspec.inspect.StrType):
        return f"text{_length(bare)}"
    assert isinstance(bare, (msgspec.inspect.BytesType, msgspec.inspect.MemoryViewType))
    return f"bytes{_length(bare)}"


def _length(
    bare: msgspec.inspect.BytesType
    | msgspec.inspect.MemoryViewType
    | msgspec.inspect.StrType
    | msgspec.inspect.ListType,
) -> str:
    least, most = bare.min_length or 0, bare.max_length
    if most is None:
        return ""
    return f", {most}" if least == most else f", {least} to {most}"


def table(module: ModuleType) -> str:
    """Returns the table of one protocol."""
    lines = ["| message | field | type |", "|---|---|---|"]
    for struct in structs_of(module):
        for place, field in enumerate(msgspec.structs.fields(struct)):
            optional = "" if field.required else "; may be left out"
            name = name_of(struct) if place == 0 else ""
            lines.append(f"| {name} | `{field.name}` | {type_of(msgspec.inspect.type_info(field.type))}{optional} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """Returns the page with its tables as the code has them."""
    return BLOCK.sub(lambda block: f"{block[1]}{table(PROTOCOLS[block[2]])}{block[3]}", page)


def main(arguments: list[str]) -> int:
    """Writes the page, or with --check says whether it is out of date; returns the exit code."""
    before = PAGE.read_text(encoding="utf-8")
    missing = PROTOCOLS.keys() - {block[2] for block in BLOCK.finditer(before)}
    if missing:
        print(f"{PAGE.relative_to(ROOT)} has no place for the tables of {', '.join(sorted(missing))}")
        return 1
    after = written(before)
    if "--check" in arguments:
        if before != after:
            print(f"{PAGE.relative_to(ROOT)} is out of date: run python scripts/list_messages.py")
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
