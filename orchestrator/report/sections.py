"""The sections of a run's report: each a function from RunView to a Section, or None where there is nothing to say."""

from __future__ import annotations

import collections
import math
import shlex
import statistics
from collections.abc import Iterator, Sequence
from typing import Optional

import msgspec

from orchestrator.report.parts import Card, Figure, Section, Table
from orchestrator.report.plots import run as plots
from orchestrator.report.plots.style import TOP1, TOP3
from orchestrator.run.results import BARS, Evaluation
from orchestrator.run.view import DevPoint, Round, RunView
from orchestrator.settings.audit import what_is_hidden
from orchestrator.settings.files import RunConfig
from orchestrator.units import duration_text, interval_text, percent_text, points_text, size_text

_LABELS = {
    "model": "federated model",
    "mixed": "model and trigram, mixed",
    "trigram": "trigram, pooled text",
    "bigram": "bigram, pooled text",
    "unigram": "unigram, pooled text",
}
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


def summary(run: RunView) -> str:
    """What the run is and how well it does, in words for everybody."""
    cohort = statistics.median(len(r.selected) for r in run.rounds)
    text = (
        f"A keyboard learned to suggest the next word from {len(run.participations):,} people, {cohort:.0f} in each of "
        f"{len(run.rounds):,} rounds. Each trained on their own text and sent an update of the model, not the text. "
        f"{what_is_hidden(run.config.audit)}"
    ).rstrip()
    if run.evaluation is not None:
        model, trigram = run.evaluation.model, run.evaluation.trigram
        text += (
            " Of 100 words of its vocabulary that people it never met go on to type, its first suggestion is right for "
            f"{100 * model.top1:.1f}, and one of three for {100 * model.top3:.1f}. A classical model (a trigram) "
            "that was given everybody's text in one place gets "
            f"{100 * trigram.top1:.1f} and {100 * trigram.top3:.1f}."
        )
    return text


def headline(run: RunView) -> Iterator[Card]:
    """The figures at the top."""
    yield from _recall_cards(run)
    completed = [r for r in run.rounds if r.outcome == "completed"]
    lost = len(run.rounds) - len(completed)
    yield Card(f"{len(completed):,}", "rounds completed", f"of {run.config.rounds.count:,} planned; {lost} abandoned")
    per_round = duration_text(run.wall_s / len(run.rounds))
    yield Card(duration_text(run.wall_s), "training time", f"{per_round} a round, where it was trained")
    upload = statistics.median([r.upload_bytes for r in completed] or [0.0])
    yield Card(size_text(upload), "sent by a phone", "each time it takes part")


def _recall_cards(run: RunView) -> Iterator[Card]:
    if run.evaluation is not None:
        model = run.evaluation.model
        who = f"{run.evaluation.clients} people never seen in training"
        yield Card(f"{model.top1:.1%}", "first suggestion right", who)
        yield Card(f"{model.top3:.1%}", "one of three right", who)
        gap, interval = model.top1 - run.evaluation.trigram.top1, model.top1_minus_trigram_interval
        between = f"; 95%: {points_text(interval[0])} to {points_text(interval[1])}" if interval else ""
        yield Card(points_text(gap), "points, against the trigram", f"first suggestion{between}")
    elif run.dev_points:
        last = run.dev_points[-1]
        who = f"dev people, round {last.round_num:,}"
        yield Card(f"{last.top1:.1%}", "first suggestion right", who)
        yield Card(f"{last.top3:.1%}", "one of three right", who)


def comparison(run: RunView) -> Section:
    """The model beside the bars, on the test people."""
    title, evaluation = "How well does it predict?", run.evaluation
    if evaluation is None:
        advice = f"Not scored on the test people yet: run `{_evaluate(run)}`, then this report again."
        return Section(title, (advice,))
    scores = {name: getattr(evaluation, name) for name in _LABELS}
    figure = Figure(
        plots.comparison_bars([(_LABELS[n], s.top1, s.top1_interval, n == "model") for n, s in scores.items()]),
        "How often the first suggestion is the word that was typed (top-1 recall). The n-gram models saw all the "
        "training text in one place, which federated learning avoids. Lines: 95% intervals over people.",
    )
    table = Table(
        ("", "top-1", "95% over people", "top-3", "nats a word", "mean over people", "worst tenth"),
        tuple(
            (
                _LABELS[name],
                percent_text(score.top1),
                interval_text(score.top1_interval),
                percent_text(score.top3),
                f"{score.loss_nats_per_token:.3f}",
                percent_text(score.top1_per_client_mean),
                percent_text(score.top1_worst_tenth_mean),
            )
            for name, score in scores.items()
        ),
        f"{evaluation.positions:,} words of {evaluation.clients} people who took no part in the training; words "
        f"outside the vocabulary ({evaluation.oov_rate:.2%}) are not among them.",
    )
    return Section(title, tuple(_comparison_texts(run, evaluation)), (figure,), (table,))


