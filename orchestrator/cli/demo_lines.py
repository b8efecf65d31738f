"""What a demo came to, in the seven lines that it ends with: how well, what is given away, the cost, the pages."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Optional

from models.disclosure import MIN_GROUP
from orchestrator.audit.attack_results import AttackResult
from orchestrator.audit.leakage_results import AuditResult
from orchestrator.evaluation.results import Evaluation
from orchestrator.run.saved import Run
from orchestrator.units import TOO_FEW, count_text, duration_text, size_text


def closing_lines(
    run: Run,
    evaluation: Evaluation,
    attack: Optional[AttackResult],
    audit: Optional[AuditResult],
    pages: tuple[Path, Path],
    bundle: Path,
) -> list[str]:
    """Returns the seven lines.

    Args:
      run: the demo's.
      evaluation: of the run.
      attack: on the run; None if it could not be made.
      audit: of the run, with planted phrases; None if there was none.
      pages: the report's and the attack's.
      bundle: the folder for phones.
    """
    report, attack_page = pages
    told = {
        "how well": _how_well(evaluation),
        "beside it": _beside_it(evaluation),
        "a server reads": _reads(attack),
        "in sums": _reads_in_sums(attack),
        "phrases typed": _remembers(audit),
        "the cost": _cost(run),
        "the pages": f"{report}, {attack_page}; for phones: {bundle}",
    }
    return [f"{label:15} {text}" for label, text in told.items()]


def _how_well(evaluation: Evaluation) -> str:
    if evaluation.clients < MIN_GROUP:
        return f"{count_text(evaluation.clients, 'test person')}, {TOO_FEW}"
    model = evaluation.model
    return f"first word right {model.top1:.1%}, one of three {model.top3:.1%}, {evaluation.clients} new people"


def _beside_it(evaluation: Evaluation) -> str:
    if evaluation.clients < MIN_GROUP:
        return f"the baselines are {TOO_FEW}, too"
    best = f"{evaluation.best_label} of everybody's text {evaluation.best.top1:.1%}"
    return f"{best}, both mixed {evaluation.mixed.top1:.1%}"


def _reads(attack: Optional[AttackResult]) -> str:
    if attack is None:
        return "not measured"
    best = max(attack.shown["raw"].values(), key=lambda score: score.f1)
    text = f"{best.recall:.0%} of the words of a bare update"
    masked = attack.shown.get("masked")
    return text if masked is None else f"{text}; AUC {masked['bias_sign'].auc:.2f} masked (chance: 0.5)"


def _reads_in_sums(attack: Optional[AttackResult]) -> str:
    if attack is None or attack.largest_sum is None:
        return "not measured"
    only = attack.target_only[attack.largest_sum]
    size = attack.largest_sum.partition("_")[2]
    return f"{only.readable:,} of {only.words:,} words of one person alone, in a sum of {size}"


def _remembers(audit: Optional[AuditResult]) -> str:
    if audit is None or audit.exposure is None:
        return "not measured"
    exposure = audit.exposure
    parts = [(f"{repeats}x", part) for repeats, part in exposure.by_repeats.items()]
    parts.append(("never", exposure.never_planted))
    bits = ", ".join(f"{name} {part.mean:.1f}" for name, part in parts if part is not None)
    copy = "" if exposure.copy_rounds is None else " (short copy)"
    return f"{bits} of {exposure.most_possible:.0f} bits{copy}"


def _cost(run: Run) -> str:
    completed = [line for line in run.rounds if line.outcome == "completed"]
    wall_s = sum(line.wall_s for line in run.rounds)
    upload = statistics.median([line.upload_bytes for line in completed] or [0.0])
    privacy = "differential privacy" if run.config.privacy.traits.adds_noise else "no epsilon"
    rounds = count_text(len(completed), "round")
    return f"{rounds} in {duration_text(wall_s)}, {size_text(upload)} a turn of a phone, {privacy}"
