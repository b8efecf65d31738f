"""Groups people by their words, their device, or a file. Each client knows its own label.

A `Feature` is a number that the client works out from its own text and rounds to a bin. Its groups are thirds, cut
where a secure histogram says. `Labels` have named groups from the start.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.corpus import ClientId, ClientText
from models.vocabulary import NUM_SPECIAL, UNK, Vocabulary
from orchestrator.errors import FairnessError

NOT_GIVEN = "not given"
COMMON_WORDS = 1000  # this many of the vocabulary's first words are the crowd's
_MAX_GROUPS = 40  # an attribute with more values than this nearly names people
_BINS_AN_OCTAVE = 4
_DEVICE_COLUMNS = {"tier": "device tier", "access": "network", "time_zone": "time zone"}


@dataclass(frozen=True)
class Labels:
    """An attribute with named groups. group_of holds the index in `groups` of everybody who has a group."""

    name: str
    about: str
    groups: tuple[str, ...]
    group_of: Mapping[ClientId, int]

    def says_something(self, people: Iterable[ClientId]) -> bool:
        """Returns whether a group is given for any of these people."""
        return any(self.groups[self.group_of[person]] != NOT_GIVEN for person in people)


@dataclass(frozen=True)
class Feature:
    """An attribute with a scale. bin_of holds each person's bin, 0..num_bins - 1."""

    name: str
    about: str
    num_bins: int
    bin_of: Mapping[ClientId, int]
    edge_text: Callable[[int], str]  # a bin's lower edge, as people read it


def activity(people: Mapping[ClientId, ClientText]) -> Feature:
    """Returns how many words each person has typed, in quarter octaves."""

    def bin_of(text: ClientText) -> int:
        words = sum(len(sentence.split()) for sentence in text.sentences)
        return int(_BINS_AN_OCTAVE * math.log2(max(1, words)))

    return Feature(
        "activity",
        "how many words a person has typed, in thirds",
        _BINS_AN_OCTAVE * 32,
        {person: bin_of(text) for person, text in people.items()},
        lambda i: f"{math.ceil(2 ** (i / _BINS_AN_OCTAVE)):,}",
    )


def vocabulary_distance(people: Mapping[ClientId, ClientText], vocabulary: Vocabulary) -> Feature:
    """Returns the share of each person's words outside the public list's first COMMON_WORDS, in bins of half a percent.

    A client needs only its own text and the list, which every client has.
    """

    def bin_of(text: ClientText) -> int:
        ids = np.concatenate([vocabulary.encode(sentence) for sentence in text.sentences])
        rare = np.count_nonzero((ids >= NUM_SPECIAL + COMMON_WORDS) | (ids == UNK))
        return int(200 * rare / max(1, len(ids)))

    return Feature(
        "vocabulary",
        f"share of a person's words outside the {COMMON_WORDS:,} most frequent, in thirds",
        201,
        {person: bin_of(text) for person, text in people.items()},
        lambda i: f"{i / 2:g}%",
    )


def thirds(feature: Feature, histogram: NDArray[np.int64]) -> Labels:
    """Cuts a feature into three groups, as equal as its bins allow; fewer groups where too many people share a bin.

    >>> feature = Feature("x", "", 4, {ClientId("a"): 0, ClientId("b"): 2, ClientId("c"): 3}, str)
    >>> labels = thirds(feature, np.array([1, 0, 1, 1]))
    >>> labels.groups, [labels.group_of[ClientId(person)] for person in "abc"]
    (('below 2', '2 to 3', '3 or more'), [0, 1, 2])
    """
    below = np.concatenate([[0], np.cumsum(histogram)])  # people below each bin's lower edge
    cuts = sorted({int(np.argmin(np.abs(below - share * below[-1]))) for share in (1 / 3, 2 / 3)})
    # A cut anywhere in a gap of empty bins makes the same groups: the upper end of the gap is the edge that people see.
    cuts = sorted({max(i for i in range(len(below)) if below[i] == below[cut]) for cut in cuts})
    cuts = [cut for cut in cuts if 0 < below[cut] < below[-1]]
    edges = [feature.edge_text(cut) for cut in cuts]
    if not cuts:
        groups: tuple[str, ...] = ("everybody",)
    else:
        middle = (f"{low} to {high}" for low, high in zip(edges, edges[1:]))
        groups = (f"below {edges[0]}", *middle, f"{edges[-1]} or more")
    place = np.searchsorted(cuts, np.arange(feature.num_bins), side="right")
    group_of = {person: int(place[own]) for person, own in feature.bin_of.items()}
    return Labels(feature.name, feature.about, groups, group_of)


