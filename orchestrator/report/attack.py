"""The report's section on the attack."""

from __future__ import annotations

from typing import Optional

from orchestrator.audit.attack_results import read_attack
from orchestrator.report.attack_parts import only_target_table, strips, verdicts, what_was_done, words_table
from orchestrator.report.parts import Section
from orchestrator.report.view import RunView


def attack(run: RunView) -> Optional[Section]:
    """Returns what the server could read, in short; None before `fedkeys attack`."""
    result = read_attack(run.path)
    if result is None:
        return None
    return Section(
        "What the server could read",
        (what_was_done(result), "All of it, with its limits: `attack.html` in the run's folder."),
        (strips(result),),
        (words_table(result), only_target_table(result)),
        verdicts(result),
    )
