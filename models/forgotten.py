"""People who were forgotten: out of the text, while everybody else keeps the place that they had.

Who trains, is dev or is test follows from everybody's place in the order of ids, and so does who is drawn for a round.
So a run that forgets somebody remembers the place, and how many people there were, but no name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.corpus import ClientId, Corpus, leave_out
from models.errors import CorpusError

_FORM = re.compile(r"((?:\d+|\(\d+\))(?: (?:\d+|\(\d+\)))*) of (\d+)")


@dataclass(frozen=True)
class Gap:
    """The place of a forgotten person.

    place: in the order of the ids of the whole text, from 0.
    trained: they could be drawn for a round.
    """

    place: int
    trained: bool

    @property
    def name(self) -> ClientId:
        """What stands in the person's place; nobody has this name."""
        return ClientId(f"forgotten/{self.place}")


@dataclass(frozen=True)
class Forgotten:
    """The places of forgotten people, in the order in which they were forgotten.

    gaps: one a person, at least one.
    num_people: of the text before anybody was forgotten.

    >>> Forgotten.parse("17 (4) of 30").gaps
    (Gap(place=17, trained=True), Gap(place=4, trained=False))
    """

    gaps: tuple[Gap, ...]
    num_people: int

    @staticmethod
    def parse(text: str) -> Forgotten:
        """Reads what str() writes: places, in brackets those of people who did not train, "of", how many there were.

        Raises:
          ValueError: it is of another form, a place is named twice, or it is none of the text.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError("must be places and the number of people, as in '17 (4) of 30'")
        words, num_people = match[1].split(), int(match[2])
        gaps = tuple(Gap(int(word.strip("()")), not word.startswith("(")) for word in words)
        places = {gap.place for gap in gaps}
        if len(places) < len(gaps) or max(places) >= num_people:
            raise ValueError(f"must be different places from 0 to {num_people - 1}")
        return Forgotten(gaps, num_people)

    def __str__(self) -> str:
        places = (str(gap.place) if gap.trained else f"({gap.place})" for gap in self.gaps)
        return f"{' '.join(places)} of {self.num_people}"


def forgotten_places(text: str) -> tuple[Gap, ...]:
    """The places of the people whom a run forgot, from its setting data.forgotten; none if that is empty.

    Raises: ValueError as Forgotten.parse.
    """
    return Forgotten.parse(text).gaps if text else ()


@dataclass(frozen=True)
class Remaining:
    """A text without the forgotten people.

    corpus: of those who are left.
    in_order: everybody's id in the order of ids; a gap's name stands for who is gone.
    drawn: names of the gaps whose people could be drawn for a round.
    """

    corpus: Corpus
    in_order: tuple[ClientId, ...]
    drawn: frozenset[ClientId]


def forget(corpus: Corpus, forgotten: Forgotten) -> Remaining:
    """Leaves the forgotten people out of a text that still holds them, or some of them, or none.

    Those who were forgotten first must be gone first: the text holds all people but the first few of `gaps`.

    Raises:
      CorpusError: the text has too few or too many people.
    """
    num_gone = forgotten.num_people - len(corpus.clients)
    if not 0 <= num_gone <= len(forgotten.gaps):
        raise CorpusError(
            f"the text has {len(corpus.clients)} people; it must have {forgotten.num_people}, less at most the "
            f"{len(forgotten.gaps)} who were forgotten: restore it"
        )
    in_order = sorted(corpus.clients)
    for gap in sorted(forgotten.gaps[:num_gone], key=lambda gap: gap.place):
        in_order.insert(gap.place, gap.name)
    still_there = forgotten.gaps[num_gone:]
    people = {in_order[gap.place] for gap in still_there}
    for gap in still_there:
        in_order[gap.place] = gap.name
    drawn = frozenset(gap.name for gap in forgotten.gaps if gap.trained)
    return Remaining(leave_out(corpus, people) if people else corpus, tuple(in_order), drawn)
