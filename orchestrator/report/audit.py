"""The audit as a section of the run's report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from orchestrator.audit.leakage_results import AuditView, _Estimate, _OneRun, _WholeRun, read_audit
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.view import RunView


def audit(run: RunView) -> Optional[Section]:
    """What was measured of the run's privacy, next to what is stated; None before `fedkeys audit`."""
    view = read_audit(run.path)
    if view is None:
        return None
    return Section(
        "Privacy, measured",
        (
            "An upper bound says what nobody can exceed, whoever attacks. A lower bound says what an attack did "
            "reach. An "
            f"estimate says neither. Epsilon at delta {view.delta:.2g}.",
        ),
        figures=tuple(_pictures(view.whole_run)),
        tables=tuple(table for table in (_epsilons(view), _phrases(view)) if table is not None),
    )


def _pictures(whole: Optional[_WholeRun]) -> Iterator[Figure]:
    if whole is None:
        return
    from orchestrator.report.plots import attack as attack_plots

    caption = (
        f"{whole.canaries} canary clients took part in {whole.rounds} rounds like people; a coin decided which of them "
        "sent something. How far do all sums together tell them apart? The less the two overlap, the less private."
    )
    yield Figure(attack_plots.canary_histogram(whole.scores_in, whole.scores_out), caption)


def _epsilons(view: AuditView) -> Table:
    one_shot = view.one_shot
    rows: list[tuple[str, ...]] = [(_text(view.stated.run, "no limit"), "the run", "upper bound", "the ledger")]
    if view.whole_run is not None:
        rows += [
            _estimate_row(view.whole_run.all_releases, "canary clients in training, by all rounds' sums"),
            _estimate_row(view.whole_run.final_model, "canary clients in training, by the model at the end"),
            _bound_row(view.whole_run.one_run, "the run"),
        ]
    rows += [
        (
            _text(view.stated.one_round, "no limit"),
            "one round",
            "upper bound",
            f"noise multiplier {view.noise_multiplier:.3g}",
        ),
        (_text(one_shot.epsilon, "above 200"), "one round", "estimate", f"{one_shot.canaries} canary clients"),
        _bound_row(view.one_run, "one round"),
    ]
    return Table(("epsilon", "of", "kind", "from"), tuple(rows), texts=True)


def _estimate_row(estimate: _Estimate, how: str) -> tuple[str, ...]:
    low, high = (_text(value, "above 200") for value in estimate.epsilon_interval)
    return _text(estimate.epsilon, "above 200"), "the run", "estimate", f"{how}; {low} to {high} at 95%"


def _bound_row(bound: _OneRun, of: str) -> tuple[str, ...]:
    guesses = f"{bound.right} of {bound.guesses} guesses right"
    return _text(bound.epsilon, ""), of, f"lower bound at {bound.confidence:.0%}", guesses


def _text(value: Optional[float], otherwise: str) -> str:
    return otherwise if value is None else f"{value:.3g}"


def _phrases(view: AuditView) -> Optional[Table]:
    if view.exposure is None:
        return None
    parts = [(f"{repeats} times", part) for repeats, part in view.exposure.by_repeats.items()]
    parts.append(("by people who took part in no round", view.exposure.never_took_part))
    rows = [(name, str(p.phrases), f"{p.mean:.1f}", f"{p.most:.1f}") for name, p in parts if p is not None]
    return Table(
        ("secret phrase typed", "phrases", "mean exposure, bits", "most"),
        tuple(rows),
        f"Estimates. 1.4 bits: the model never saw it; {view.exposure.most_possible:.0f}: it ranks first of all tried.",
    )
