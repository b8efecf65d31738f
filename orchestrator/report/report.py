"""A run's report: one self-contained HTML page, read in a minute for the headline and in ten for the rest.

To add a section, write a function from RunView to a Section and put it in _SECTIONS; the template knows only the parts
of a Section (orchestrator/report/parts.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional

from models.files import write_atomically
from orchestrator.report import attack as report_attack
from orchestrator.report import audit as report_audit
from orchestrator.report import fairness as report_fairness
from orchestrator.report import fleet as report_fleet
from orchestrator.report import privacy as report_privacy
from orchestrator.report import sections as report_sections
from orchestrator.report import sums as report_sums
from orchestrator.report.page import render_page
from orchestrator.report.parts import Section
from orchestrator.run.folder import RunFolder
from orchestrator.run.view import RunView, read_run

_SECTIONS: tuple[Callable[[RunView], Optional[Section]], ...] = (
    report_sections.comparison,
    report_sections.learning,
    report_sections.people,
    report_fairness.fairness,
    report_fairness.personal,
    report_sections.examples,
    report_attack.attack,
    report_privacy.privacy,
    report_audit.audit,
    report_fleet.fleet,
    report_sections.times,
    report_sections.phone_bill,
    report_sums.as_the_server_saw,
    report_sections.outcomes,
    report_sections.limits,
    report_sections.configuration,
    report_sections.versions,
)

_FOOTER = (
    "Drawn from `rounds.jsonl`, `run.json`, `config.toml` and, where there are any, `evaluation.json`, "
    "`fairness.json`, `transcript.json`, `attack.json` and `audit.json` of the run's folder. Recall: the share of "
    "typed words that were among the suggestions. Nats: the mean of minus the logarithm of the probability that the "
    "model gave to the typed word."
)


def write_report(folder: RunFolder) -> Path:
    """The path of DIR/report.html, freshly written from what the folder holds now.

    Raises:
      RunFolderError: there is no run or no round yet, or a file is damaged.
    """
    run = read_run(folder)
    sections = [section for build in _SECTIONS for section in [build(run)] if section is not None]
    page = render_page(
        kind="report of a run",
        name=run.name,
        summary=report_sections.summary(run),
        cards=list(report_sections.headline(run)),
        sections=sections,
        footer=_FOOTER,
    )
    path = folder.path / "report.html"
    write_atomically(path, page.encode())
    return path