def _comparison_texts(run: RunView, evaluation: Evaluation) -> Iterator[str]:
    last = run.rounds[-1].round_num
    if evaluation.round_num not in (None, last):
        yield (
            f"These figures are of round {evaluation.round_num:,}, and the run is at round {last:,}: "
            f"run `{_evaluate(run)}` again."
        )
    for name in ("model", "mixed"):
        score = getattr(evaluation, name)
        if score.top1_minus_trigram is not None and score.top1_minus_trigram_interval is not None:
            low, high = score.top1_minus_trigram_interval
            verdict = "no clear difference" if low <= 0 <= high else "better" if low > 0 else "worse"
            yield (
                f"{_LABELS[name].capitalize()}, against the trigram: {points_text(score.top1_minus_trigram)} points of "
                f"top-1 recall (95% over people: {points_text(low)} to {points_text(high)}): {verdict}."
            )
    personal = evaluation.personalised
    if personal is not None:
        yield (
            f"Fine-tuned for each of {personal.clients} people on their earlier text, top-1 recall on their later "
            f"text goes from {personal.before.top1:.2%} to {personal.after.top1:.2%}: better for "
            f"{personal.share_better:.0%} of them, worse for {personal.share_worse:.0%}."
        )


def _evaluate(run: RunView) -> str:
    return f"fedkeys evaluate --run {shlex.quote(run.path)}"


def learning(run: RunView) -> Section:
    """Recall against rounds, time and bytes; loss."""
    dev = run.dev_points
    bars = [] if run.evaluation is None else _bar_lines(run.evaluation)
    top1, top3 = [p.top1 for p in dev], [p.top3 for p in dev]
    figures = [
        Figure(plots.recall_curve(x, top1, top3, label, bars), caption)
        for label, caption, x in _recall_axes(run)
        if dev
    ]
    trained = [r for r in run.rounds if r.survivors and math.isfinite(r.metric("train_loss"))]
    loss = plots.loss_curve(
        [r.round_num for r in trained],
        [r.metric("train_loss") for r in trained],
        [(p.round_num, p.loss_nats) for p in dev],
    )
    caption = (
        "Loss; lower is better. Compare each with itself: training counts sentence ends and unknown words too, the dev "
        "people only words of the vocabulary."
    )
    figures.append(Figure(loss, caption))
    text = (
        f"Right suggestions on the dev people, at most {run.config.evaluation.max_sentences} sentences of each."
        if dev
        else f"No evaluation on the dev people yet: there is one every {run.config.evaluation.every} rounds."
    )
    if bars and dev:
        text += " Dashed: the n-gram models on the test people, other people: a small gap to a curve means nothing."
    return Section("How did it learn?", (text,), tuple(figures), _dev_table(dev))


def _recall_axes(run: RunView) -> Iterator[tuple[str, str, list[float]]]:
    """(label, caption, x of each evaluation) of what recall is drawn against."""
    dev = run.dev_points
    yield "rounds", "By round.", [p.round_num for p in dev]
    unit, seconds = ("hours", 3600) if run.wall_s > 7200 else ("minutes", 60) if run.wall_s > 120 else ("seconds", 1)
    caption = "By time: rounds and evaluations; not the start, the checkpoints, nor interruptions."
    yield f"{unit} of training", caption, [p.wall_s / seconds for p in dev]
    yield "gigabytes", "By what the phones sent, all of them together.", [p.uploaded_bytes / 1e9 for p in dev]


def _bar_lines(evaluation: Evaluation) -> list[plots.Bar]:
    lines = [(name, getattr(evaluation, name).top1, TOP1) for name in BARS]
    lines.append(("trigram", evaluation.trigram.top3, TOP3))
    return [plots.Bar(f"{name} {recall:.1%}", recall, colour) for name, recall, colour in lines]


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


def people(run: RunView) -> Optional[Section]:
    """Recall per test person as a distribution."""
    if run.evaluation is None or not run.evaluation.per_person_top1.get("model"):
        return None
    recalls = run.evaluation.per_person_top1["model"]
    figure = plots.recall_histogram(recalls, run.evaluation.per_person_top1.get("trigram", ()))
    text = f"{len(recalls)} people with enough words to tell: the middle one has {statistics.median(recalls):.1%}"
    if len(recalls) > 3:
        low, _, high = statistics.quantiles(recalls, n=4)
        text += f", half of them lie between {low:.1%} and {high:.1%}"
    text += f", the lowest has {min(recalls):.1%} and the highest {max(recalls):.1%}."
    return Section("Does it serve everybody?", (text,), (Figure(figure, "The test people by their top-1 recall."),))


def examples(run: RunView) -> Optional[Section]:
    """What the model proposes after some texts."""
    if run.evaluation is None or not run.evaluation.examples:
        return None
    rows = [
        (f"{example.text} …", *(f"{p.word} {_probability(p.probability)}" for p in example.predictions))
        for example in run.evaluation.examples
    ]
    width = max(map(len, rows))
    columns = ("text", *(f"suggestion {i}" for i in range(1, width)))
    table = Table(columns, tuple(row + ("",) * (width - len(row)) for row in rows), texts=True)
    return Section("What does it suggest?", ("With the probability that the model gives each.",), (), (table,))