def read_devices(path: Path, people: Collection[ClientId]) -> list[Labels]:
    """Reads device tier, network and time zone from a fleet run's fleet_devices.json.

    Raises:
      FairnessError: the file is damaged.
    """
    try:
        devices = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, object]])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FairnessError(f"{path} is damaged ({error}): restore it, or train the fleet run anew") from None
    rows = _as_text(devices)
    return [
        build_labels(column, f"{label}, as the fleet drew it", label, rows, people)
        for column, label in _DEVICE_COLUMNS.items()
        if any(column in row for row in rows.values())
    ]


def read_groups(path: Path, known: Collection[ClientId], people: Collection[ClientId]) -> list[Labels]:
    """Reads groups from a file: CSV with client_id and a column per attribute, or JSON {client: {attribute: group}}.

    Args:
      path: the file.
      known: everybody in the text.
      people: those to label; people who are not in the file are in the group NOT_GIVEN.

    Raises:
      FairnessError: the file can't be read, names someone unknown, or has a column with too many values.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FairnessError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FairnessError(f"{path}: is not UTF-8: save it as UTF-8") from None
    rows = _json_rows(path, content) if path.suffix.lower() == ".json" else _csv_rows(path, content)
    strangers = sorted(set(rows) - set(known))
    if strangers:
        raise FairnessError(
            f"{path}: names {len(strangers)} clients that the run's text has not, the first {strangers[0]!r}: "
            "take them out or correct them"
        )
    columns = sorted({column for row in rows.values() for column in row})
    if not columns:
        raise FairnessError(f"{path}: has no groups: add a column beside client_id")
    return [build_labels(column, f"{column}, from {path.name}", column, rows, people) for column in columns]


def _json_rows(path: Path, content: str) -> dict[ClientId, dict[str, str]]:
    try:
        rows = msgspec.json.decode(content, type=dict[str, dict[str, object]])
    except msgspec.MsgspecError as error:
        raise FairnessError(f'{path}: {error}: write {{"client": {{"attribute": "group"}}}}') from None
    return _as_text(rows)


def _as_text(rows: Mapping[str, Mapping[str, object]]) -> dict[ClientId, dict[str, str]]:
    return {
        ClientId(name): {key: "" if value is None else str(value) for key, value in row.items()}
        for name, row in rows.items()
    }


def _csv_rows(path: Path, content: str) -> dict[ClientId, dict[str, str]]:
    reader = csv.DictReader(io.StringIO(content))
    if "client_id" not in (reader.fieldnames or ()):
        raise FairnessError(f"{path}, line 1: must name the columns, one of them client_id")
    rows: dict[ClientId, dict[str, str]] = {}
    for row in reader:
        name = ClientId(row.pop("client_id") or "")
        if name in rows:
            raise FairnessError(f"{path}, line {reader.line_num}: {name!r} is there twice: leave one")
        if None in row or None in row.values():
            raise FairnessError(f"{path}, line {reader.line_num}: must have as many columns as line 1")
        rows[name] = row
    return rows


def build_labels(
    column: str,
    about: str,
    name: str,
    rows: Mapping[ClientId, Mapping[str, str]],
    people: Collection[ClientId],
) -> Labels:
    """Builds the attribute of one column.

    Raises:
      FairnessError: the column has more than 40 values.
    """
    of_person = {person: rows.get(person, {}).get(column) or NOT_GIVEN for person in people}
    groups = _ordered(set(of_person.values()))
    if len(groups) > _MAX_GROUPS:
        raise FairnessError(f"{name} has {len(groups)} values, at most {_MAX_GROUPS} are groups: put them together")
    index = {group: i for i, group in enumerate(groups)}
    return Labels(name, about, groups, {person: index[group] for person, group in of_person.items()})


def _ordered(groups: Collection[str]) -> tuple[str, ...]:
    """By the alphabet, numbers by size, NOT_GIVEN last."""

    def key(group: str) -> tuple[bool, float, str]:
        try:
            return group == NOT_GIVEN, float(group), ""
        except ValueError:
            return group == NOT_GIVEN, math.inf, group

    return tuple(sorted(groups, key=key))
