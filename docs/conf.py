"""How Sphinx makes the site. scripts/build_site.py calls it and says where the pages are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

project = "fedkeys"
html_title = "fedkeys"
extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension"]

# The theme is whole in itself: a page loads neither fonts nor scripts from elsewhere.
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 4
myst_links_external_new_tab = False

# The API is read from the source; nothing of it is imported.
autoapi_dirs = [str(ROOT / package) for package in ("orchestrator", "edge", "tff_pipelines", "models")]
autoapi_root = "api"
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_python_class_content = "class"
autoapi_keep_files = False
autoapi_add_toctree_entry = False
# Docstrings put single backticks around code, and name their sources under `Source:`.
default_role = "code"
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]
# One name may stand for a field and a class. A copied file may be Markdown, and stands in no list of contents.
suppress_warnings = ["autoapi.python_import_resolution", "ref.python", "toc.not_included"]

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Source|Yields):|[-*] ")
CODE = re.compile(r"(`[^`]*`)")


def as_restructured_text(lines: list[str]) -> list[str]:
    """Returns a docstring in which nothing is markup by accident: as reStructuredText has it.

    Of a docstring's text Sphinx is to see paragraphs, sections, lists, examples and what stands between backticks.
    Indented lines anywhere else are a table or a formula: they stay as they are.

    >>> as_restructured_text(["A sum |w| * 2:", "  a  b", "", "Args:", "    x: `*`", "", ">>> 2 * 3"])
    ['A sum \\\\|w\\\\| \\\\* 2:', '', '::', '', '  a  b', '', 'Args:', '    x: `*`', '', '>>> 2 * 3']
    """
    found: list[str] = []
    inside = "text"  # or "section", "example", "literal"
    for line in lines:
        indented = line.startswith(" ")
        if inside == "example" and line.strip():
            found.append(line)
            continue
        if line.startswith(">>>"):
            inside = "example"
        elif line.strip() and not indented:
            if inside == "literal" and found[-1]:
                found.append("")
            inside = "section" if SECTION.match(line) else "text"
        elif indented and inside in ("text", "example"):
            inside = "literal"
            found += ["", "::", ""]
        elif not line.strip() and inside == "example":
            inside = "text"
        found.append(line if inside in ("example", "literal") else escaped(line))
    return found


def escaped(line: str) -> str:
    """Returns a line whose stars, bars and underscores stand for themselves; what is between backticks stays."""
    parts = CODE.split(line)
    return "".join(part if part.startswith("`") else re.sub(r"(?<!^)([*|]|_\b)", r"\\\1", part) for part in parts)


def _read_docstring(app: Sphinx, what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    lines[:] = as_restructured_text(lines)
    if what in ("attribute", "data", "property"):
        app.env.temp_data[f"docstring {name}"] = list(lines)


def _restore_docstring(app: Sphinx, _what: str, name: str, _object: object, _options: object, lines: list[str]) -> None:
    lines[:] = app.env.temp_data.pop(f"docstring {name}", lines)


def setup(app: Sphinx) -> None:
    """Lets docstrings be read before napoleon (priority 500) finds their sections.

    Of an attribute's docstring napoleon would take the words before a colon for its type, so it gets that back.
    """
    app.connect("autodoc-process-docstring", _read_docstring, priority=400)
    app.connect("autodoc-process-docstring", _restore_docstring, priority=600)
