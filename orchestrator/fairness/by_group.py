"""From what each client knows to figures by group: recall, and who took part. Nothing here is read but secure sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.corpus import ClientId
from models.metrics import ClientSums
from orchestrator.fairness import figures, group_sums
from orchestrator.fairness.attributes import Feature, Labels
from orchestrator.fairness.group_sums import Counts, Secure

FOUR_FIFTHS = 0.8


class PartTaken(NamedTuple):
    """One training person's part in a run."""

    able: bool  # has enough text to train
    selected: int  # rounds
    summed: int  # rounds in which the update arrived and counted


def recall_figures(
    people: Sequence[ClientId],
    sums: ClientSums,
    features: Sequence[Feature],
    given: Sequence[Labels],
    secure: Secure,
    seed: int,
) -> tuple[dict[str, Any], list[Labels]]:
    """(figures over everybody and by group, the features cut into thirds).

    Args:
      people: who was scored.
      sums: of each of them, in the same order; whoever has no position takes no part.
      features: what to cut into thirds.
      given: attributes with named groups.
      secure: how to sum.
      seed: of the permutations.

    Raises:
      BelowThreshold: fewer people than the smallest group that may show.
    """
    values = {p: own for p, own in zip(people, figures.client_values(sums)) if own[0]}
    counted = [p for p, positions in zip(people, sums.positions) if positions >= figures.MIN_POSITIONS]
    cut = group_sums.cut_features(features, counted, secure, step=1)
    chosen = group_sums.choose_groups([*given, *cut], list(values), counted, secure, step=2)
    total, by_attribute = group_sums.sums_by_group(chosen, values, secure, step=3)
    by_group = {}
    for groups, totals in zip(chosen, by_attribute):
        by_group[groups.labels.name] = {
            "about": groups.labels.about,
            "groups": {name: figures.pooled_figures(own) for name, own in zip(groups.names, totals)},
            "hidden_groups": groups.hidden_groups,
            "hidden_clients": groups.hidden_clients,
            **figures.compare_groups(groups.names, totals, seed),
        }
    histogram = figures.recall_histogram(total)
    return {**figures.pooled_figures(total), "recall_histogram": histogram, "attributes": by_group}, cut


def participation_figures(
    parts: Mapping[ClientId, PartTaken], labels: Sequence[Labels], secure: Secure
) -> dict[str, Any]:
    """{attribute: who took part, by group}.

    Raises:
      BelowThreshold: fewer people than the smallest group that may show.
    """
    values = {person: np.array([1, *part], np.int64) for person, part in parts.items()}
    chosen = group_sums.choose_groups(labels, list(values), list(values), secure, step=4)
    total, by_attribute = group_sums.sums_by_group(chosen, values, secure, step=5)
    return {
        groups.labels.name: {
            "groups": {name: _part_of_group(own, total) for name, own in zip(groups.names, totals)},
            "hidden_groups": groups.hidden_groups,
            "hidden_clients": groups.hidden_clients,
            **_parity(groups.names, totals),
        }
        for groups, totals in zip(chosen, by_attribute)
    }


def _part_of_group(own: Counts, total: Counts) -> dict[str, Any]:
    clients, able, selected, summed = map(int, own)
    return {
        "clients": clients,
        "able": able,
        "selected": selected,
        "summed": summed,
        "share_of_clients": clients / int(total[0]),
        "share_of_summed": summed / int(total[3]) if total[3] else None,
    }


def _parity(names: Sequence[str], totals: Counts) -> dict[str, Any]:
    """Updates summed per person, the least heard group over the most heard, and whether that keeps the 4/5 rule."""
    heard = [(int(own[3]), int(own[0])) for own in totals]
    if len(heard) < 2 or not any(summed for summed, _ in heard):
        return {"ratio": None, "four_fifths": None}
    # Shares of the most times that anybody could have been summed: fairlearn takes shares, and the ratio is the same.
    most = max(summed for summed, _ in heard)
    ratio = figures.gap_and_ratio({name: (s, n * most) for name, (s, n) in zip(names, heard)})["ratio"]
    return {"ratio": ratio, "four_fifths": ratio is not None and ratio >= FOUR_FIFTHS}
