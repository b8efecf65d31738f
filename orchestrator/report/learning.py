"""The report's section on the training: recall against rounds, time and bytes, and the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from models.disclosure import MIN_GROUP
from orchestrator.evaluation.results import Evaluation
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import run as plots
from orchestrator.report.plots.style import BASELINE, BASELINE_SOFT
from orchestrator.report.view import DevPoint, RunView
from orchestrator.units import TOO_FEW, count_text, duration_text, percent_text, size_text


def learning(run: RunView) -> Section:
    """Draws recall against rounds, time and bytes, and the loss against rounds."""
    dev = run.dev_points
    baselines = _baseline_lines(run.evaluation) if run.evaluation is not None and run.shows_test_people else []
    top1, top3 = [p.top1 for p in dev], [p.top3 for p in dev]
    figures = [
        Figure(plots.recall_curve(x, top1, top3, label, baselines), caption)
        for label, caption, x in _recall_axes(run)
        if dev
    ]
    trained = [r for r in run.rounds if r.survivors and math.isfinite(r.metric("train_loss"))]
    loss = plots.loss_curve(
        [r.round_num for r in trained],
        [r.metric("train_loss") for r in trained],
        [(p.round_num, p.loss_nats) for p in dev],
        _least_window(run),
    )
    caption = (
        "The loss; lower is better. Compare each curve with itself only: training counts sentence ends and unknown "
        "words too, the dev people's loss only words of the vocabulary."
    )
    figures.append(Figure(loss, caption))
    most = count_text(run.config.evaluation.max_sentences, "sentence")
    text = f"Right suggestions on the dev people, at most {most} of each." if dev else _why_no_curve(run)
    if baselines and dev:
        text += (
            " The dashed lines are the n-gram models on the test people. The curves are of the dev people, so a small "
            "gap between the two means nothing."
        )
    return Section("How did it learn?", (text,), tuple(figures), _dev_table(dev))


def _why_no_curve(run: RunView) -> str:
    if any("dev_top1" in r.metrics for r in run.rounds):
        return f"Recall of the dev people: {TOO_FEW}."
    every = count_text(run.config.evaluation.every, "round")
    return f"No evaluation on the dev people yet: there is one every {every}."


def _least_window(run: RunView) -> int:
    """How many rounds, an odd number, have clients enough for a figure of them."""
    rounds = math.ceil(MIN_GROUP / run.config.rounds.cohort_size)
    return rounds if rounds % 2 else rounds + 1


def _recall_axes(run: RunView) -> Iterator[tuple[str, str, list[float]]]:
    """Yields what recall is drawn against: (label of the axis, caption, x of each evaluation)."""
    dev = run.dev_points
    yield "rounds", "By round.", [p.round_num for p in dev]
    unit, seconds = ("hours", 3600) if run.wall_s > 7200 else ("minutes", 60) if run.wall_s > 120 else ("seconds", 1)
    caption = "By time: rounds and evaluations; not the start, the checkpoints, nor interruptions."
    yield f"{unit} of training", caption, [p.wall_s / seconds for p in dev]
    yield "gigabytes", "By what the phones sent, all of them together.", [p.uploaded_bytes / 1e9 for p in dev]


def _baseline_lines(evaluation: Evaluation) -> list[plots.Baseline]:
    best, label = evaluation.best, evaluation.best_label
    lines = [("unigram", evaluation.unigram.top1, BASELINE), ("bigram", evaluation.bigram.top1, BASELINE)]
    lines += [(label, best.top1, BASELINE), (label, best.top3, BASELINE_SOFT)]
    return [plots.Baseline(f"{name} {recall:.1%}", recall, colour) for name, recall, colour in lines]


def _dev_table(dev: Sequence[DevPoint]) -> tuple[Table, ...]:
    if not dev:
        return ()
    columns = ("round", "time", "sent by all phones", "top-1", "top-3", "nats a word")
    rows = (
        (
            f"{p.round_num:,}",
            duration_text(p.wall_s),
            size_text(p.uploaded_bytes),
            percent_text(p.top1),
            percent_text(p.top3),
            f"{p.loss_nats:.3f}",
        )
        for p in dev
    )
    return (Table(columns, tuple(rows), "The evaluations as figures", folded=True),)