def _probability(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.005 else "<1%"


def times(run: RunView) -> Section:
    """Where the time of a round goes."""
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
    """{stage's label: its seconds in each round}, in the order of the road; what no stage counts is the rest."""
    found = {stage for r in rounds for stage in r.stage_s}
    stages = [s for s in _STAGE_LABELS if s in found] + sorted(found - set(_STAGE_LABELS))
    seconds = {_STAGE_LABELS.get(s, s.replace("_", " ")): [r.stage_s.get(s, 0.0) for r in rounds] for s in stages}
    return {**seconds, "rest": [max(0.0, r.wall_s - sum(r.stage_s.values())) for r in rounds]}


def phone_bill(run: RunView) -> Section:
    """What taking part costs a phone, in bytes."""
    completed = [r for r in run.rounds if r.outcome == "completed"]
    up: dict[str, float] = {"the model, before it trains": 0.0}
    down: dict[str, float] = {"the model, before it trains": 4.0 * run.identity.num_weights}
    for r in completed:
        for stage, cost in r.cost.per_client.items():
            label = stage.replace("_", " ")
            up[label] = up.get(label, 0.0) + cost.bytes_up / len(completed)
            down[label] = down.get(label, 0.0) + cost.bytes_down / len(completed)
    turns = run.participations.values()
    mean = sum(turns) / max(1, len(turns))
    sent, received = size_text(mean * sum(up.values())), size_text(mean * sum(down.values()))
    text = (
        f"A phone receives the model ({run.identity.num_weights:,} weights of 4 bytes), trains it, sends its update. "
        f"A person who took part did so {mean:.3g} times on average, {max(turns, default=0)} times at most; on average "
        f"{sent} up and {received} down over the whole run."
    )
    rows = [(stage, size_text(up[stage]), size_text(down[stage])) for stage in up]
    rows.append(("together", size_text(sum(up.values())), size_text(sum(down.values()))))
    return Section("What does it cost a phone?", (text,), (), (Table(("a round", "up", "down"), tuple(rows)),))


def outcomes(run: RunView) -> Section:
    """How the rounds ended, and what was lost on the way."""
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
        ("updates dropped for a NaN or an infinity", f"{non_finite:,}"),
        ("updates clipped", f"{clipped:,} ({clipped / max(1, selected):.1%})"),
        ("positions trained on: words and sentence ends", f"{tokens:,}"),
        ("batches trained on", f"{batches:,}"),
    ]
    reasons = collections.Counter(r.reason for r in run.rounds if r.reason)
    points = tuple(f"{reason} ({n}×)" for reason, n in reasons.most_common(5))
    return Section("How did the rounds end?", (), (), (Table(("", ""), tuple(rows)),), points)


def limits(run: RunView) -> Section:
    """What the page does not show."""
    hidden = what_is_hidden(run.config.audit)
    points = [
        *([hidden] if hidden else []),
        "The phones are simulated on one machine: times are that machine's, not a phone's.",
        "Recall counts whole words of the vocabulary, none of whose letters are typed yet. A keyboard also completes "
        "begun words and corrects typing; key strokes saved are not measured.",
        "One training with one seed. Intervals are over people: another seed gives somewhat other figures.",
    ]
    if run.config.aggregation.aggregator == "plain":
        points.append("Updates were added in the clear: the server saw each one, and an update can give text away.")
    if all(r.epsilon is None for r in run.rounds):
        points.append("No differential privacy: the model may remember what somebody typed.")
    if run.identity.corpus_name == "chitchat":
        points.append(
            "The text is typed chat of students of one American university in 2018, not everybody's language."
        )
    return Section("What this does not show", points=tuple(points))


def configuration(run: RunView) -> Section:
    """Every setting, and which differ from the defaults."""
    settings, defaults = _settings(run.config), _settings(RunConfig())
    changed = tuple((name, value, defaults[name]) for name, value in settings.items() if value != defaults[name])
    every = Table(
        ("setting", "value"), tuple(settings.items()), f"All {len(settings)} settings", folded=True, texts=True
    )
    tables = [Table(("changed setting", "this run", "default"), changed, texts=True)] if changed else []
    path = shlex.quote(f"{run.path}/config.toml")
    text = f"`fedkeys train --config {path} --run DIR` repeats this run in another folder DIR."
    return Section("Settings", (text,), (), (*tables, every))


def _settings(config: RunConfig) -> dict[str, str]:
    """{dotted name: value as text}."""
    flat: dict[str, str] = {}
    for name, value in msgspec.to_builtins(config).items():
        section = {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
        flat.update((key, str(item)) for key, item in section.items())
    return flat


def versions(run: RunView) -> Section:
    """What a repetition needs to be the same: versions and digests."""
    identity = run.identity
    rows = (
        *identity.versions.items(),
        ("text", f"{identity.corpus_name}, SHA-256 {identity.corpus_sha256}"),
        ("vocabulary", f"SHA-256 {identity.vocabulary_sha256}"),
        ("configuration", f"SHA-256 {identity.config_sha256}"),
        (f"weights after round {run.rounds[-1].round_num:,}", f"SHA-256 {run.rounds[-1].weights_sha256}"),
    )
    return Section("Versions", tables=(Table(("", ""), rows, texts=True),))
