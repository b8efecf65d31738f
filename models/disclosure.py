"""What pages, cards and tables may show of people: no figure of a few of them, and no typed word without a switch."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

_Member = TypeVar("_Member")

MIN_GROUP = 10  # people; a figure of fewer is not shown
MASKED = "•••"  # in the place of a word that somebody typed


def size_of_worst_tenth(num_people: int) -> int:
    """Returns how many people the worst tenth of so many holds, rounded up; 0 if they are fewer than MIN_GROUP.

    >>> size_of_worst_tenth(90), size_of_worst_tenth(91)
    (0, 10)
    """
    size = -(-num_people // 10)
    return size if size >= MIN_GROUP else 0


def ordered_group_means(values: Sequence[float], most: int = 10) -> list[float]:
    """Returns the means of groups of people, lowest first: `most` groups, or as many as have MIN_GROUP people each.

    >>> ordered_group_means([*range(20, 30), *range(10)])
    [4.5, 24.5]
    """
    ordered, groups = sorted(values), min(most, len(values) // MIN_GROUP)
    edges = [len(ordered) * i // groups for i in range(groups + 1)] if groups else []
    return [statistics.fmean(ordered[start:end]) for start, end in zip(edges, edges[1:])]


def join_small_groups(groups: Mapping[str, Sequence[_Member]]) -> dict[str, Sequence[_Member]]:
    """Returns the groups by name, those of fewer than MIN_GROUP people put together as the last, with names joined.

    Where all the small ones together are too few, the next smallest group joins them: what all others have could be
    subtracted from the whole.

    >>> join_small_groups({"a": range(20), "b": range(12), "c": range(4)})
    {'a': range(0, 20), 'b, c': (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3)}
    """
    by_size = sorted(groups, key=lambda name: len(groups[name]))
    num_joined = sum(len(own) < MIN_GROUP for own in groups.values())
    if num_joined:
        while num_joined < len(by_size) and sum(len(groups[name]) for name in by_size[:num_joined]) < MIN_GROUP:
            num_joined += 1
        num_joined = max(num_joined, min(2, len(by_size)))
    joined = sorted(by_size[:num_joined])
    shown: dict[str, Sequence[_Member]] = {name: groups[name] for name in sorted(groups) if name not in joined}
    if joined:
        shown[", ".join(joined)] = tuple(member for name in joined for member in groups[name])
    return shown
