"""Sums by group through an Aggregator: first the size of each group, then the figures of the groups that are shown.

A client hands over one vector of counts, which is zero outside its own groups. There are two sums because what must not
show must not be summed: nobody fills a slot of the second sum for a group that the first sum found too small.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId
from orchestrator.aggregator import Aggregator, Cohort
from orchestrator.errors import BelowThreshold
from orchestrator.fairness.attributes import Feature, Labels, thirds
from orchestrator.settings.sections import AggregationConfig

Counts = NDArray[np.int64]
_MODULUS = 2**32
_MOST_DROP_OUT = 0.1  # of the people of an evaluation, whatever a round of training must stand
_ALL_UNIONS = 10  # groups of which all unions are compared: 1023


@dataclass(frozen=True)
class ShownGroups:
    """The groups of an attribute that are shown, by index. The others are empty, or large enough together to hide."""

    labels: Labels
    shown: tuple[int, ...]
    hidden_groups: int
    hidden_clients: int

    @property
    def names(self) -> list[str]:
        """The shown groups' names, in order."""
        return [self.labels.groups[i] for i in self.shown]


@dataclass(frozen=True)
class Secure:
    """Sums by the run's aggregator, and never over fewer people than min_clients."""

    aggregator: Aggregator
    min_clients: int

    def total(self, vectors: Mapping[ClientId, Counts], step: int) -> Counts:
        """Returns the sum of the people's vectors, int64 [n]; no entry is below zero.

        Args:
          vectors: int64 [n] each, entries at most (2**32 - 1) / people so that no total wraps.
          step: tells the sums of one evaluation apart.

        Raises:
          BelowThreshold: fewer than min_clients people.
          ValueError: an entry is out of range.
        """
        if len(vectors) < self.min_clients:
            raise BelowThreshold(
                f"only {len(vectors)} people can be counted, and at least {self.min_clients} are needed to show a "
                "figure: score more people"
            )
        limit = (_MODULUS - 1) // len(vectors)
        for person, vector in vectors.items():
            if vector.min(initial=0) < 0 or vector.max(initial=0) > limit:
                raise ValueError(f"entries must lie in 0..{limit}, got {vector.min()}..{vector.max()} of {person!r}")
        cohort = Cohort(step, tuple(vectors), self.min_clients)
        encoded = ((person, vector.astype(np.uint32)) for person, vector in vectors.items())
        return self.aggregator.sum(encoded, cohort, {}).total.astype(np.int64)


def few_drop_out(aggregation: AggregationConfig) -> AggregationConfig:
    """Returns the settings of a sum whose people train nothing meanwhile: at most a tenth of them vanish.

    The work of secure aggregation grows with the neighbours that drop-outs ask for: 78 of 1,053 people, not 314. Who
    may be corrupt does not change, nor the sum.
    """
    return msgspec.structs.replace(aggregation, dropout_share=min(aggregation.dropout_share, _MOST_DROP_OUT))


def cut_features(features: Sequence[Feature], counted: Collection[ClientId], secure: Secure, step: int) -> list[Labels]:
    """Cuts each feature into thirds of the counted people, by one sum of everybody's one-hot bins.

    Raises:
      BelowThreshold: fewer people than the sum takes.
    """
    if not features:
        return []
    vectors = {}
    for person in counted:
        bins = [np.zeros(feature.num_bins, np.int64) for feature in features]
        for one_hot, feature in zip(bins, features):
            one_hot[feature.bin_of[person]] = 1
        vectors[person] = np.concatenate(bins)
    total = secure.total(vectors, step)
    ends = np.cumsum([feature.num_bins for feature in features])
    return [thirds(feature, part) for feature, part in zip(features, np.split(total, ends[:-1]))]


def choose_groups(
    attributes: Sequence[Labels], people: Collection[ClientId], counted: Collection[ClientId], secure: Secure, step: int
) -> list[ShownGroups]:
    """Chooses which groups are shown: those with min_clients counted people, less what a subtraction would give away.

    Two attributes whose groups, put together in any way, differ by fewer than min_clients people would give away the
    figures of these few: then none of the later attribute's groups are shown. A second sum, of how many people are in
    each pair of groups, tells.

    Args:
      attributes: everybody's groups.
      people: all whose words are summed.
      counted: those of them who count towards a group's size.
    """
    sizes = [len(labels.groups) for labels in attributes]
    starts = np.cumsum([0, *sizes])
    counted = set(counted)

    def vector(person: ClientId) -> Counts:
        own = np.zeros((starts[-1], 2), np.int64)
        for start, labels in zip(starts, attributes):
            if person in labels.group_of:
                own[start + labels.group_of[person]] = 1, person in counted
        return own.ravel()

    total = secure.total({person: vector(person) for person in people}, step).reshape(-1, 2)
    chosen = [
        _shown(labels, total[start : start + size], len(people) - int(total[start : start + size, 0].sum()), secure)
        for start, size, labels in zip(starts, sizes, attributes)
    ]
    return _without_near_twins(chosen, people, secure, step)


