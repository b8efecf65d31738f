"""The top of a run's report: what the run is in words, and the figures that matter most."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from orchestrator.evaluation.privacy import run_privacy
from orchestrator.report.parts import Card
from orchestrator.report.view import RunView
from orchestrator.run.spent import Guarantee
from orchestrator.settings.audit import what_is_hidden
from orchestrator.units import NOT_SHOWN, TOO_FEW, count_text, duration_text, points_text, size_text


def summary(run: RunView) -> str:
    """Returns what the run is and how well it does, in words for everybody."""
    cohort = statistics.median(len(r.selected) for r in run.rounds)
    people, rounds = count_text(len(run.participations), "person"), count_text(len(run.rounds), "round")
    text = (
        f"A keyboard learned to suggest the next word from {people}, {cohort:.0f} in each of {rounds}. Each trained on "
        "their own text and sent an update of the model, not the text. "
        f"{what_is_hidden(run.config.audit)}"
    ).rstrip()
    if run.shows_test_people and run.evaluation is not None:
        model, best = run.evaluation.model, run.evaluation.best
        text += (
            " Of 100 words of its vocabulary that people it never met go on to type, its first suggestion is right for "
            f"{100 * model.top1:.1f}, and one of three for {100 * model.top3:.1f}. A classical model "
            f"(a {run.evaluation.best_label}) "
            "that was given everybody's text in one place gets "
            f"{100 * best.top1:.1f} and {100 * best.top3:.1f}."
        )
    return text


def headline(run: RunView) -> Iterator[Card]:
    """Yields the figures at the top of the page."""
    yield from _recall_cards(run)
    completed = [r for r in run.rounds if r.outcome == "completed"]
    lost = len(run.rounds) - len(completed)
    planned = f"of {run.config.rounds.count:,} planned; {lost:,} abandoned"
    per_round = f"{duration_text(run.wall_s / len(run.rounds))} a round, where it was trained; {planned}"
    yield Card(duration_text(run.wall_s), f"for {count_text(len(completed), 'completed round')}", per_round)
    yield _privacy_card(run)
    upload = statistics.median([r.upload_bytes for r in completed] or [0.0])
    yield Card(size_text(upload), "sent by a phone", "each time it takes part")


def _privacy_card(run: RunView) -> Card:
    if not run.config.privacy.traits.adds_noise:
        return Card("none", "differential privacy", "no epsilon holds: the model may remember what somebody typed")
    result = run_privacy(run.run)
    spent = result.total or Guarantee(result.epsilon[result.delta], result.delta)
    value = "none holds" if spent.epsilon is None else f"{spent.epsilon:.3g}"
    beside = ", with its other releases" if result.total else ""
    how = f"delta {spent.delta:.2g}; {result.mechanism}{beside}"
    return Card(value, "epsilon of one person, all their text", how)


def _recall_cards(run: RunView) -> Iterator[Card]:
    if run.evaluation is not None:
        if not run.shows_test_people:
            yield Card(NOT_SHOWN, "first suggestion right", f"{TOO_FEW}; {run.evaluation.clients} were tested")
            return
        model = run.evaluation.model
        who = f"{count_text(run.evaluation.clients, 'person')} never seen in training"
        yield Card(f"{model.top1:.1%}", "first suggestion right", who)
        yield Card(f"{model.top3:.1%}", "one of three right", who)
        gap, interval = model.lead, model.lead_interval
        between = f"; 95%: {points_text(interval[0])} to {points_text(interval[1])}" if interval else ""
        yield Card(points_text(gap), f"points, against the {run.evaluation.best_label}", f"first suggestion{between}")
    elif run.dev_points:
        last = run.dev_points[-1]
        who = f"dev people, round {last.round_num:,}"
        yield Card(f"{last.top1:.1%}", "first suggestion right", who)
        yield Card(f"{last.top3:.1%}", "one of three right", who)
