"""The report's sections on groups of people, from DIR/fairness.json, and on fine-tuning for each person."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from orchestrator.fairness.results import read_fairness, verdicts
from orchestrator.report.parts import Figure, Section, Table
from orchestrator.report.plots import fairness as fairness_plots
from orchestrator.report.view import RunView
from orchestrator.units import percent_text, points_text


def fairness(run: RunView) -> Section:
    """Recall by group and who took part, or how to get them."""
    title, figures = "Whom does it serve well, and whom badly?", read_fairness(run.path)
    if figures is None:
        return Section(title, (f"Not measured yet: run `fedkeys fairness --run {shlex.quote(str(run.path))}`.",))
    return Section(
        title,
        tuple(_texts(figures)),
        tuple(_pictures(figures)),
        tuple(_recall_table(name, attribute) for name, attribute in figures["attributes"].items()),
        tuple(f"Not measured: {name}: {reason}." for name, reason in figures["not_measured"].items()),
    )


def _texts(figures: Mapping[str, Any]) -> Iterator[str]:
    own = figures["per_client"]
    yield (
        f"After round {figures['round_num']:,}, on {figures['clients']} people, by sums over them alone "
        f"({figures['aggregator']}); a group of fewer than {figures['min_group_size']} never shows."
    )
    if own["clients"]:
        yield (
            f"Top-1 recall of a person: {percent_text(own['mean'])} on average, "
            f"{percent_text(own['worst_tenth_mean'])} for the worst tenth; standard deviation {100 * own['std']:.2f} "
            f"points; Jain's index of fairness {own['jain']:.3f} (1: the same for everybody)."
        )
    for name, text in verdicts(figures):
        yield f"By {name}: {text}"
    for name, attribute in figures["participation"].items():
        if attribute["four_fifths"] is False:
            yield (
                f"By {name}, the least heard group had {attribute['ratio']:.2f} times the updates per person of the "
                "most heard: below four fifths, so the model is more of some than of others."
            )


def _pictures(figures: Mapping[str, Any]) -> Iterator[Figure]:
    recall = [
        (name, group, row["top1"], row["per_client"]["mean"])
        for name, attribute in figures["attributes"].items()
        for group, row in attribute["groups"].items()
    ]
    if recall:
        caption = "Top-1 recall by group. " + "; ".join(_abouts(figures)) + "."
        yield Figure(fairness_plots.group_dots(recall, figures["top1"]), caption)
    heard = [
        (name, group, row["share_of_clients"], row["share_of_summed"] or 0.0)
        for name, attribute in figures["participation"].items()
        for group, row in attribute["groups"].items()
    ]
    if heard:
        caption = "Who is there among the training people, and whose updates counted."
        yield Figure(fairness_plots.participation_bars(heard), caption)


def _abouts(figures: Mapping[str, Any]) -> Iterator[str]:
    for name, attribute in figures["attributes"].items():
        yield f"{name}: {attribute['about']}"


def _recall_table(name: str, attribute: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            group,
            f"{row['clients']:,}",
            f"{row['positions']:,}",
            percent_text(row["top1"]),
            percent_text(row["top3"]),
            percent_text(row["oov_rate"]),
            percent_text(row["per_client"]["mean"]),
            percent_text(row["per_client"]["worst_tenth_mean"]),
        )
        for group, row in attribute["groups"].items()
    )
    columns = (name, "people", "words", "top-1", "top-3", "unknown words", "mean over people", "worst tenth")
    return Table(columns, rows, f"By {name}: {attribute['about']}", folded=True)


def personal(run: RunView) -> Optional[Section]:
    """What fine-tuning gives each person."""
    found = None if run.evaluation is None else run.evaluation.fine_tuning
    if found is None or not found.per_person_gain:
        return None
    text = (
        f"Trained further on the earlier {found.history_share:.0%} of each of {found.clients} people's text, on their "
        f"own device, top-1 recall on the rest goes from {found.before.top1:.2%} to {found.after.top1:.2%}"
        f" ({points_text(found.top1_gain)} points; 95% over people: {_points(found.top1_gain_interval)}"
        f"{_others(found.top1_gain_of_others)}); better for {found.share_better:.0%} of them, worse for "
        f"{found.share_worse:.0%}. How was chosen on other people: {found.setting}."
    )
    picture = Figure(
        fairness_plots.gain_bars(found.per_person_gain), "What each person gains or loses, in points of top-1 recall."
    )
    return Section("Does it get better for one person?", (text,), (picture,))


def _others(gain: Optional[float]) -> str:
    return "" if gain is None else f"; without the one who gains most {points_text(gain)}"


def _points(interval: Optional[tuple[float, float]]) -> str:
    return "" if interval is None else f"{points_text(interval[0])} to {points_text(interval[1])}"
