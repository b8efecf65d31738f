"""Draws docs/images/architecture.svg and the table of rooms in docs/architecture.md from the code.

A room is a folder or a module directly inside orchestrator/ or edge/; models/ and tff_pipelines/ are one room each. The
floors of orchestrator/ stand in setup.cfg (the contract `floors`); edge/ has none written down, so that each of its
rooms stands one floor above the highest that it imports. What a room is for is the first line of its docstring.

With --check nothing is written: the exit code is 1 if the page or the picture is out of date.
"""

from __future__ import annotations

import ast
import configparser
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
BEGIN = "<!-- rooms: written by scripts/draw_architecture.py -->"
END = "<!-- end of rooms -->"

WIDTH = 480
MARGIN = 12
# What fits into a box at 13 px in a wide font, such as DejaVu Sans.
LINE_CHARS = 57

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: #333 }
  .package { font-size: 17px; font-weight: 700; fill: #111 }
  .room { font: 600 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #0b4f9c }
  .page { fill: #fff } .floor { fill: #eef3f9; stroke: #c3d0df }
  @media (prefers-color-scheme: dark) {
    text { fill: #c9d1d9 } .package { fill: #f0f3f6 } .room { fill: #79b8ff }
    .page { fill: #0d1117 } .floor { fill: #161f2b; stroke: #30405a }
  }
"""


@dataclass(frozen=True)
class Package:
    """One of the four packages: its rooms by floors, top floor first, and what each room imports of the others."""

    name: str
    about: str
    floors: tuple[tuple[str, ...], ...]
    rooms: Mapping[str, str]  # {room: what it is for}
    imports: Mapping[str, frozenset[str]]  # {room: rooms of the same package}


def relative(path: Path) -> str:
    """Returns a path from the project's folder."""
    return path.relative_to(ROOT).as_posix()


def purpose(source: Path) -> str:
    """Returns the first line of a module's or a package's docstring."""
    path = source / "__init__.py" if source.is_dir() else source
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{relative(path)} needs a docstring: its first line says what the room is for")
    line = docstring.splitlines()[0]
    if not line.endswith("."):
        raise SystemExit(
            f"{relative(path)}: the first line of the docstring must be a whole sentence, and ends in {line[-20:]!r}"
        )
    return line


def imported(source: str) -> Iterator[str]:
    """Yields the dotted names that a module imports, wherever in it.

    >>> sorted(imported("import edge.errors\\nfrom orchestrator import wire, seeds"))
    ['edge.errors', 'orchestrator.seeds', 'orchestrator.wire']
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(package: str) -> dict[str, Path]:
    """Returns {room: its folder or module} of a package."""
    return {
        path.stem: path
        for path in sorted((ROOT / package).iterdir())
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
    }


def import_graph(package: str, rooms: Mapping[str, Path]) -> dict[str, frozenset[str]]:
    """Returns {room: the other rooms of the package that it imports}."""
    graph = {}
    for room, path in rooms.items():
        names: set[str] = set()
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            names.update(imported(file.read_text(encoding="utf-8")))
        used = {name.split(".")[1] for name in names if name.startswith(f"{package}.")}
        graph[room] = frozenset(used & set(rooms) - {room})
    return graph


def written_floors() -> tuple[tuple[str, ...], ...]:
    """Returns the floors of orchestrator/, top floor first, from the contract in setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = config["importlinter:contract:floors"]["layers"].split("\n")
    return tuple(tuple(room.strip() for room in layer.split("|")) for layer in layers if layer.strip())


def computed_floors(graph: Mapping[str, frozenset[str]]) -> tuple[tuple[str, ...], ...]:
    """Returns floors, top floor first, of which each stands above all that it imports; `graph` has no circle.

    >>> computed_floors({"a": frozenset({"b"}), "b": frozenset(), "c": frozenset()})
    (('a',), ('b', 'c'))
    """
    floors: list[tuple[str, ...]] = []
    placed: set[str] = set()
    while len(placed) < len(graph):
        floor = tuple(sorted(room for room, used in graph.items() if room not in placed and used <= placed))
        if not floor:
            raise SystemExit(f"circular imports between {', '.join(sorted(set(graph) - placed))}")
        placed.update(floor)
        floors.insert(0, floor)
    return tuple(floors)


def read_package(name: str) -> Package:
    """Returns a package as its code and setup.cfg have it; models and tff_pipelines are one room each."""
    rooms = rooms_of(name) if name in ("orchestrator", "edge") else {}
    graph = import_graph(name, rooms)
    floors = written_floors() if name == "orchestrator" else computed_floors(graph)
    return Package(name, purpose(ROOT / name), floors, {room: purpose(path) for room, path in rooms.items()}, graph)


class Drawing:
    """An SVG that grows downwards: each call adds text or a box below what is there."""

    def __init__(self) -> None:
        """Starts an empty picture."""
        self.y = MARGIN
        self.parts: list[str] = []

    def text(self, words: str, style: str = "", x: int = MARGIN, height: int = 17) -> None:
        """Adds words, broken into lines, of the given height a line."""
        for line in textwrap.wrap(words.replace("`", ""), LINE_CHARS):
            self.y += height
            name = f' class="{style}"' if style else ""
            self.parts.append(f'<text x="{x}" y="{self.y - 4}"{name}>{escape(line)}</text>')

    def floor(self, rooms: tuple[str, ...], about: Mapping[str, str]) -> None:
        """Adds one floor: a box with a name and a purpose for each of its rooms."""
        top, place = self.y, len(self.parts)
        self.y += 5
        for room in rooms:
            self.text(room, "room", 2 * MARGIN, 21)
            self.text(about[room], x=2 * MARGIN)
            self.y += 3
        self.y += 5
        size = f'width="{WIDTH - 2 * MARGIN}" height="{self.y - top}"'
        self.parts.insert(place, f'<rect class="floor" x="{MARGIN}" y="{top}" {size} rx="6"/>')
        self.y += 6

    def svg(self) -> str:
        """Returns the picture's file."""
        height = self.y + MARGIN
        size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        title = "The rooms of fedkeys by floors: a room imports only from the floors below it"
        page = f'<rect class="page" width="{WIDTH}" height="{height}"/>'
        body = "\n".join([f"<title>{title}</title>", f"<style>{STYLE}</style>", page, *self.parts])
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">\n{body}\n</svg>\n'


def draw(packages: tuple[Package, ...]) -> str:
    """Returns the picture: the packages from the top, each with its floors."""
    drawing = Drawing()
    for package in packages:
        title = f"{package.name}/"
        if not package.floors:
            drawing.floor((title,), {title: package.about})
            continue
        drawing.text(title, "package", height=24)
        drawing.text(package.about)
        drawing.y += 6
        for floor in package.floors:
            drawing.floor(floor, package.rooms)
        drawing.y += 8
    return drawing.svg()


def table(packages: tuple[Package, ...]) -> str:
    """Returns the Markdown table of rooms, top floor first; what is imported from the lowest floor is left out."""
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    for package in packages:
        lines.append(f"| **`{package.name}/`** | {package.about} | |")
        lowest = set(package.floors[-1]) if package.floors else set()
        for floor in package.floors:
            for room in floor:
                used = ", ".join(f"`{name}`" for name in sorted(package.imports[room] - lowest))
                lines.append(f"| `{package.name}/{room}` | {package.rooms[room]} | {used} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Writes picture and page; with --check returns 1 if either is out of date. Returns 0 otherwise."""
    packages = tuple(read_package(name) for name in ("orchestrator", "edge", "tff_pipelines", "models"))
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"docs/architecture.md needs the lines {BEGIN} and {END}")
    wanted = {PAGE: f"{before}{BEGIN}\n{table(packages)}\n{END}{after}", PICTURE: draw(packages)}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{relative(path)} is out of date: python scripts/draw_architecture.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {relative(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
