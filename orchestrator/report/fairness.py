"""The report's sections on groups of people, from DIR/fairness.json, and on fine-tuning for each person."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from typing import Optional

from scipy import stats

from models.disclosure import MIN_GROUP, ordered_group_means
from orchestrator.fairness.results import FairnessResult, PerClient, RecallByGroup, read_fairness, verdicts
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import fairness as fairness_plots
from orchestrator.report.view import RunView
from orchestrator.units import NOT_SHOWN, TOO_FEW, count_text, percent_text, points_text, worst_tenth_text


def fairness(run: RunView) -> Section:
    """Returns recall by group and who took part, or how to measure them."""
    title, result = "Whom does it serve well, and whom badly?", read_fairness(run.path)
    if result is None:
        return Section(title, (f"Not measured yet: run `fedkeys fairness --run {shlex.quote(str(run.path))}`.",))
    return Section(
        title,
        tuple(_texts(result)),
        tuple(_pictures(result)),
        tuple(_recall_table(name, attribute) for name, attribute in result.attributes.items()),
        tuple(f"Not measured: {name}: {reason}." for name, reason in result.not_measured.items()),
    )


def _texts(result: FairnessResult) -> Iterator[str]:
    own = result.per_client
    yield (
        f"After round {result.round_num:,}, on {count_text(result.clients, 'person')}, by nothing but sums over them "
        f"({result.aggregator}). A group of fewer than {result.min_group_size} people never shows."
    )
    if own.std is not None and own.jain is not None and own.clients >= MIN_GROUP:
        worst = worst_tenth_text(own.worst_tenth_mean, own.clients)
        yield (
            f"Top-1 recall of a person: {percent_text(own.mean)} on average; the worst tenth of the people: "
            f"{TOO_FEW if worst == NOT_SHOWN else worst}; standard deviation {100 * own.std:.2f} points; Jain's index "
            f"of fairness {own.jain:.3f} (1: the same for everybody)."
        )
    for name, text in verdicts(result):
        yield f"By {name}: {text}"
    for name, attribute in result.participation.items():
        if attribute.four_fifths is False:
            yield (
                f"By {name}, the least heard group had {attribute.ratio:.2f} times as many updates per person as the "
                "most heard. That is below four fifths: the model learned more from some people than from others."
            )


def _pictures(result: FairnessResult) -> Iterator[Figure]:
    recall = [
        fairness_plots.GroupRecall(name, group, row.top1, row.per_client.mean, margin_of_mean(row.per_client))
        for name, attribute in result.attributes.items()
        for group, row in attribute.groups.items()
        if row.top1 is not None and row.per_client.mean is not None and row.per_client.clients >= MIN_GROUP
    ]
    if recall and result.top1 is not None:
        abouts = "; ".join(f"{name}: {attribute.about}" for name, attribute in result.attributes.items())
        yield Figure(
            fairness_plots.group_dots(recall, result.top1),
            f"Top-1 recall by group. Lines: 95% intervals of the mean over its people. {abouts}.",
        )
    heard = [
        (name, group, row.share_of_clients, row.share_of_summed or 0.0)
        for name, attribute in result.participation.items()
        for group, row in attribute.groups.items()
        if row.clients >= MIN_GROUP
    ]
    if heard:
        caption = "Who is among the training people, and whose updates counted."
        yield Figure(fairness_plots.participation_bars(heard), caption)


def margin_of_mean(people: PerClient) -> float:
    """Returns half of the 95 % interval of a mean over people, by the t distribution; `std` divides by their number."""
    if people.std is None:
        return 0.0
    return float(stats.t.ppf(0.975, people.clients - 1)) * people.std / math.sqrt(people.clients - 1)


def _recall_table(name: str, attribute: RecallByGroup) -> Table:
    rows = tuple(
        (
            group,
            f"{row.clients:,}",
            f"{row.positions:,}",
            percent_text(row.top1),
            percent_text(row.top3),
            percent_text(row.oov_rate),
            percent_text(row.per_client.mean),
            worst_tenth_text(row.per_client.worst_tenth_mean, row.per_client.clients),
        )
        for group, row in attribute.groups.items()
        if row.clients >= MIN_GROUP
    )
    columns = (name, "people", "words", "top-1", "top-3", "unknown words", "mean over people", "worst tenth")
    return Table(columns, rows, f"By {name}: {attribute.about} ({NOT_SHOWN}: {TOO_FEW})", folded=True)


def personal(run: RunView) -> Optional[Section]:
    """Returns what fine-tuning gives each person; None if it was not measured."""
    found = None if run.evaluation is None else run.evaluation.fine_tuning
    if found is None or not found.per_person_gain:
        return None
    title, means = "Does it get better for one person?", ordered_group_means(found.per_person_gain)[::-1]
    if not means:
        return Section(title, (f"{count_text(found.clients, 'person')}, {TOO_FEW}.",))
    text = (
        f"The model is trained further on the earlier {found.history_share:.0%} of each of {found.clients} people's "
        f"text, on their own device. Top-1 recall on the rest then goes from {found.before.top1:.2%} to "
        f"{found.after.top1:.2%} ({points_text(found.top1_gain)} points; 95% over people: "
        f"{_points(found.top1_gain_interval)}); better for "
        f"{found.share_better:.0%} of them, worse for {found.share_worse:.0%}. The fine-tuning was chosen on other "
        f"people: {found.setting}."
    )
    caption = f"Mean gain of groups of at least {MIN_GROUP} people, in points of top-1 recall."
    return Section(title, (text,), (Figure(fairness_plots.gain_bars(means), caption),))


def _points(interval: Optional[tuple[float, float]]) -> str:
    return "" if interval is None else f"{points_text(interval[0])} to {points_text(interval[1])}"
