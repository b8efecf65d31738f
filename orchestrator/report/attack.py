"""The report's section on the attack."""

from __future__ import annotations

from typing import Optional

from models.disclosure import MIN_GROUP
from orchestrator.audit.attack_results import read_attack
from orchestrator.report.attack_parts import only_target_table, strips, verdicts, what_was_done, words_table
from orchestrator.report.parts import Section
from orchestrator.report.view import RunView
from orchestrator.units import TOO_FEW, count_text


def attack(run: RunView) -> Optional[Section]:
    """Returns what the server could read, in short; None before `fedkeys attack`."""
    result = read_attack(run.path)
    if result is None:
        return None
    title, rest = "What the server could read", "All of it, with its limits: `attack.html` in the run's folder."
    if len(result.clients) < MIN_GROUP:
        return Section(title, (f"{count_text(len(result.clients), 'attacked person')}: {TOO_FEW}. {rest}",))
    if not run.words:
        result = result.without_words()
    return Section(
        title,
        (what_was_done(result), rest),
        (strips(result, run.words),),
        (words_table(result, run.words), only_target_table(result)),
        verdicts(result),
        holds_words=run.words,
    )
