"""A run's report: one self-contained HTML page, read in a minute for the headline and in ten for the rest.

To add a section, write a function from RunView to a Section and put it in _SECTIONS; the template knows only the parts
of a Section (orchestrator/report_parts.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Optional

import jinja2
from markupsafe import Markup

from models.corpus import write_atomically
from orchestrator import report_sections
from orchestrator.report_data import RunView, read_run
from orchestrator.report_parts import Section
from orchestrator.run_folder import RunFolder

_SECTIONS: tuple[Callable[[RunView], Optional[Section]], ...] = (
    report_sections.comparison,
    report_sections.learning,
    report_sections.people,
    report_sections.examples,
    report_sections.times,
    report_sections.phone_bill,
    report_sections.outcomes,
    report_sections.limits,
    report_sections.configuration,
    report_sections.versions,
)


def write_report(folder: RunFolder) -> Path:
    """The path of DIR/report.html, freshly written from what the folder holds now.

    Raises:
      RunFolderError: there is no run or no round yet, or a file is damaged.
    """
    run = read_run(folder)
    sections = [section for build in _SECTIONS for section in [build(run)] if section is not None]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    page = environment.get_template("report.html.j2").render(
        name=run.name,
        summary=report_sections.summary(run),
        cards=list(report_sections.headline(run)),
        sections=sections,
    )
    path = folder.path / "report.html"
    write_atomically(path, page.encode())
    return path


def _code(text: str) -> Markup:
    """The text, escaped, with `words in back-quotes` as code.

    >>> str(_code("a < b: run `x & y`"))
    'a &lt; b: run <code>x &amp; y</code>'
    """
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(Markup.escape(text))))
