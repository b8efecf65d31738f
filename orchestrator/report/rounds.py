"""The report's sections on the rounds: where their time goes, what they cost a phone, and how they ended."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Sequence

from models.disclosure import MIN_GROUP
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import run as plots
from orchestrator.report.view import RunView
from orchestrator.run.lines import Round
from orchestrator.units import TOO_FEW, count_text, size_text

_STAGE_LABELS = {
    "batches": "make batches",
    "clients": "train at the clients",
    "encode": "encode",
    "noise": "privacy noise",
    "aggregate": "sum",
    "server_update": "server's step",
    "evaluate": "evaluate",
    "checkpoint": "checkpoint",
}


def times(run: RunView) -> Section:
    """Shows where the time of a round goes."""
    seconds = _stage_seconds(run.rounds)
    total = sum(map(sum, seconds.values()))
    median = {stage: statistics.median(of_rounds) for stage, of_rounds in seconds.items()}
    mean = {stage: statistics.fmean(of_rounds) for stage, of_rounds in seconds.items()}
    figure = Figure(
        plots.stage_bars({"median round": median, "mean round": mean}),
        "Seconds of a round by stage: the median of each over the rounds, and the mean, which includes what only some "
        "rounds do.",
    )
    table = Table(
        ("stage", "median round", "mean round", "share of all time"),
        tuple(
            (stage, f"{median[stage]:.3f} s", f"{mean[stage]:.3f} s", f"{sum(seconds[stage]) / (total or 1):.1%}")
            for stage in seconds
        ),
    )
    return Section("Where does the time go?", (), (figure,), (table,))


def _stage_seconds(rounds: Sequence[Round]) -> dict[str, list[float]]:
    """Returns {label of a stage: its seconds in each round} in the order of a round, the uncounted rest last."""
    found = {stage for r in rounds for stage in r.stage_s}
    stages = [s for s in _STAGE_LABELS if s in found] + sorted(found - set(_STAGE_LABELS))
    seconds = {_STAGE_LABELS.get(s, s.replace("_", " ")): [r.stage_s.get(s, 0.0) for r in rounds] for s in stages}
    return {**seconds, "rest": [max(0.0, r.wall_s - sum(r.stage_s.values())) for r in rounds]}


def phone_bill(run: RunView) -> Section:
    """Shows what taking part costs a phone, in bytes."""
    completed = [r for r in run.rounds if r.outcome == "completed"]
    up: dict[str, float] = {"the model, before it trains": 0.0}
    down: dict[str, float] = {"the model, before it trains": 4.0 * run.identity.num_weights}
    for r in completed:
        for stage, cost in r.cost.per_client.items():
            label = stage.replace("_", " ")
            up[label] = up.get(label, 0.0) + cost.bytes_up / len(completed)
            down[label] = down.get(label, 0.0) + cost.bytes_down / len(completed)
    text = f"A phone receives the model ({run.identity.num_weights:,} weights of 4 bytes), trains it, sends its update."
    turns = run.participations.values()
    if len(turns) < MIN_GROUP:
        text += f" {count_text(len(turns), 'person')} took part; how often on average: {TOO_FEW}."
    else:
        mean = sum(turns) / len(turns)
        sent, received = size_text(mean * sum(up.values())), size_text(mean * sum(down.values()))
        text += (
            f" A person who took part did so {mean:.3g} times on average, and so sent {sent} and received {received} "
            "over the whole run."
        )
    rows = [(stage, size_text(up[stage]), size_text(down[stage])) for stage in up]
    rows.append(("together", size_text(sum(up.values())), size_text(sum(down.values()))))
    return Section("What does it cost a phone?", (text,), (), (Table(("a round", "up", "down"), tuple(rows)),))


def outcomes(run: RunView) -> Section:
    """Shows how the rounds ended, and what was lost on the way."""
    selected, survivors = (sum(len(getattr(r, name)) for r in run.rounds) for name in ("selected", "survivors"))
    tokens, batches, non_finite, clipped = (
        int(sum(r.metrics.get(name) or 0 for r in run.rounds))
        for name in ("num_tokens", "client_batches", "non_finite_clients", "clipped_clients")
    )
    kinds = collections.Counter(r.outcome for r in run.rounds)
    rows = [
        *((f"rounds {kind}", f"{n:,}") for kind, n in sorted(kinds.items())),
        ("clients selected, all rounds", f"{selected:,}"),
        ("updates summed", f"{survivors:,} ({survivors / max(1, selected):.1%})"),
        ("updates sent as zeros for a NaN or an infinity", f"{non_finite:,}"),
        ("updates clipped", f"{clipped:,} ({clipped / max(1, selected):.1%})"),
        ("positions trained on: words and sentence ends", f"{tokens:,}"),
        ("batches trained on", f"{batches:,}"),
    ]
    reasons = collections.Counter(r.reason for r in run.rounds if r.reason)
    points = tuple(f"{reason} ({n}×)" for reason, n in reasons.most_common(5))
    return Section("How did the rounds end?", (), (), (Table(("", ""), tuple(rows)),), points)