def _without_near_twins(
    chosen: Sequence[ShownGroups], people: Collection[ClientId], secure: Secure, step: int
) -> list[ShownGroups]:
    """Hides each attribute that differs from an earlier one, which is shown, by few people."""
    pairs = [(i, j) for j in range(len(chosen)) for i in range(j) if chosen[i].shown and chosen[j].shown]
    if not pairs:
        return list(chosen)

    def vector(person: ClientId) -> Counts:
        tables = []
        for i, j in pairs:
            table = np.zeros((len(chosen[i].shown) + 1, len(chosen[j].shown) + 1), np.int64)
            table[_block_of(chosen[i], person), _block_of(chosen[j], person)] = 1
            tables.append(table.ravel())
        return np.concatenate(tables)

    shapes = [(len(chosen[i].shown) + 1, len(chosen[j].shown) + 1) for i, j in pairs]
    total = secure.total({person: vector(person) for person in people}, step)
    tables = np.split(total, np.cumsum([rows * columns for rows, columns in shapes])[:-1])
    result = list(chosen)
    for (i, j), shape, table in zip(pairs, shapes, tables):
        if result[i].shown and result[j].shown and 0 < least_difference(table.reshape(shape)) < secure.min_clients:
            groups = result[j]
            num_groups = groups.hidden_groups + len(groups.shown)
            result[j] = ShownGroups(groups.labels, (), num_groups, len(people))
    return result


def _block_of(groups: ShownGroups, person: ClientId) -> int:
    """The place of a person's group among those that are shown; one past them for everybody else."""
    group = groups.labels.group_of.get(person)
    return groups.shown.index(group) if group in groups.shown else len(groups.shown)


def least_difference(table: Counts) -> int:
    """Returns by how few people, but not by none, groups of two attributes put together differ; 0 if by none ever.

    Args:
      table: how many people are in each group of the one (rows) and of the other (columns). Of the attribute with fewer
        groups all unions are tried up to 10 groups, above that all of one or two.

    >>> least_difference(np.array([[20, 0], [1, 30]]))  # the second groups differ by one person
    1
    """
    table = table if table.shape[0] <= table.shape[1] else table.T
    num_rows, columns = table.shape[0], table.sum(axis=0)
    largest = num_rows if num_rows <= _ALL_UNIONS else 2
    found = []
    for size in range(1, largest + 1):
        for rows in itertools.combinations(range(num_rows), size):
            inside = table[list(rows)].sum(axis=0)
            found.append(int(np.minimum(inside, columns - inside).sum()))
    return min((difference for difference in found if difference), default=0)


def _shown(labels: Labels, sizes: Counts, in_no_group: int, secure: Secure) -> ShownGroups:
    """sizes: [num_groups, 2], all people and counted ones; in_no_group: people without a label."""
    kept = groups_to_show(sizes, in_no_group, secure.min_clients)
    hidden = [i for i in range(len(sizes)) if i not in kept and sizes[i, 0]]
    return ShownGroups(labels, kept, len(hidden), int(sizes[hidden, 0].sum()) + in_no_group)


def groups_to_show(sizes: Counts, in_no_group: int, min_clients: int) -> tuple[int, ...]:
    """Returns the indices of the groups that may be shown beside the total over everybody.

    A group with fewer than min_clients counted people is hidden. Whoever subtracts the shown groups from the total
    learns the sum of the hidden ones. So these must be empty, or have min_clients counted people together; until then,
    the smallest shown group is hidden, too.

    Source: complementary suppression of cells: Willenborg & de Waal 2001, "Elements of Statistical Disclosure Control".

    >>> groups_to_show(np.array([[40, 40], [12, 12], [3, 3]]), 0, min_clients=10)
    (0,)
    >>> groups_to_show(np.array([[40, 40], [12, 12], [6, 6], [5, 5]]), 0, min_clients=10)
    (0, 1)
    """
    shown = [i for i in range(len(sizes)) if sizes[i, 1] >= min_clients]
    while shown:
        hidden = [i for i in range(len(sizes)) if i not in shown]
        everybody = int(sizes[hidden, 0].sum()) + in_no_group
        if everybody == 0 or int(sizes[hidden, 1].sum()) >= min_clients:
            break
        shown.remove(min(shown, key=lambda i: (sizes[i, 1], i)))
    return tuple(shown)


def sums_by_group(
    chosen: Sequence[ShownGroups],
    values: Mapping[ClientId, Counts],
    secure: Secure,
    step: int,
) -> tuple[Counts, list[Counts]]:
    """Returns the sum over everybody [m], and for each attribute the sums of its shown groups [num_shown, m].

    Args:
      chosen: from choose_groups.
      values: int64 [m] of each person.
      secure: how to sum.
      step: see Secure.total.
    """
    width = len(next(iter(values.values())))
    starts = np.cumsum([1, *(len(groups.shown) for groups in chosen)])

    def vector(own: Counts, person: ClientId) -> Counts:
        rows = np.zeros((starts[-1], width), np.int64)
        rows[0] = own
        for start, groups in zip(starts, chosen):
            group = groups.labels.group_of.get(person)
            if group in groups.shown:
                rows[start + groups.shown.index(group)] = own
        return rows.ravel()

    total = secure.total({person: vector(own, person) for person, own in values.items()}, step).reshape(-1, width)
    return total[0], [total[start : start + len(groups.shown)] for start, groups in zip(starts, chosen)]
