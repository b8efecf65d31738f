"""The colours of all pages and pictures, each with one meaning; nothing else names a colour of data."""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """A colour on light and on dark ground, as #rrggbb."""

    light: str
    dark: str


PALETTE = {
    "model": Colour("#1d5bd0", "#6ea4ff"),  # the federated model
    "model-soft": Colour("#86abf0", "#47699f"),  # its second figure: among three, or in training
    "baseline": Colour("#c9691c", "#f0a35e"),  # n-gram models and guesses that it is compared with
    "baseline-soft": Colour("#e5b184", "#a06f3f"),
    "mixture": Colour("#0d7f6c", "#2fa892"),  # the model mixed with a baseline
    "groups": Colour("#7353bd", "#b59be6"),  # groups of people
    "groups-soft": Colour("#c5b7e8", "#6b5a96"),
    "server": Colour("#b92d58", "#f08fb0"),  # what a curious server can read
    "server-soft": Colour("#eba6bc", "#99506a"),
    # Parts of a whole and what else has no side: greys and browns.
    "part0": Colour("#3f4a5a", "#c9d1dc"),
    "part1": Colour("#98a2b0", "#6d7785"),
    "part2": Colour("#6d6152", "#cdbfa9"),
    "part3": Colour("#c3cad3", "#4a535f"),
    "part4": Colour("#9c8f7c", "#94866f"),
    "part5": Colour("#667183", "#9aa6b6"),
    "part6": Colour("#d3c9b9", "#5d5344"),
    "part7": Colour("#4c5d55", "#a9c0b5"),
    "part8": Colour("#8ea198", "#6c8077"),
    "part9": Colour("#e1e5ea", "#343c46"),
}
MEANINGS = (
    "Colours: blue is the federated model, orange what it is compared with, green their mixture, purple groups of "
    "people, red what a curious server can read."
)


def css_variables(dark: bool) -> str:
    """Returns the palette as CSS variables."""
    return " ".join(f"--{name}: {colour.dark if dark else colour.light};" for name, colour in PALETTE.items())
