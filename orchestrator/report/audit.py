"""The audit as a section of the run's report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from orchestrator.audit.leakage_results import AuditResult, Estimate, OneRun, SummedScores, WholeRun, read_audit
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.view import RunView
from orchestrator.units import count_text


def audit(run: RunView) -> Optional[Section]:
    """Returns what was measured of the run's privacy, beside what the ledger states; None before `fedkeys audit`."""
    result = read_audit(run.path)
    if result is None:
        return None
    return Section(
        "Privacy, measured",
        (
            "No attack can exceed an upper bound. A lower bound is what an attack did reach; each holds with its "
            "confidence by itself. An estimate is neither. "
            f"Epsilon at delta {result.delta:.2g}.",
        ),
        figures=tuple(_pictures(result.whole_run)),
        tables=tuple(table for table in (_epsilons(result), _phrases(result)) if table is not None),
    )


def _pictures(whole: Optional[WholeRun]) -> Iterator[Figure]:
    if whole is None:
        return
    from orchestrator.report.plots import attack as attack_plots

    caption = (
        f"{count_text(whole.canaries, 'canary client')} took part in {count_text(whole.rounds, 'round')} like people; "
        "a coin decided which of them sent something. How well do all sums together tell the two kinds apart? The "
        "less they overlap, the less private the run."
    )
    yield Figure(attack_plots.canary_histogram(whole.scores_in, whole.scores_out), caption)


def _epsilons(result: AuditResult) -> Table:
    one_shot = result.one_shot
    rows: list[tuple[str, ...]] = [(_text(result.stated.run, "no limit"), "the run", "upper bound", "the ledger")]
    both = result.stated.run_and_words
    if both is not None:
        how = f"the ledgers, and what word list and start have cost; at delta {both.delta:.3g}"
        rows.append((_text(both.epsilon, "no limit"), "the run with its other releases", "upper bound", how))
    if result.whole_run is not None:
        rows += [
            _estimate_row(result.whole_run.all_releases, "canary clients in training, by all rounds' sums"),
            _estimate_row(result.whole_run.final_model, "canary clients in training, by the model at the end"),
            _bound_row(result.whole_run.one_run, "the run"),
            *_sum_rows(result.whole_run.summed_scores, "the run"),
        ]
    rows += [
        (
            _text(result.stated.one_round, "no limit"),
            "one round",
            "upper bound",
            f"noise multiplier {result.noise_multiplier:.3g}",
        ),
        (_text(one_shot.epsilon, "above 200"), "one round", "estimate", count_text(one_shot.canaries, "canary client")),
        _bound_row(result.one_run, "one round"),
        *_sum_rows(result.summed_scores, "one round"),
    ]
    return Table(("epsilon", "of", "kind", "from"), tuple(rows), texts=True)


def _estimate_row(estimate: Estimate, how: str) -> tuple[str, ...]:
    low, high = (_text(value, "above 200") for value in estimate.epsilon_interval)
    return _text(estimate.epsilon, "above 200"), "the run", "estimate", f"{how}; {low} to {high} at 95%"


def _bound_row(bound: OneRun, of: str) -> tuple[str, ...]:
    guesses = f"{bound.right} of {bound.guesses} guesses right"
    return _text(bound.epsilon, ""), of, f"lower bound at {bound.confidence:.0%}", guesses


def _sum_rows(bound: Optional[SummedScores], of: str) -> Iterator[tuple[str, ...]]:
    """Yields what the weighted guesses rule out, of any mechanism and of a Gaussian one."""
    if bound is not None:
        kind, how = f"lower bound at {bound.confidence:.0%}", f"the same guesses, weighted: {bound.sum} of {bound.most}"
        yield _text(bound.epsilon, ""), of, kind, how
        yield _text(bound.epsilon_if_gaussian, ""), of, kind, f"{how}; if the guarantee is a Gaussian one"


def _text(value: Optional[float], otherwise: str) -> str:
    return otherwise if value is None else f"{value:.3g}"


def _phrases(result: AuditResult) -> Optional[Table]:
    if result.exposure is None:
        return None
    rows = [(name, str(p.phrases), f"{p.mean:.1f}", f"{p.most:.1f}") for name, p in result.exposure.rows]
    return Table(
        ("secret phrase", "phrases", "mean exposure, bits", "most"),
        tuple(rows),
        "Estimates. A phrase that the model never saw has 1.4 bits on average; one that ranks first of all has "
        f"{result.exposure.most_possible:.0f}. {result.exposure.where(result.round_num)}".rstrip(),
    )
