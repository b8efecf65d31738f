"""The report's sections on the test people: the model beside the baselines, person by person, and examples."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Optional

from models.disclosure import MIN_GROUP, ordered_group_means, size_of_worst_tenth
from orchestrator.evaluation.ngram_release import read_release
from orchestrator.evaluation.results import CacheScore, Evaluation
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import run as plots
from orchestrator.report.plots.style import BASELINE, MIXTURE, MODEL
from orchestrator.report.view import RunView
from orchestrator.run.spent import spent_on_ngram
from orchestrator.units import (
    NOT_SHOWN,
    TOO_FEW,
    count_text,
    interval_text,
    percent_text,
    points_text,
    worst_tenth_text,
)


def comparison(run: RunView) -> Section:
    """Shows the model beside the baselines, on the test people."""
    title, evaluation = "How well does it predict?", run.evaluation
    if evaluation is None:
        advice = f"Not scored on the test people yet: run `{_evaluate(run)}`, then this report again."
        return Section(title, (advice,))
    if not run.shows_test_people:
        return Section(title, (f"{count_text(evaluation.clients, 'test person')}, {TOO_FEW}.",))
    scores, labels = evaluation.scores, evaluation.labels
    figure = Figure(
        plots.comparison_bars([(labels[n], s.top1, s.top1_interval, _colour(n)) for n, s in scores.items()]),
        "How often the first suggestion is the word that was typed (top-1 recall). Pooled n-grams saw all the "
        "training text in one place, which federated learning avoids. Lines: 95% intervals over people.",
    )
    table = Table(
        ("", "top-1", "95% over people", "top-3", "nats a word", "mean over people", "worst tenth"),
        tuple(
            (
                labels[name],
                percent_text(score.top1),
                interval_text(score.top1_interval),
                percent_text(score.top3),
                f"{score.loss_nats_per_token:.3f}",
                percent_text(score.top1_per_client_mean),
                worst_tenth_text(score.top1_worst_tenth_mean, score.clients_averaged),
            )
            for name, score in scores.items()
        ),
        f"{evaluation.positions:,} words of {evaluation.clients} people who took no part in the training; words "
        f"outside the vocabulary ({evaluation.oov_rate:.2%}) are not among them.{_few_note(evaluation)}",
    )
    return Section(title, tuple(_comparison_texts(run, evaluation)), (figure,), (table,))


def _colour(name: str) -> str:
    return {"model": MODEL, "mixed": MIXTURE, "private_mixed": MIXTURE}.get(name, BASELINE)


def _few_note(evaluation: Evaluation) -> str:
    return "" if size_of_worst_tenth(evaluation.model.clients_averaged) else f" {NOT_SHOWN}: {TOO_FEW}."


def _comparison_texts(run: RunView, evaluation: Evaluation) -> Iterator[str]:
    last = run.rounds[-1].round_num
    if evaluation.round_num != last:
        yield (
            f"These figures are of round {evaluation.round_num:,}, and the run is at round {last:,}: "
            f"run `{_evaluate(run)}` again."
        )
    for name, score in (("model", evaluation.model), ("mixed", evaluation.mixed)):
        if score.lead_interval is not None:
            low, high = score.lead_interval
            yield (
                f"{evaluation.labels[name].capitalize()}, against the {evaluation.best_label}: "
                f"{points_text(score.lead)} points of top-1 recall (95% over people: {points_text(low)} to "
                f"{points_text(high)}): {_verdict(low, high)}."
            )
    yield from _private_text(run, evaluation)
    personal = evaluation.fine_tuning
    if personal is not None and personal.clients >= MIN_GROUP:
        yield (
            f"Fine-tuned for each of {personal.clients} people on their earlier text, top-1 recall on their later "
            f"text goes from {personal.before.top1:.2%} to {personal.after.top1:.2%}: better for "
            f"{personal.share_better:.0%} of them, worse for {personal.share_worse:.0%}."
            + _beside_cache(personal.cache)
        )


def _private_text(run: RunView, evaluation: Evaluation) -> Iterator[str]:
    """Yields what the model is beside the n-gram of one noisy sum, for a run under differential privacy."""
    if not run.config.privacy.traits.adds_noise:
        return
    private = evaluation.private_ngram
    if private is None:
        yield f"A private model should beat n-grams from one noisy sum over the same people, and {_why_none(run)}."
        return
    text = (
        f"Against the private n-gram, one noisy sum over the same people for epsilon {private.epsilon:.3g} at delta "
        f"{private.delta:.2g} beside what the model has spent: {points_text(private.model_minus_ngram)} points of "
        "top-1 recall"
    )
    if private.model_minus_ngram_interval is not None:
        low, high = private.model_minus_ngram_interval
        text += f" (95% over people: {points_text(low)} to {points_text(high)}): {_verdict(low, high)}"
    yield f"{text}. The model's share in the mixture with it is {private.model_weight:g}."


def _why_none(run: RunView) -> str:
    release = f"`fedkeys ngram --run {shlex.quote(str(run.path))}`"
    if spent_on_ngram(run.path) is None:
        return f"this run has none: {release} releases them, at a budget of their own"
    if read_release(run.path) is None:
        return f"those that this run was charged for are not here: {release} makes the same ones, or says why it can't"
    return f"this run's are not scored yet: `{_evaluate(run)}` does"


def _beside_cache(cache: Optional[CacheScore]) -> str:
    if cache is None:
        return ""
    return (
        f" The best n-gram, mixed with {cache.own_share:.0%} of each one's own earlier words, has "
        f"{cache.score.top1:.2%} there without any training on a device."
    )


def _verdict(low: float, high: float) -> str:
    return "no clear difference" if low <= 0 <= high else "better" if low > 0 else "worse"


def _evaluate(run: RunView) -> str:
    return f"fedkeys evaluate --run {shlex.quote(str(run.path))}"


def people(run: RunView) -> Optional[Section]:
    """Shows how the recall differs among the test people, by groups of them; None before an evaluation."""
    if run.evaluation is None or not run.evaluation.per_person_top1.get("model"):
        return None
    title, recalls = "Does it serve everybody?", run.evaluation.per_person_top1["model"]
    means = ordered_group_means(recalls)
    if len(means) < 2:
        return Section(
            title, (f"{count_text(len(recalls), 'person')} typed enough words; a group of them is {TOO_FEW}.",)
        )
    text = (
        f"{len(recalls)} people typed enough words to tell. In {len(means)} groups of at least {MIN_GROUP}, from the "
        f"worst served to the best, a person's top-1 recall is {means[0]:.1%} on average in the first group and "
        f"{means[-1]:.1%} in the last."
    )
    best = run.evaluation.best_label
    of_best = ordered_group_means(run.evaluation.per_person_top1.get(run.evaluation.best_ngram, ()))
    figure = plots.served_groups(means, of_best, f"{best}, pooled text")
    caption = f"Mean top-1 recall of each group; the {best}'s groups are in its own order."
    return Section(title, (text,), (Figure(figure, caption),))


def examples(run: RunView) -> Optional[Section]:
    """Shows what the model proposes after some texts; None before an evaluation."""
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
