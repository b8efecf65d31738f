"""The report's sections on groups of people, from DIR/fairness.json, and on fine-tuning for each person."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Optional

from orchestrator.fairness.results import FairnessResult, RecallByGroup, read_fairness, verdicts
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import fairness as fairness_plots
from orchestrator.report.view import RunView
from orchestrator.units import percent_text, points_text


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
        f"After round {result.round_num:,}, on {result.clients} people, by nothing but sums over them "
        f"({result.aggregator}). A group of fewer than {result.min_group_size} people never shows."
    )
    if own.std is not None and own.jain is not None:
        yield (
            f"Top-1 recall of a person: {percent_text(own.mean)} on average, {percent_text(own.worst_tenth_mean)} for "
            f"the worst tenth; standard deviation {100 * own.std:.2f} points; Jain's index of fairness {own.jain:.3f} "
            "(1: the same for everybody)."
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
        (name, group, row.top1, row.per_client.mean)
        for name, attribute in result.attributes.items()
        for group, row in attribute.groups.items()
        if row.top1 is not None and row.per_client.mean is not None
    ]
    if recall and result.top1 is not None:
        abouts = "; ".join(f"{name}: {attribute.about}" for name, attribute in result.attributes.items())
        yield Figure(fairness_plots.group_dots(recall, result.top1), f"Top-1 recall by group. {abouts}.")
    heard = [
        (name, group, row.share_of_clients, row.share_of_summed or 0.0)
        for name, attribute in result.participation.items()
        for group, row in attribute.groups.items()
    ]
    if heard:
        caption = "Who is among the training people, and whose updates counted."
        yield Figure(fairness_plots.participation_bars(heard), caption)


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
            percent_text(row.per_client.worst_tenth_mean),
        )
        for group, row in attribute.groups.items()
    )
    columns = (name, "people", "words", "top-1", "top-3", "unknown words", "mean over people", "worst tenth")
    return Table(columns, rows, f"By {name}: {attribute.about}", folded=True)


def personal(run: RunView) -> Optional[Section]:
    """Returns what fine-tuning gives each person; None if it was not measured."""
    found = None if run.evaluation is None else run.evaluation.fine_tuning
    if found is None or not found.per_person_gain:
        return None
    text = (
        f"The model is trained further on the earlier {found.history_share:.0%} of each of {found.clients} people's "
        f"text, on their own device. Top-1 recall on the rest then goes from {found.before.top1:.2%} to "
        f"{found.after.top1:.2%} ({points_text(found.top1_gain)} points; 95% over people: "
        f"{_points(found.top1_gain_interval)}{_others(found.top1_gain_of_others)}); better for "
        f"{found.share_better:.0%} of them, worse for {found.share_worse:.0%}. The fine-tuning was chosen on other "
        f"people: {found.setting}."
    )
    picture = Figure(
        fairness_plots.gain_bars(found.per_person_gain), "What each person gains or loses, in points of top-1 recall."
    )
    return Section("Does it get better for one person?", (text,), (picture,))


def _others(gain: Optional[float]) -> str:
    return "" if gain is None else f"; without the one who gains most {points_text(gain)}"


def _points(interval: Optional[tuple[float, float]]) -> str:
    return "" if interval is None else f"{points_text(interval[0])} to {points_text(interval[1])}"
