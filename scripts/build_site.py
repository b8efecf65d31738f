"""Builds the site: the pages of docs/, README.md as the first one, and the API. Any warning of Sphinx is an error.

    python scripts/build_site.py FOLDER

The pages are laid out in FOLDER-source first, since some stand outside docs/; a link to another file of the project
leads to a copy of that file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
# Pages that stand outside docs/, and what the site calls them.
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FIRST = ("install", "configuration", "data_formats")  # the rest of docs/ follows by name
LINK = re.compile(r"(!?\[[^\]]*\]\(<?)([^)\s>#]+)([^)]*\))")
FENCE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def sources() -> dict[str, str]:
    """Returns {page of the site: file of the project}, both as paths with slashes."""
    pages = {page: source for source, page in OUTSIDE.items()}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        pages[path.relative_to(ROOT / "docs").as_posix()] = path.relative_to(ROOT).as_posix()
    return pages


def site_path(source: str, pages: dict[str, str]) -> str:
    """Returns where the site holds a file of the project: as a page, or as a copy under files/.

    A folder of pages stands for its first page.

    >>> pages = {"adr/1.md": "docs/adr/1.md"}
    >>> site_path("docs/adr/1.md", pages), site_path("docs/adr", pages), site_path("NOTICE", pages)
    ('adr/1.md', 'adr/1.md', 'files/NOTICE')
    """
    inside = (page for page, of in sorted(pages.items()) if of == source or of.startswith(f"{source}/"))
    return next(inside, f"files/{source}")


def with_links(markdown: str, source: str, pages: dict[str, str]) -> tuple[str, set[str]]:
    """Returns a page with its links turned to where the site holds their targets, and the targets that are no pages.

    Args:
        markdown: the page as the project has it.
        source: its path from the project's folder.
        pages: {page of the site: file of the project}.

    >>> pages = {"index.md": "README.md", "x.md": "docs/x.md"}
    >>> with_links("[a](docs/x.md#y) [b](LICENSE) [c](https://e.org)", "README.md", pages)
    ('[a](x.md#y) [b](files/LICENSE) [c](https://e.org)', {'LICENSE'})
    """
    others = set()
    folder = PurePosixPath(site_path(source, pages)).parent

    def replace(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if re.match(r"[a-z]+:", target):
            return match[0]
        linked = os.path.normpath(PurePosixPath(source).parent / target)
        path = site_path(linked, pages)
        if path not in pages:
            others.add(linked)
        return before + os.path.relpath(path, folder) + after

    parts = FENCE.split(markdown)
    return "".join(part if part.lstrip().startswith("```") else LINK.sub(replace, part) for part in parts), others


def contents(pages: dict[str, str]) -> str:
    """Returns the site's list of contents, as MyST has it: groups of pages that the margin shows."""
    named = sorted(PurePosixPath(page).stem for page in pages if "/" not in page and page not in OUTSIDE.values())
    groups = {
        "Pages": [*FIRST, *(page for page in named if page not in FIRST)],
        "Decisions": sorted(page[:-3] for page in pages if page.startswith("adr/")),
        "Project": ["contributing", "changelog"],
        "API": [
            "api/orchestrator/api/index",  # the door for Python, before the rooms behind it
            *(f"api/{package}/index" for package in ("orchestrator", "edge", "tff_pipelines", "models")),
        ],
    }
    blocks = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *lines, "```"])
        for title, lines in groups.items()
    ]
    return "\n\n" + "\n\n".join(blocks) + "\n"


def lay_out(folder: Path) -> None:
    """Writes the pages, and the files that they link to, into a folder that is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = sources()
    for page, source in pages.items():
        markdown, others = with_links((ROOT / source).read_text(encoding="utf-8"), source, pages)
        path = folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown + (contents(pages) if page == "index.md" else ""), encoding="utf-8")
        for other in others:
            copy = folder / site_path(other, pages)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / other, copy)


def main(folder: Path) -> int:
    """Returns Sphinx's exit code."""
    pages = folder.with_name(f"{folder.name}-source")
    lay_out(pages)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto"]
    return subprocess.run([*command, "-c", ROOT / "docs", pages, folder], check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]).resolve()))
