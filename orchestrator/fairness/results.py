"""What `fedkeys fairness` finds, as DIR/fairness.json holds it, and what its figures say in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import msgspec

from orchestrator.run.results import read_figures, write_figures
from orchestrator.units import count_text

FILE_NAME = "fairness.json"


class PerClient(msgspec.Struct, frozen=True):
    """Top-1 recall over the people who typed enough words for a recall of their own; None where they are too few."""

    clients: int
    mean: Optional[float]
    std: Optional[float]
    worst_tenth_mean: Optional[float]
    jain: Optional[float]  # Jain's index of fairness: 1 if everybody has the same recall


class Recall(msgspec.Struct, frozen=True):
    """The recall of a group of people, or of everybody; None where nobody typed a word."""

    clients: int
    positions: int  # words of the vocabulary that they typed
    top1: Optional[float]
    top3: Optional[float]
    oov_rate: Optional[float]
    per_client: PerClient


class RecallByGroup(msgspec.Struct, frozen=True):
    """Recall by the groups of one attribute, and how far they lie apart; None where fewer than two groups are shown."""

    about: str
    groups: Mapping[str, Recall]  # those that are shown
    hidden_groups: int
    hidden_clients: int
    gap: Optional[float]  # of pooled top-1 recall: the largest minus the smallest
    ratio: Optional[float]  # the smallest over the largest
    client_mean_gap: Optional[float]  # of the mean recall of a person
    p_value: Optional[float]  # that shuffled groups have a client_mean_gap as large
    permutations: int


class Part(msgspec.Struct, frozen=True):
    """The part that a group of training people took in a run."""

    clients: int
    able: int  # people with enough text to train
    selected: int  # times, over all rounds
    summed: int  # updates that arrived and counted
    share_of_clients: float
    share_of_summed: Optional[float]  # None if no update was summed


class PartByGroup(msgspec.Struct, frozen=True):
    """Who took part, by the groups of one attribute; None where there is nothing to compare."""

    groups: Mapping[str, Part]  # those that are shown
    hidden_groups: int
    hidden_clients: int
    ratio: Optional[float]  # updates a person: the least heard group over the most heard
    four_fifths: Optional[bool]  # whether the ratio keeps the four-fifths rule


class FairnessResult(msgspec.Struct, frozen=True):
    """DIR/fairness.json; see docs/fairness.md."""

    round_num: int
    weights_sha256: str
    people: str  # "test", "dev" or "train"
    aggregator: str
    min_group_size: int
    min_positions: int
    clients: int  # of everybody, as the following figures are; see Recall
    positions: int
    top1: Optional[float]
    top3: Optional[float]
    oov_rate: Optional[float]
    per_client: PerClient
    recall_histogram: tuple[int, ...]  # people by their top-1 recall, in bins of one point
    attributes: Mapping[str, RecallByGroup]
    participation: Mapping[str, PartByGroup]
    not_measured: Mapping[str, str]  # {attribute: why}


def write_fairness(folder: Path, result: FairnessResult) -> None:
    """Writes DIR/fairness.json, for its owner only: a bin of the histogram may hold one person."""
    write_figures(folder / FILE_NAME, result, private=True)


def read_fairness(folder: Path) -> Optional[FairnessResult]:
    """Returns the figures of `fedkeys fairness` in a run's folder, None if there are none.

    Raises:
      RunFolderError: the file is damaged.
    """
    return read_figures(folder / FILE_NAME, FairnessResult, "fairness")


def verdicts(result: FairnessResult) -> list[tuple[str, str]]:
    """Returns (attribute, what its gap and its test say) for each attribute."""
    return [(name, verdict(own, len(result.attributes))) for name, own in result.attributes.items()]


def verdict(attribute: RecallByGroup, num_attributes: int) -> str:
    """Returns what the gap and the test say, in a line.

    A p-value below 5 % over all attributes together (Bonferroni) counts as a difference.
    """
    hidden = (
        f" {count_text(attribute.hidden_groups, 'group')} not shown: too small, or a few people could be worked out."
        if attribute.hidden_groups
        else ""
    )
    if attribute.gap is None or attribute.client_mean_gap is None or attribute.p_value is None:
        return f"There is nothing to compare.{hidden}"
    limit = 0.05 / num_attributes
    chance = "more than chance" if attribute.p_value < limit else "no more than chance would give"
    takes = "" if attribute.p_value < limit else f" (a difference takes p < {limit:.2g})"
    return (
        f"Gap {100 * attribute.gap:.2f} points, ratio {attribute.ratio:.2f}; by person"
        f" {100 * attribute.client_mean_gap:.2f} points, p = {attribute.p_value:.4f}: {chance}{takes}.{hidden}"
    )
