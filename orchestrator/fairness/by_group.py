"""Measures recall and participation by group. Nothing is read but secure sums of what each client knows itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from models.corpus import ClientId
from models.metrics import ClientSums
from orchestrator.fairness import figures, group_sums
from orchestrator.fairness.attributes import Feature, Labels
from orchestrator.fairness.group_sums import Counts, Secure, ShownGroups
from orchestrator.fairness.results import Part, PartByGroup, Recall, RecallByGroup

FOUR_FIFTHS = 0.8


class PartTaken(NamedTuple):
    """One training person's part in a run."""

    able: bool  # has enough text to train
    selected: int  # rounds
    summed: int  # rounds in which the update arrived and counted


@dataclass(frozen=True)
class MeasuredRecall:
    """Recall over everybody and by group.

    Attributes:
      everybody: pooled over all who were scored.
      histogram: how many people have a top-1 recall in each of figures.BINS bins.
      by_attribute: {attribute: recall by its groups}.
      thirds: the features cut into groups, which participation can be looked at by, too.
    """

    everybody: Recall
    histogram: tuple[int, ...]
    by_attribute: Mapping[str, RecallByGroup]
    thirds: Sequence[Labels]


def measure_recall(
    people: Sequence[ClientId],
    sums: ClientSums,
    features: Sequence[Feature],
    given: Sequence[Labels],
    secure: Secure,
    seed: int,
) -> MeasuredRecall:
    """Sums recall by group through the run's secure sum.

    Args:
      people: who was scored.
      sums: of each of them, in the same order; people without a position take no part.
      features: what to cut into thirds.
      given: attributes with named groups.
      secure: how to sum.
      seed: of the permutations.

    Raises:
      BelowThreshold: there are fewer people than the smallest group that may show.
    """
    values = {p: own for p, own in zip(people, figures.client_values(sums)) if own[0]}
    counted = [p for p, positions in zip(people, sums.positions) if positions >= figures.MIN_POSITIONS]
    cut = group_sums.cut_features(features, counted, secure, step=1)
    chosen = group_sums.choose_groups([*given, *cut], list(values), counted, secure, step=2)
    total, by_attribute = group_sums.sums_by_group(chosen, values, secure, step=3)
    return MeasuredRecall(
        everybody=figures.pooled_recall(total),
        histogram=figures.recall_histogram(total),
        by_attribute={
            groups.labels.name: _recall_by_group(groups, totals, seed) for groups, totals in zip(chosen, by_attribute)
        },
        thirds=cut,
    )


def _recall_by_group(groups: ShownGroups, totals: Counts, seed: int) -> RecallByGroup:
    spread = figures.recall_spread(groups.names, totals)
    permuted = figures.permutation_test(figures.histograms_of(totals), seed)
    return RecallByGroup(
        about=groups.labels.about,
        groups={name: figures.pooled_recall(own) for name, own in zip(groups.names, totals)},
        hidden_groups=groups.hidden_groups,
        hidden_clients=groups.hidden_clients,
        gap=spread.gap,
        ratio=spread.ratio,
        client_mean_gap=permuted.gap,
        p_value=permuted.p_value,
        permutations=permuted.permutations,
    )


def measure_participation(
    parts: Mapping[ClientId, PartTaken], labels: Sequence[Labels], secure: Secure
) -> dict[str, PartByGroup]:
    """Sums who took part by group, and returns {attribute: the part of each of its groups}.

    Raises:
      BelowThreshold: there are fewer people than the smallest group that may show.
    """
    values = {person: np.array([1, *part], np.int64) for person, part in parts.items()}
    chosen = group_sums.choose_groups(labels, list(values), list(values), secure, step=4)
    total, by_attribute = group_sums.sums_by_group(chosen, values, secure, step=5)
    return {groups.labels.name: _part_by_group(groups, totals, total) for groups, totals in zip(chosen, by_attribute)}


def _part_by_group(groups: ShownGroups, totals: Counts, total: Counts) -> PartByGroup:
    ratio = participation_ratio({name: (int(own[3]), int(own[0])) for name, own in zip(groups.names, totals)})
    return PartByGroup(
        groups={name: _part_of_group(own, total) for name, own in zip(groups.names, totals)},
        hidden_groups=groups.hidden_groups,
        hidden_clients=groups.hidden_clients,
        ratio=ratio,
        four_fifths=None if ratio is None else ratio >= FOUR_FIFTHS,
    )


def _part_of_group(own: Counts, total: Counts) -> Part:
    clients, able, selected, summed = map(int, own)
    return Part(
        clients=clients,
        able=able,
        selected=selected,
        summed=summed,
        share_of_clients=clients / int(total[0]),
        share_of_summed=summed / int(total[3]) if total[3] else None,
    )


def participation_ratio(heard: Mapping[str, tuple[int, int]]) -> Optional[float]:
    """Returns the updates a person of the least heard group over those of the most heard.

    None if there are fewer than two groups, or if no update was summed.

    Args:
      heard: {group: (updates summed, people)}.

    >>> participation_ratio({"a": (30, 10), "b": (10, 20)}), participation_ratio({"a": (0, 1), "b": (0, 1)})
    (0.16666666666666666, None)
    """
    if len(heard) < 2 or not any(summed for summed, _ in heard.values()):
        return None
    # Shares of the most times that anybody could have been summed: fairlearn takes shares, and the ratio is the same.
    most = max(summed for summed, _ in heard.values())
    return figures.spread({name: (summed, people * most) for name, (summed, people) in heard.items()}).ratio
