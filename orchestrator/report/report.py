"""A run's report: one self-contained HTML page, read in a minute for the headline and in ten for the rest.

To add a section, write a function from RunView to a Section and add its row to SECTIONS; the template knows only the
parts of a Section (orchestrator/report/parts.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from models.files import write_atomically
from orchestrator.report.attack import attack
from orchestrator.report.audit import audit
from orchestrator.report.comparison import comparison, examples, people
from orchestrator.report.fairness import fairness, personal
from orchestrator.report.fleet import fleet
from orchestrator.report.headline import headline, summary
from orchestrator.report.learning import learning
from orchestrator.report.page import render_page, words_warning
from orchestrator.report.parts import Section
from orchestrator.report.phones import phones
from orchestrator.report.privacy import privacy
from orchestrator.report.reproduction import configuration, limits, versions
from orchestrator.report.rounds import outcomes, phone_bill, times
from orchestrator.report.sums import as_the_server_saw
from orchestrator.report.view import RunView, view_run
from orchestrator.run.saved import Run


@dataclass(frozen=True)
class SectionRow:
    """A section of the report. key: its anchor in the page; build: returns None where there is nothing to say."""

    key: str
    build: Callable[[RunView], Optional[Section]]


SECTIONS = (
    SectionRow("comparison", comparison),
    SectionRow("learning", learning),
    SectionRow("people", people),
    SectionRow("fairness", fairness),
    SectionRow("personal", personal),
    SectionRow("examples", examples),
    SectionRow("attack", attack),
    SectionRow("privacy", privacy),
    SectionRow("audit", audit),
    SectionRow("fleet", fleet),
    SectionRow("times", times),
    SectionRow("phone-bill", phone_bill),
    SectionRow("phones", phones),
    SectionRow("transcript", as_the_server_saw),
    SectionRow("outcomes", outcomes),
    SectionRow("limits", limits),
    SectionRow("settings", configuration),
    SectionRow("versions", versions),
)

_FOOTER = (
    "Drawn from `rounds.jsonl`, `run.json`, `config.toml` and, where there are any, `evaluation.json`, "
    "`fairness.json`, `transcript.json`, `attack.json`, `audit.json` and `phones/` of the run's folder. Recall: the "
    "share of typed words that were among the suggestions. Nats: the mean of minus the logarithm of the probability "
    "that the model gave to the typed word."
)


def write_report(run: Run, words: bool = False) -> Path:
    """Writes DIR/report.html from a run and what the commands have left in its folder, and returns its path.

    Args:
      run: with a round.
      words: show the words that people typed; a page that holds any is for its owner only.

    Raises:
      RunFolderError: the run has no round yet, or a file is damaged.
      DeviceDataError: so is a file that a phone saved.
    """
    view = view_run(run, words)
    sections = list(_sections(view))
    holds_words = any(section.holds_words for section in sections)
    page = render_page(
        kind="report of a run",
        name=view.name,
        summary=summary(view),
        cards=list(headline(view)),
        sections=sections,
        footer=_FOOTER,
        warning=words_warning(run.has_built_in_text) if holds_words else "",
    )
    path = run.path / "report.html"
    write_atomically(path, page.encode(), private=holds_words)
    return path


def _sections(run: RunView) -> Iterator[Section]:
    """Yields the sections that have something to say of the run, in the order of SECTIONS."""
    for row in SECTIONS:
        section = row.build(run)
        if section is not None:
            yield dataclasses.replace(section, key=row.key)
