"""Renders a self-contained HTML page of sections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from orchestrator.report.palette import MEANINGS, css_variables
from orchestrator.report.parts import Card, Section


def words_warning(has_built_in_text: bool) -> str:
    """Returns the line at the top of a page that holds words which people typed."""
    if has_built_in_text:
        return "This page holds words that people typed. They are of the built-in text, which is public."
    return "This page holds words that people typed, and only you may read it: protect it as you protect their text."


def render_page(
    *,
    kind: str,
    name: str,
    summary: str,
    cards: Sequence[Card],
    sections: Sequence[Section],
    footer: str,
    warning: str = "",
) -> str:
    """Returns the page as HTML. Texts are plain; `words in back-quotes` are set as code."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    environment.globals["palette"] = css_variables
    template = environment.get_template("report.html.j2")
    return template.render(
        kind=kind,
        name=name,
        summary=summary,
        cards=cards,
        sections=sections,
        footer=f"{footer} {MEANINGS}",
        warning=warning,
    )


def _code(text: str) -> Markup:
    """Escapes a text and sets its `words in back-quotes` as code.

    >>> str(_code("a < b: run `x & y`"))
    'a &lt; b: run <code>x &amp; y</code>'
    """
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(Markup.escape(text))))
