"""The parts that a report's page is made of."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Card:
    """A headline figure."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture and what it says."""

    svg: Markup
    caption: str
    wide: bool = False  # a row of its own, beside other figures


@dataclass(frozen=True)
class Table:
    """Rows of texts; columns but the first are set to the right, unless `texts`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False  # shown as its caption until it is opened
    texts: bool = False  # all columns hold words, not figures


@dataclass(frozen=True)
class Section:
    """A part of the page. Texts are plain; `words in back-quotes` are set as code.

    key: its anchor, if it has one.
    holds_words: it shows words that a person typed.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    points: tuple[str, ...] = ()  # a bulleted list
    key: str = ""
    holds_words: bool = False
